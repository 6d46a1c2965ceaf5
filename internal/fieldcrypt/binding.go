package fieldcrypt

import (
	"cmp"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"entgo.io/ent/schema/field"
)

// ErrNotBound means that the process does not know which column an encrypted field is: the generated package lacks the file
// that says so, or has one of another schema.
var ErrNotBound = errors.New("the field is bound to no column: generate the package again, with the extension of package codegen")

// ColumnInfo names an encrypted column.
type ColumnInfo struct {
	Table string
	Name  string
	Size  int    // in characters of the stored token
	Type  string // Go type of the plaintext: "string", "[]byte", "time.Time", "webhook.Config"; "" means "string"
	ID    string // column of the table's primary key; "" means "id"
	Index string // column of its blind index, if it has one

	Tenant string // column that says whose a row is; "" if there is none
	Bound  bool   // the schema says that tokens are bound to table, column and tenant
}

// String returns "table.name".
func (c ColumnInfo) String() string { return c.Table + "." + c.Name }

// MaxPlaintext returns the length in bytes of the longest plaintext that the column holds.
func (c ColumnInfo) MaxPlaintext() int { return MaxPlaintext(c.Size) }

const defaultKey = "id"

func (c ColumnInfo) key() string { return cmp.Or(c.ID, defaultKey) }

// Binding says which column the encrypted field of a generated package is.
type Binding struct {
	ColumnInfo
	// Scanner returns the field's ValueScanner, or nil as long as ent has not set it.
	Scanner func() any
	// Index returns the ValueScanner of its blind index, if it has one.
	Index func() any
}

// registry holds every encrypted column of the process. Packages fill it when they are initialised, so it is complete
// before main starts.
var registry struct {
	sync.RWMutex
	columns  map[[2]string]ColumnInfo
	indexes  map[[2]string]func() any // the ValueScanners of blind indexes
	bindings []Binding                // of fields that are not bound yet
}

// Bind registers encrypted columns, so that drivers, checks and re-encryption find them, and binds the fields to them; the
// code that package codegen generates calls it. It panics if the size of a column holds no token, or the column is
// registered with another size or type.
func Bind(bindings ...Binding) {
	registry.Lock()
	defer registry.Unlock()
	for _, b := range bindings {
		register(b.ColumnInfo)
		if b.Index != nil {
			if registry.indexes == nil {
				registry.indexes = make(map[[2]string]func() any)
			}
			registry.indexes[[2]string{b.Table, b.Name}] = b.Index
		}
	}
	registry.bindings = append(registry.bindings, bindings...)
}

// register adds a column. Call it with the lock held.
func register(c ColumnInfo) {
	if MaxPlaintext(c.Size) < 0 {
		panic(fmt.Sprintf("fieldcrypt: column %s: %d characters hold no token, which has at least %d", c, c.Size, TokenLen(0)))
	}
	if registry.columns == nil {
		registry.columns = make(map[[2]string]ColumnInfo)
	}
	key := [2]string{c.Table, c.Name}
	known, ok := registry.columns[key]
	switch {
	case ok && known.Size != c.Size:
		panic(fmt.Sprintf("fieldcrypt: column %s: registered with %d and %d characters", c, known.Size, c.Size))
	case c.Bound && c.Tenant == "":
		panic(fmt.Sprintf("fieldcrypt: column %s: bound, and without a tenant to bind it to", c))
	case ok && (known.Type != c.Type || known.key() != c.key() || known.Index != c.Index || known.Tenant != c.Tenant || known.Bound != c.Bound):
		panic(fmt.Sprintf("fieldcrypt: column %s: registered for two fields that differ", c))
	}
	registry.columns[key] = c
}

// Column registers a column of text, and returns an ent ValueScanner that is bound to it.
func Column(table, name string, size int) field.TypeValueScanner[Secret] {
	c := ColumnInfo{Table: table, Name: name, Size: size}
	registry.Lock()
	defer registry.Unlock()
	register(c)
	return scannerOf{newColumn(c)}
}

// scannerOf is a column's ValueScanner, with its methods by value, as ent wants them.
type scannerOf struct{ of *column }

// Value is that of the column.
func (s scannerOf) Value(secret Secret) (driver.Value, error) { return s.of.Value(secret) }

// ScanValue is that of the column.
func (s scannerOf) ScanValue() field.ValueScanner { return s.of.ScanValue() }

// FromValue is that of the column.
func (s scannerOf) FromValue(scanned driver.Value) (Secret, error) { return s.of.FromValue(scanned) }

// Columns returns every encrypted column of the process, sorted by table and name.
func Columns() []ColumnInfo {
	registry.RLock()
	defer registry.RUnlock()
	all := make([]ColumnInfo, 0, len(registry.columns))
	for _, c := range registry.columns {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b ColumnInfo) int {
		return cmp.Or(strings.Compare(a.Table, b.Table), strings.Compare(a.Name, b.Name))
	})
	return all
}

// CheckBindings returns an error, an [ErrNotBound], if a registered column has no field, or one that is declared otherwise
// than when the package was generated.
func CheckBindings() error {
	registry.Lock()
	defer registry.Unlock()
	if err := resolve(); err != nil {
		return err
	}
	for _, b := range registry.bindings {
		return fmt.Errorf("fieldcrypt: %s: %w; or, if the schema has hooks, import the generated package runtime", b.ColumnInfo, ErrNotBound)
	}
	return nil
}

// resolve binds the fields whose ValueScanners are there by now, and returns the first fault. Call it with the lock held.
func resolve() (failed error) {
	registry.bindings = slices.DeleteFunc(registry.bindings, func(b Binding) bool {
		scanner, ok := b.Scanner().(interface{ bind(ColumnInfo) error })
		if !ok {
			return false
		}
		if err := scanner.bind(b.ColumnInfo); err != nil {
			if failed == nil {
				failed = err
			}
			return false
		}
		return true
	})
	return failed
}

// Field is the ent ValueScanner of an encrypted field of type [Secret]. It works once the generated package has bound it to
// a column, and until then fails with [ErrNotBound].
type Field struct{ *binding }

// binding is what the constructor of a field knows, and its column once that is known.
type binding struct {
	name, plaintext string
	size            int
	column          atomic.Pointer[column]
}

// NewField returns the ValueScanner of a field of text, which is stored in size characters.
func NewField(name string, size int) Field {
	return Field{&binding{name: name, plaintext: stringType, size: size}}
}

// bind sets the column. It refuses one that is not as the field was declared, and a second one.
func (b *binding) bind(c ColumnInfo) error {
	if c.Size != b.size || cmp.Or(c.Type, stringType) != b.plaintext {
		return fmt.Errorf("fieldcrypt: %s: %w; the generated one has %d characters of %s, and the schema %d of %s",
			c, ErrNotBound, c.Size, cmp.Or(c.Type, stringType), b.size, b.plaintext)
	}
	if known := b.column.Load(); known != nil && known.ColumnInfo != c {
		return fmt.Errorf("fieldcrypt: field %s is both %s and %s: %w", b.name, known, c, ErrNotBound)
	}
	b.column.Store(newColumn(c))
	return nil
}

// bound returns the field's column, which is immutable.
func (b *binding) bound(op string) (*column, error) {
	if c := b.column.Load(); c != nil {
		return c, nil
	}
	registry.Lock()
	err := resolve()
	registry.Unlock()
	if c := b.column.Load(); c != nil {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("fieldcrypt: %s field %s: %w", op, b.name, ErrNotBound)
}

// Value returns the argument that stands for the secret in a statement.
func (f Field) Value(s Secret) (driver.Value, error) {
	c, err := f.bound("encrypt")
	if err != nil {
		return nil, err
	}
	return c.Value(s)
}

// ScanValue returns the target of one column of one row.
func (f Field) ScanValue() field.ValueScanner { return f.target() }

// FromValue makes a secret of a scanned target.
func (f Field) FromValue(v driver.Value) (Secret, error) { return f.secretOf(v) }

// target returns a target whose Scan fails if there is no column.
func (b *binding) target() field.ValueScanner {
	c, err := b.bound("scan")
	if err != nil {
		return noTarget{err}
	}
	return newScanned(c)
}

func (b *binding) secretOf(v driver.Value) (Secret, error) {
	c, err := b.bound("scan")
	if err != nil {
		return Secret{}, err
	}
	return c.FromValue(v)
}
