package fieldcrypt_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// A field works from the moment on at which ent has set its ValueScanner, whatever is initialised first.
func TestBind(t *testing.T) {
	fieldcrypt.ResetDefault(t)
	fieldcrypt.ForgetBindings(t)
	c := fieldcrypt.ColumnInfo{Table: "bound", Name: "token", Size: 500, Type: "string", ID: "serial"}
	f := fieldcrypt.NewField("token", 500)
	var set any
	fieldcrypt.Bind(fieldcrypt.Binding{ColumnInfo: c, Scanner: func() any { return set }})
	if !slices.Contains(fieldcrypt.Columns(), c) {
		t.Error("the column is not known")
	}
	if _, err := f.Value(fieldcrypt.New("x")); !errors.Is(err, fieldcrypt.ErrNotBound) {
		t.Errorf("before it is set: got %v", err)
	}
	if err := fieldcrypt.CheckBindings(); !errors.Is(err, fieldcrypt.ErrNotBound) || !strings.Contains(err.Error(), "bound.token") {
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
	if err := fieldcrypt.CheckBindings(); err != nil {
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

// A client whose generated package lacks the extension's file fails with an error, and stores and reads nothing.
func TestNotBound(t *testing.T) {
	t.Parallel()
	f, v := fieldcrypt.NewField("token", 500), fieldcrypt.NewValueField[int]("number", 500)
	_, errs := f.Value(fieldcrypt.New(canary))
	_, err := v.Value(fieldcrypt.NewValue(1))
	_, from := f.FromValue("gAAAA")
	for name, err := range map[string]error{
		"Value": errs, "Value of a value": err, "Scan": f.ScanValue().Scan("gAAAA"), "FromValue": from,
	} {
		if !errors.Is(err, fieldcrypt.ErrNotBound) || !strings.Contains(err.Error(), "codegen") || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A field that is declared otherwise than when its package was generated is not bound.
func TestBindMismatch(t *testing.T) {
	for name, test := range map[string]struct {
		field any
		says  string
	}{
		"size":     {fieldcrypt.NewField("a", 400), "the generated one has 500 characters of string, and the schema 400 of string"},
		"type":     {fieldcrypt.NewValueField[[]byte]("a", 500), "and the schema 500 of []byte"},
		"no field": {"gAAAA", "import the generated package runtime"},
	} {
		fieldcrypt.ForgetBindings(t)
		c := fieldcrypt.ColumnInfo{Table: "mismatch", Name: "a", Size: 500, Type: "string"}
		fieldcrypt.Bind(fieldcrypt.Binding{ColumnInfo: c, Scanner: func() any { return test.field }})
		err := fieldcrypt.CheckBindings()
		if !errors.Is(err, fieldcrypt.ErrNotBound) || !strings.Contains(err.Error(), "mismatch.a") || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %q", name, err, test.says)
		}
		if f, ok := test.field.(fieldcrypt.Field); ok {
			if _, err := f.Value(fieldcrypt.New("x")); !errors.Is(err, fieldcrypt.ErrNotBound) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: got %v, want %q", name, err, test.says)
			}
		}
	}
	fieldcrypt.ForgetBindings(t)
	f := fieldcrypt.NewField("a", 500)
	for _, table := range []string{"twice", "thrice"} {
		fieldcrypt.Bind(fieldcrypt.Binding{
			ColumnInfo: fieldcrypt.ColumnInfo{Table: table, Name: "a", Size: 500, Type: "string"}, Scanner: func() any { return f },
		})
	}
	if err := fieldcrypt.CheckBindings(); !errors.Is(err, fieldcrypt.ErrNotBound) || !strings.Contains(err.Error(), "twice.a") {
		t.Errorf("one field for two columns: got %v", err)
	}
}

func TestBindPanics(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]fieldcrypt.ColumnInfo{
		"another type": {Table: "vault", Name: "wide", Size: 500, Type: "[]byte"},
		"another key":  {Table: "vault", Name: "wide", Size: 500, ID: "serial"},
		"another size": {Table: "vault", Name: "wide", Size: 501},
		"no token":     {Table: "vault", Name: "tiny", Size: 99},
	} {
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.HasPrefix(text, "fieldcrypt: column vault.") {
					t.Errorf("%s: got panic %q", name, text)
				}
			}()
			fieldcrypt.Bind(fieldcrypt.Binding{ColumnInfo: c})
		}()
	}
}

// The primary key may have any name: it chooses the row of an update, and names it in errors.
func TestPrimaryKeyOfAnotherName(t *testing.T) {
	t.Parallel()
	drv := fieldcrypt.NewDriver(new(recorder), fieldcrypt.DriverConfig{Keyring: ring(t, keyA)})
	for query, want := range map[string]error{
		`UPDATE "ledger" SET "token" = $1 WHERE "serial" = $2`: nil,
		`UPDATE "ledger" SET "token" = $1 WHERE "id" = $2`:     fieldcrypt.ErrManyRows,
		`UPDATE "vault" SET "wide" = $1 WHERE "id" = $2`:       nil,
		`UPDATE "vault" SET "wide" = $1 WHERE "serial" = $2`:   fieldcrypt.ErrManyRows,
	} {
		if err := drv.Exec(t.Context(), query, []any{fieldcrypt.New("x"), 7}, nil); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", query, err, want)
		}
	}

	for _, test := range []struct{ query, column, want string }{
		{`SELECT * FROM "ledger"`, "serial", "7"},
		{`SELECT * FROM "ledger"`, "id", ""},
		{`SELECT * FROM "ledger" JOIN "vault"`, "id", "7"},
	} {
		result := &fakeRows{columns: []string{test.column, "token"}, rows: [][]any{{int64(7), "gAAAA"}}}
		rows := query(t, result, fieldcrypt.DriverConfig{Keyring: ring(t, keyA)}, test.query)
		rows.Next()
		var (
			id int64
			s  fieldcrypt.Secret
		)
		if err := rows.Scan(&id, &s); err != nil {
			t.Fatal(err)
		}
		var detail *fieldcrypt.Error
		if _, err := s.Reveal(); !errors.As(err, &detail) || detail.Row != test.want {
			t.Errorf("%s, %s: got %v, want row %q", test.query, test.column, err, test.want)
		}
	}
}
