package column_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// A field works once its column is registered, and its errors name the column.
func TestBind(t *testing.T) {
	useDefault(t)
	c := column.Column{Table: "bound", Name: "token", Size: 500, Type: "string", ID: "serial"}
	f := column.NewField("token", 500)
	if _, err := f.Value(fieldcrypt.New("x")); !errors.Is(err, column.ErrNotRegistered) {
		t.Errorf("before it is registered: got %v", err)
	}
	for range 2 { // registering again changes nothing
		column.Register(column.Binding{Column: c, Scanner: func() any { return f }})
	}
	if !slices.Contains(column.All(), c) {
		t.Error("the column is not known")
	}
	if _, err := f.Value(fieldcrypt.New("x")); err != nil {
		t.Error(err)
	}
	target := f.ScanValue()
	if err := target.Scan("gAAAA"); err != nil {
		t.Fatal(err)
	}
	s, err := f.FromValue(target)
	if err != nil {
		t.Fatal(err)
	}
	var detail *fieldcrypt.Error
	if _, err := s.Reveal(); !errors.As(err, &detail) || detail.Table != "bound" || detail.Column != "token" {
		t.Errorf("got %v, want an error with the column", err)
	}
}

// If the generated package lacks the extension's file, fields return an error,
// and store and read nothing.
func TestNotBound(t *testing.T) {
	t.Parallel()
	f, v := column.NewField("token", 500), column.NewValueField[int]("number", 500)
	_, errs := f.Value(fieldcrypt.New("PKCANARY7Qz4Wv9Tm2Xr5Lb8Nd3Hs6Jf1Gp0Ky"))
	_, err := v.Value(fieldcrypt.NewValue(1))
	for name, err := range map[string]error{
		"Value": errs, "Value of a value": err, "Scan": f.ScanValue().Scan("gAAAA"),
	} {
		if !errors.Is(err, column.ErrNotRegistered) || !strings.Contains(err.Error(), "codegen") ||
			strings.Contains(err.Error(), "PKCANARY7Qz4Wv9Tm2Xr5Lb8Nd3Hs6Jf1Gp0Ky") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if s, err := f.FromValue(f.ScanValue()); err == nil || !s.IsZero() {
		t.Errorf("FromValue: got %v, %v", s, err)
	}
}

// Register panics if the field was declared differently, or belongs to another
// column.
func TestBindMismatch(t *testing.T) {
	t.Parallel()
	used := column.NewField("a", 500)
	column.Register(column.Binding{
		Column:  column.Column{Table: "twice", Name: "a", Size: 500, Type: "string"},
		Scanner: func() any { return used },
	})
	for name, test := range map[string]struct {
		field any
		says  string
	}{
		"size":     {column.NewField("a", 400), "500 characters of string, and its field has 400 of string"},
		"type":     {column.NewValueField[[]byte]("a", 500), "and its field has 500 of []byte"},
		"no field": {"gAAAA", "its field isn't from package encrypted"},
		"older":    {nil, "generate the package again"},
		"twice":    {used, "its field a is twice.a already"},
	} {
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.HasPrefix(text, "credent: column mismatch.a: ") ||
					!strings.Contains(text, test.says) {
					t.Errorf("%s: got panic %q, want %q", name, text, test.says)
				}
			}()
			c := column.Column{Table: "mismatch", Name: "a", Size: 500, Type: "string"}
			column.Register(column.Binding{Column: c, Scanner: func() any { return test.field }})
		}()
	}
	if slices.ContainsFunc(column.All(), func(c column.Column) bool { return c.Table == "mismatch" }) {
		t.Error("a refused column is registered")
	}
}

// A blind index needs its config. Checks fail until ent's runtime code sets it.
func TestCheckBindings(t *testing.T) {
	t.Parallel()
	c := column.Column{Table: "digested", Name: "a", Size: 500, Index: "a_index"}
	var set any
	column.Register(column.Binding{Column: c, Digest: func() any { return set }})
	err := column.CheckBindings([]column.Column{c})
	if !errors.Is(err, column.ErrNotRegistered) ||
		!strings.Contains(err.Error(), "import the generated package runtime") {
		t.Errorf("before it is set: got %v", err)
	}
	set = struct{}{}
	if err := column.CheckBindings([]column.Column{c}); err != nil {
		t.Error(err)
	}
}
