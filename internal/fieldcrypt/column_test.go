package fieldcrypt_test

import (
	"database/sql/driver"
	"errors"
	"slices"
	"strings"
	"testing"

	"entgo.io/ent/schema/field"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// The columns of the tests, as a schema declares them: once, before any driver is made.
var (
	wide   = fieldcrypt.Column("vault", "wide", 500)
	narrow = fieldcrypt.Column("vault", "narrow", 100) // 15 bytes
	_      = fieldcrypt.Column("safe", "narrow", 120)  // 31 bytes
)

func TestColumns(t *testing.T) {
	t.Parallel()
	ours := slices.DeleteFunc(fieldcrypt.Columns(), func(c fieldcrypt.ColumnInfo) bool {
		return c.Table != "vault" && c.Table != "safe"
	})
	want := []fieldcrypt.ColumnInfo{
		{Table: "safe", Name: "narrow", Size: 120},
		{Table: "vault", Name: "narrow", Size: 100},
		{Table: "vault", Name: "wide", Size: 500},
	}
	if diff := cmp.Diff(want, ours); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestColumnAgain(t *testing.T) {
	t.Parallel()
	before := len(fieldcrypt.Columns())
	fieldcrypt.Column("vault", "wide", 500)
	if got := len(fieldcrypt.Columns()); got != before {
		t.Errorf("registered twice: %d columns, before %d", got, before)
	}
}

func TestColumnPanics(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		column string
		size   int
		says   string
	}{
		"no token fits": {"short", 99, "99 characters hold no token"},
		"size 0":        {"short", 0, "0 characters hold no token"},
		"negative size": {"short", -500, "-500 characters hold no token"},
		"another size":  {"wide", 501, "registered with 500 and 501"},
	} {
		func() {
			defer func() {
				text, _ := recover().(string)
				if !strings.HasPrefix(text, "fieldcrypt: column vault."+test.column) || !strings.Contains(text, test.says) {
					t.Errorf("%s: got panic %q, want %q", name, text, test.says)
				}
			}()
			fieldcrypt.Column("vault", test.column, test.size)
		}()
	}
	fieldcrypt.Column("vault", "narrow", 100) // fits exactly one token
}

func TestColumnValue(t *testing.T) {
	useDefault(t, keyA)
	r := ring(t, keyA)
	for name, test := range map[string]struct {
		column field.TypeValueScanner[fieldcrypt.Secret]
		secret fieldcrypt.Secret
		want   string
	}{
		"plaintext": {wide, fieldcrypt.New("text"), "text"},
		"empty":     {wide, fieldcrypt.New(""), ""},
		"longest":   {wide, fieldcrypt.New(strings.Repeat("x", 303)), strings.Repeat("x", 303)},
		"narrow":    {narrow, fieldcrypt.New(strings.Repeat("x", 15)), strings.Repeat("x", 15)},
		"stored":    {narrow, stored(t, seal(t, r, "text")), "text"},
	} {
		arg, err := test.column.Value(test.secret)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if driver.IsValue(arg) {
			t.Errorf("%s: it is a %T before it is encrypted", name, arg)
		}
		value, err := driver.DefaultParameterConverter.ConvertValue(arg) // what database/sql does
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := r.Decrypt(value.(string)); err != nil || got != test.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, test.want)
		}
	}
	// Of a secret from another row, not the token but the text is written.
	token := seal(t, r, "text")
	arg, err := wide.Value(stored(t, token))
	if err != nil {
		t.Fatal(err)
	}
	if value, err := arg.(driver.Valuer).Value(); err != nil || value == token {
		t.Errorf("got the same token, or %v", err)
	}
	if arg, err := wide.Value(fieldcrypt.Secret{}); arg != nil || err != nil {
		t.Errorf("absent: got %v, %v, want NULL", arg, err)
	}
}

func TestColumnValueErrors(t *testing.T) {
	useDefault(t, keyA)
	for name, test := range map[string]struct {
		column field.TypeValueScanner[fieldcrypt.Secret]
		secret fieldcrypt.Secret
		want   error
		says   string
	}{
		"too long":           {wide, fieldcrypt.New(strings.Repeat("x", 304)), fieldcrypt.ErrTooLong, "vault.wide: secret too long: 304 bytes, and 500 characters hold at most 303"},
		"too long, narrow":   {narrow, fieldcrypt.New(strings.Repeat("x", 16)), fieldcrypt.ErrTooLong, "at most 15"},
		"too long in bytes":  {narrow, fieldcrypt.New(strings.Repeat("é", 8)), fieldcrypt.ErrTooLong, "16 bytes"},
		"redacted":           {wide, fieldcrypt.New(fieldcrypt.Redacted), fieldcrypt.ErrRedacted, "vault.wide"},
		"unreadable":         {wide, stored(t, seal(t, ring(t, keyB), "text")), fieldcrypt.ErrUnknownKey, "vault.wide"},
		"stored plaintext":   {wide, stored(t, "PKA1B2C3D4E5F6G7H8I9"), fieldcrypt.ErrNotEncrypted, "vault.wide"},
		"stored, then short": {narrow, stored(t, seal(t, ring(t, keyA), strings.Repeat("x", 16))), fieldcrypt.ErrTooLong, "vault.narrow"},
	} {
		arg, err := test.column.Value(test.secret)
		var detail *fieldcrypt.Error
		if arg != nil || !errors.Is(err, test.want) || !errors.As(err, &detail) || detail.Op != "encrypt" {
			t.Errorf("%s: got %v, %v, want %v", name, arg, err, test.want)
		} else if !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: the error does not say %q: %v", name, test.says, err)
		} else if strings.Contains(err.Error(), "xxxx") || hasPart(err.Error(), "PKA1B2C3D4E5F6G7H8I9") {
			t.Errorf("%s: the error quotes the plaintext: %v", name, err)
		}
	}
}

func TestColumnWithoutKey(t *testing.T) {
	fieldcrypt.ResetDefault(t)
	t.Setenv(fieldcrypt.EnvKey, "")
	arg, err := wide.Value(fieldcrypt.New("text"))
	if err != nil {
		t.Fatal(err) // the client's driver may have a keyring
	}
	value, err := arg.(driver.Valuer).Value()
	if value != nil && value != "" || !errors.Is(err, fieldcrypt.ErrNoKey) {
		t.Errorf("got %v, %v, want ErrNoKey", value, err)
	}
}

func TestColumnScan(t *testing.T) {
	useDefault(t, keyA)
	token := []byte(seal(t, ring(t, keyA), "text"))
	target := wide.ScanValue()
	if err := target.Scan(token); err != nil {
		t.Fatal(err)
	}
	clear(token)
	s, err := wide.FromValue(target)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Reveal(); err != nil || got != "text" {
		t.Errorf("got %q, %v", got, err)
	}

	target = wide.ScanValue()
	if err := target.Scan(nil); err != nil {
		t.Fatal(err)
	}
	if s, err := wide.FromValue(target); err != nil || !s.IsZero() {
		t.Errorf("NULL: got a secret, %v", err)
	}

	target = wide.ScanValue()
	if err := target.Scan("PKA1B2C3D4E5F6G7H8I9"); err != nil {
		t.Fatal(err) // one bad row does not hide the others
	}
	s, err = wide.FromValue(target)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Reveal()
	var detail *fieldcrypt.Error
	if !errors.Is(err, fieldcrypt.ErrNotEncrypted) || !errors.As(err, &detail) || detail.Table != "vault" || detail.Column != "wide" {
		t.Errorf("plaintext: got %v", err)
	}

	err = wide.ScanValue().Scan(int64(1))
	if !errors.Is(err, fieldcrypt.ErrNotEncrypted) || !errors.As(err, &detail) || detail.Column != "wide" {
		t.Errorf("number: got %v, want ErrNotEncrypted of the column", err)
	}
	if _, err := wide.FromValue("PKA1B2C3D4E5F6G7H8I9"); err == nil || hasPart(err.Error(), "PKA1B2C3D4E5F6G7H8I9") {
		t.Errorf("foreign target: got %v", err)
	}
}
