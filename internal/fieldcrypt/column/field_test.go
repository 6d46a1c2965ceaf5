package column_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// A field works from the moment on at which ent has set its ValueScanner,
// whatever is initialised first.
func TestBind(t *testing.T) {
	useDefault(t)
	column.ForgetBindings(t)
	c := column.Column{Table: "bound", Name: "token", Size: 500, Type: "string", ID: "serial"}
	f := column.NewField("token", 500)
	var set any
	column.Register(column.Binding{Column: c, Scanner: func() any { return set }})
	if !slices.Contains(column.All(), c) {
		t.Error("the column is not known")
	}
	if _, err := f.Value(fieldcrypt.New("x")); !errors.Is(err, column.ErrNotRegistered) {
		t.Errorf("before it is set: got %v", err)
	}
	if err := column.CheckBindings(column.All()); !errors.Is(err, column.ErrNotRegistered) || !strings.Contains(err.Error(), "bound.token") {
		t.Errorf("before it is set: got %v", err)
	}

	set = f
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := f.Value(fieldcrypt.New("x")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := column.CheckBindings(column.All()); err != nil {
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
		t.Errorf("got %v, want the column in it", err)
	}
}

// A client whose generated package lacks the extension's file fails with an
// error, and stores and reads nothing.
func TestNotBound(t *testing.T) {
	t.Parallel()
	f, v := column.NewField("token", 500), column.NewValueField[int]("number", 500)
	_, errs := f.Value(fieldcrypt.New("PKCANARY7Qz4Wv9Tm2Xr5Lb8Nd3Hs6Jf1Gp0Ky"))
	_, err := v.Value(fieldcrypt.NewValue(1))
	for name, err := range map[string]error{
		"Value": errs, "Value of a value": err, "Scan": f.ScanValue().Scan("gAAAA"),
	} {
		if !errors.Is(err, column.ErrNotRegistered) || !strings.Contains(err.Error(), "codegen") || strings.Contains(err.Error(), "PKCANARY7Qz4Wv9Tm2Xr5Lb8Nd3Hs6Jf1Gp0Ky") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if s, err := f.FromValue(f.ScanValue()); err == nil || !s.IsZero() {
		t.Errorf("FromValue: got %v, %v", s, err)
	}
}

// A field that was declared differently when its package was generated stays
// unbound.
func TestBindMismatch(t *testing.T) {
	for name, test := range map[string]struct {
		field any
		says  string
	}{
		"size":     {column.NewField("a", 400), "the generated one has 500 characters of string, and the schema 400 of string"},
		"type":     {column.NewValueField[[]byte]("a", 500), "and the schema 500 of []byte"},
		"no field": {"gAAAA", "import the generated package runtime"},
	} {
		column.ForgetBindings(t)
		c := column.Column{Table: "mismatch", Name: "a", Size: 500, Type: "string"}
		column.Register(column.Binding{Column: c, Scanner: func() any { return test.field }})
		err := column.CheckBindings(column.All())
		if !errors.Is(err, column.ErrNotRegistered) || !strings.Contains(err.Error(), "mismatch.a") || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %q", name, err, test.says)
		}
		if f, ok := test.field.(column.Field); ok {
			if _, err := f.Value(fieldcrypt.New("x")); !errors.Is(err, column.ErrNotRegistered) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: got %v, want %q", name, err, test.says)
			}
		}
	}
	column.ForgetBindings(t)
	f := column.NewField("a", 500)
	for _, table := range []string{"twice", "thrice"} {
		column.Register(column.Binding{
			Column: column.Column{Table: table, Name: "a", Size: 500, Type: "string"}, Scanner: func() any { return f },
		})
	}
	if err := column.CheckBindings(column.All()); !errors.Is(err, column.ErrNotRegistered) || !strings.Contains(err.Error(), "twice.a") {
		t.Errorf("one field for two columns: got %v", err)
	}
}
