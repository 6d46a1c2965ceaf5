package fieldcrypt

import (
	"crypto/subtle"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"entgo.io/ent/schema/field"
)

// ErrValue means that a value has no encoding, or that what is stored is not one of the type.
var ErrValue = errors.New("it does not encode or decode as its type")

// Types of plaintexts in a [ColumnInfo].
const (
	stringType = "string"
	bytesType  = "[]byte"
)

// secret is embedded under a name that is not exported, or [Secret.Reveal] could be called in place of [Value.Reveal].
type secret = Secret

// Value is a [Secret] whose plaintext is a T: it stores, prints and fails likewise. The zero value is absent, and stores as
// NULL. What is encrypted is
//
//   - of a []byte the bytes themselves,
//   - of a time.Time the instant in UTC as in RFC 3339, to the nanosecond: 2026-11-24T12:30:00.5Z,
//   - of any other T its JSON.
//
// A Value is immutable, may be copied, and is safe for concurrent use. Of what [NewValue] was given it keeps the encoding.
type Value[T any] struct{ secret }

// NewValue returns a present value. One that has no encoding is refused with [ErrValue] where it is revealed or stored.
func NewValue[T any](v T) Value[T] {
	text, err := encode(v)
	in := &inner{text: text}
	if err != nil {
		in.of = &origin{err: err}
	}
	return Value[T]{secretOf(in)}
}

// Reveal returns the plaintext; of an absent value, the zero T. Errors are those of [Secret.Reveal], and [ErrValue].
func (v Value[T]) Reveal() (T, error) {
	var zero T
	if v.IsZero() {
		return zero, nil
	}
	text, err := v.secret.Reveal()
	if err != nil {
		return zero, err
	}
	value, err := parse[T](text)
	if err != nil {
		return zero, v.inner().wrap("decode", err)
	}
	return value, nil
}

// Equal reports whether both values are absent, or both are present and have the same encoding. The time that the comparison
// itself takes depends on the lengths only. A value that cannot be revealed equals none.
func (v Value[T]) Equal(other Value[T]) bool {
	if v.IsZero() || other.IsZero() {
		return v.IsZero() && other.IsZero()
	}
	a, ok := v.canonical()
	b, ok2 := other.canonical()
	return ok && ok2 && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// canonical returns the encoding that Go gives, since another program may have written JSON with other spaces.
func (v Value[T]) canonical() (string, bool) {
	value, err := v.Reveal()
	if err != nil {
		return "", false
	}
	text, err := encode(value)
	return text, err == nil
}

// WithKeyring is [Secret.WithKeyring].
func (v Value[T]) WithKeyring(ring *Keyring) Value[T] { return Value[T]{v.secret.WithKeyring(ring)} }

// InRow is [Secret.InRow].
func (v Value[T]) InRow(column ColumnInfo, tenant string) Value[T] {
	return Value[T]{v.secret.InRow(column, tenant)}
}

// UnmarshalText makes a present value of its encoding. It refuses [Redacted] with [ErrRedacted] and anything else that is not
// a T with [ErrValue]; the errors do not quote the text.
func (v *Value[T]) UnmarshalText(text []byte) error {
	if isMarker(text) {
		return ErrRedacted
	}
	value, err := parse[T](string(text))
	if err != nil {
		return fmt.Errorf("fieldcrypt: a text: %w", err)
	}
	*v = NewValue(value)
	return nil
}

// UnmarshalJSON makes a present value of what encoding/json takes for a T, and an absent one of null. It refuses [Redacted]
// with [ErrRedacted] and anything else that is not a T with [ErrValue]; the errors do not quote the input.
func (v *Value[T]) UnmarshalJSON(data []byte) error {
	var value T
	switch {
	case string(data) == "null":
		*v = Value[T]{}
		return nil
	case isMarker(data):
		return ErrRedacted
	case !isExact(data) || json.Unmarshal(data, &value) != nil:
		return fmt.Errorf("fieldcrypt: JSON: %w (%T)", ErrValue, value)
	}
	*v = NewValue(value)
	return nil
}

// asSecret returns the value as drivers take it.
func (v Value[T]) asSecret() Secret {
	if _, ok := any(*new(T)).([]byte); !ok || v.IsZero() {
		return v.secret
	}
	in := *v.inner()
	in.binary = true
	return secretOf(&in)
}

// typed is what every [Value] is.
type typed interface{ asSecret() Secret }

// isTyped reports whether a type is a [Value], or embeds one.
func isTyped(t reflect.Type) bool {
	if t.Kind() == reflect.Struct && t.PkgPath() == "database/sql" {
		if f, ok := t.FieldByName("V"); ok { // a sql.Null
			t = f.Type
		}
	}
	return t.Implements(reflect.TypeFor[typed]())
}

// untyped returns arguments with a [Secret] in place of each [Value]. The given slice is not changed.
func untyped(args []any) []any {
	result := args
	for i, arg := range args {
		s, ok := untypedOne(arg)
		if !ok {
			continue
		}
		if &result[0] == &args[0] {
			result = append([]any(nil), args...)
		}
		result[i] = s
	}
	return result
}

func untypedOne(arg any) (any, bool) {
	switch arg := arg.(type) {
	case typed:
		if p := reflect.ValueOf(arg); p.Kind() == reflect.Pointer && p.IsNil() {
			return nil, true
		}
		return arg.asSecret(), true
	case sql.NamedArg:
		value, ok := untypedOne(arg.Value)
		arg.Value = value
		return arg, ok
	}
	return nil, false
}

// encode returns what is encrypted of a value. The errors of other packages could quote it.
func encode(value any) (string, error) {
	switch value := value.(type) {
	case []byte:
		return string(value), nil
	case time.Time:
		text, err := value.UTC().MarshalText()
		if err != nil {
			return "", valueError(value)
		}
		return string(text), nil
	}
	data, err := json.Marshal(value)
	if err != nil {
		return "", valueError(value)
	}
	return string(data), nil
}

// parse is the reverse of encode.
func parse[T any](text string) (value T, err error) {
	switch p := any(&value).(type) {
	case *[]byte:
		*p = []byte(text)
	case *time.Time:
		if err = p.UnmarshalText([]byte(text)); err == nil {
			*p = p.UTC()
		}
	default:
		err = json.Unmarshal([]byte(text), p)
	}
	if err != nil {
		var zero T
		return zero, valueError(zero)
	}
	return value, nil
}

func valueError(value any) error { return fmt.Errorf("%w (%T)", ErrValue, value) }

// ValueField is the ent ValueScanner of an encrypted field of type [Value], as [Field] is of one of type [Secret].
type ValueField[T any] struct{ *binding }

// NewValueField returns the ValueScanner of a field which is stored in size characters.
func NewValueField[T any](name string, size int) ValueField[T] {
	return ValueField[T]{&binding{name: name, plaintext: TypeName[T](), size: size}}
}

// TypeName returns the name of a type of plaintexts, as a [ColumnInfo] has it.
func TypeName[T any]() string {
	return strings.ReplaceAll(reflect.TypeFor[T]().String(), "[]uint8", bytesType)
}

// Value returns the argument that stands for the value in a statement.
func (f ValueField[T]) Value(v Value[T]) (driver.Value, error) {
	c, err := f.bound("encrypt")
	if err != nil {
		return nil, err
	}
	return c.Value(v.asSecret())
}

// ScanValue returns the target of one column of one row.
func (f ValueField[T]) ScanValue() field.ValueScanner { return f.target() }

// FromValue makes a value of a scanned target.
func (f ValueField[T]) FromValue(v driver.Value) (Value[T], error) {
	s, err := f.secretOf(v)
	return Value[T]{s}, err
}
