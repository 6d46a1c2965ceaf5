package column

import (
	"cmp"
	"database/sql/driver"
	"fmt"

	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// Field is the ent ValueScanner of an encrypted field of type
// [fieldcrypt.Secret]. It returns [ErrNotRegistered] until [Register] has bound
// it to a column. Fields in a schema package are never bound.
type Field struct{ *binding }

// ValueField is the ent ValueScanner of an encrypted field of type
// [fieldcrypt.Value].
type ValueField[T any] struct{ *binding }

// NewField returns the ValueScanner of a text field stored in size characters.
func NewField(name string, size int) Field {
	return Field{&binding{name: name, plaintext: fieldcrypt.StringType, size: size}}
}

// NewValueField returns the ValueScanner of a field of another type.
func NewValueField[T any](name string, size int) ValueField[T] {
	return ValueField[T]{&binding{name: name, plaintext: fieldcrypt.TypeName[T](), size: size}}
}

// binding holds a field's declaration, and its column once it is registered.
type binding struct {
	name, plaintext string
	size            int
	bound           *bound
}

// bound is a column and its opener. It is immutable.
type bound struct {
	Column
	opener opener
}

// bind sets the column. It returns an error if the column differs from the
// field's declaration, or if the field has another one already.
func (b *binding) bind(c Column) error {
	if c.Size != b.size || cmp.Or(c.Type, fieldcrypt.StringType) != b.plaintext {
		return fmt.Errorf("%d characters of %s, and its field has %d of %s",
			c.Size, cmp.Or(c.Type, fieldcrypt.StringType), b.size, b.plaintext)
	}
	if b.bound != nil {
		if b.bound.Column != c {
			return fmt.Errorf("its field %s is %s already", b.name, b.bound.Column)
		}
		return nil
	}
	b.bound = &bound{Column: c}
	b.bound.opener.column = &b.bound.Column
	return nil
}

func (b *binding) column(op string) (*bound, error) {
	if b.bound == nil {
		return nil, fmt.Errorf("credent: %s field %s: %w", op, b.name, ErrNotRegistered)
	}
	return b.bound, nil
}

// CheckBindings returns an [ErrNotRegistered] if a column has a blind index and
// its digests' configuration isn't set.
func CheckBindings(columns []Column) error {
	for _, c := range columns {
		if b := bindingOf(c); c.Index != "" && b.Digest != nil && b.Digest() == nil {
			return fmt.Errorf("credent: the blind index of %s: %w; or, if the schema has hooks, import the generated "+
				"package runtime", c, ErrNotRegistered)
		}
	}
	return nil
}

// Value implements field.TypeValueScanner.
func (f Field) Value(s fieldcrypt.Secret) (driver.Value, error) { return f.argument(s) }

// ScanValue implements field.TypeValueScanner.
func (f Field) ScanValue() field.ValueScanner { return f.target() }

// FromValue implements field.TypeValueScanner.
func (f Field) FromValue(v driver.Value) (fieldcrypt.Secret, error) { return f.secret(v) }

// Value implements field.TypeValueScanner.
func (f ValueField[T]) Value(v fieldcrypt.Value[T]) (driver.Value, error) {
	s, _ := fieldcrypt.AsSecret(v)
	return f.argument(s)
}

// ScanValue implements field.TypeValueScanner.
func (f ValueField[T]) ScanValue() field.ValueScanner { return f.target() }

// FromValue implements field.TypeValueScanner.
func (f ValueField[T]) FromValue(v driver.Value) (fieldcrypt.Value[T], error) {
	s, err := f.secret(v)
	return fieldcrypt.ValueOf[T](s), err
}

// Canonical returns Go's encoding of the value that a plaintext encodes, or an
// [fieldcrypt.ErrValue].
func (f ValueField[T]) Canonical(plaintext string) (string, error) {
	return fieldcrypt.Canonical[T](plaintext)
}

func (b *binding) argument(s fieldcrypt.Secret) (driver.Value, error) {
	of, err := b.column("encrypt")
	if err != nil {
		return nil, err
	}
	arg, err := newArg(&of.Column, s)
	if err != nil || arg == nil {
		return nil, err
	}
	return arg, nil
}

// target returns a target for one row. Its Scan fails if there is no column.
func (b *binding) target() field.ValueScanner {
	of, err := b.column("scan")
	if err != nil {
		return noTarget{err}
	}
	return fieldcrypt.NewTarget(&of.opener)
}

func (b *binding) secret(v driver.Value) (fieldcrypt.Secret, error) {
	target, ok := v.(*fieldcrypt.Target)
	if !ok {
		return fieldcrypt.Secret{}, fmt.Errorf("credent: scan field %s: unexpected target %T", b.name, v)
	}
	return target.Secret(), nil
}

// noTarget is the target of a field without a column.
type noTarget struct{ err error }

// Scan implements sql.Scanner.
func (t noTarget) Scan(any) error { return t.err }

// Value implements driver.Valuer; nobody calls it.
func (noTarget) Value() (driver.Value, error) { return nil, nil }
