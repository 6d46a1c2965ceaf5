package column_test

import (
	"cmp"
	"database/sql/driver"
	"errors"
	"strings"
	"testing"

	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

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
		"stored":    {narrow, stored(t, encrypt(t, r, "text")), "text"},
	} {
		arg, err := test.column.Value(test.secret)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if driver.IsValue(arg) {
			t.Errorf("%s: the argument is a %T before encryption", name, arg)
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
	// A secret from another row is encrypted again: its token isn't copied.
	token := encrypt(t, r, "text")
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
		op     string // of the error that names the secret's origin
	}{
		"too long": {
			wide, fieldcrypt.New(strings.Repeat("x", 304)), column.ErrTooLong,
			"vault.wide: secret too long: 304 bytes, and 500 characters hold at most 303", "",
		},
		"too long, narrow":  {narrow, fieldcrypt.New(strings.Repeat("x", 16)), column.ErrTooLong, "at most 15", ""},
		"too long in bytes": {narrow, fieldcrypt.New(strings.Repeat("é", 8)), column.ErrTooLong, "16 bytes", ""},
		"redacted":          {wide, fieldcrypt.New(fieldcrypt.Redacted), fieldcrypt.ErrRedacted, "vault.wide", ""},
		"unreadable": {
			wide, stored(t, encrypt(t, ring(t, keyB), "text")), fernet.ErrUnknownKey,
			"encrypt vault.wide: credent: decrypt vault.wide", "decrypt",
		},
		"stored plaintext": {
			wide, stored(t, "PKA1B2C3D4E5F6G7H8I9"), fernet.ErrNotEncrypted,
			"encrypt vault.wide: credent: decrypt vault.wide", "decrypt",
		},
		"stored, then short": {
			narrow, stored(t, encrypt(t, ring(t, keyA), strings.Repeat("x", 16))), column.ErrTooLong,
			"vault.narrow", "",
		},
	} {
		arg, err := test.column.Value(test.secret)
		var detail *fieldcrypt.Error
		if arg != nil || !errors.Is(err, test.want) || !errors.As(err, &detail) ||
			detail.Op != cmp.Or(test.op, "encrypt") {
			t.Errorf("%s: got %v, %v, want %v", name, arg, err, test.want)
		} else if !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: the error does not say %q: %v", name, test.says, err)
		} else if strings.Contains(err.Error(), "xxxx") || hasPart(err.Error(), "PKA1B2C3D4E5F6G7H8I9") {
			t.Errorf("%s: the error quotes the plaintext: %v", name, err)
		}
	}
}

func TestColumnWithoutKey(t *testing.T) {
	useDefault(t)
	arg, err := wide.Value(fieldcrypt.New("text"))
	if err != nil {
		t.Fatal(err) // the client's driver may have a keyring
	}
	value, err := arg.(driver.Valuer).Value()
	if value != nil && value != "" || !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("got %v, %v, want ErrNoKey", value, err)
	}
}

func TestColumnScan(t *testing.T) {
	useDefault(t, keyA)
	token := []byte(encrypt(t, ring(t, keyA), "text"))
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
		t.Fatal(err) // one bad row doesn't hide the others
	}
	s, err = wide.FromValue(target)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Reveal()
	var detail *fieldcrypt.Error
	if !errors.Is(err, fernet.ErrNotEncrypted) || !errors.As(err, &detail) || detail.Table != "vault" ||
		detail.Column != "wide" {
		t.Errorf("plaintext: got %v", err)
	}

	err = wide.ScanValue().Scan(int64(1))
	if !errors.Is(err, fernet.ErrNotEncrypted) || !errors.As(err, &detail) || detail.Column != "wide" {
		t.Errorf("number: got %v, want ErrNotEncrypted of the column", err)
	}
	if _, err := wide.FromValue("PKA1B2C3D4E5F6G7H8I9"); err == nil || hasPart(err.Error(), "PKA1B2C3D4E5F6G7H8I9") {
		t.Errorf("foreign target: got %v", err)
	}
}

// Without Credent's driver, a statement can store only secrets that need
// nothing but the process's keyring.
func TestWithoutDriver(t *testing.T) {
	useDefault(t, keyA)
	value := func(of column.Field) *column.Arg {
		v, err := of.Value(fieldcrypt.New("text"))
		if err != nil {
			t.Fatal(err)
		}
		return v.(*column.Arg)
	}
	raw, refused := value(wide), value(wide)
	raw.Raw, refused.Refuse = true, fieldcrypt.ErrValue
	plain := []column.Column{{Table: "vault", Name: "wide", Size: 500, Tenant: "org"}}
	reason := errors.New("reason")
	for name, test := range map[string]struct {
		arg  driver.Valuer
		want error
	}{
		"plain":   {value(wide), nil},
		"bound":   {value(held), fieldcrypt.ErrNoDriver},
		"indexed": {value(pin), fieldcrypt.ErrNoDriver},
		"raw":     {raw, fieldcrypt.ErrNoDriver},
		"refused": {refused, fieldcrypt.ErrValue},
		"digest": {
			stamp.DigestOf(fieldcrypt.New("text"), foundPIN, nil).(driver.Valuer),
			fieldcrypt.ErrNoDriver,
		},
		"guard":        {&column.Guard{Columns: plain, Stored: "a", Refuse: reason}, nil},
		"guard, bound": {&column.Guard{Columns: []column.Column{heldSecret}, Stored: "a"}, nil},
		"guard that refuses": {&column.Guard{
			Columns: []column.Column{plain[0], heldSecret}, Stored: "a",
			Refuse: reason,
		}, reason},
		"refusal":             {&column.Refusal{Err: reason}, reason},
		"guard of a stranger": {&column.Guard{Columns: plain, Stored: struct{}{}}, errAny},
	} {
		got, err := driver.DefaultParameterConverter.ConvertValue(test.arg)
		switch {
		case test.want == errAny && err != nil: //nolint:errorlint // the marker itself
		case !errors.Is(err, test.want), err != nil && got != nil && got != "":
			t.Errorf("%s: got %v, %v, want %v", name, got, err, test.want)
		case err == nil && name == "plain":
			if text, err := ring(t, keyA).Decrypt(got.(string)); err != nil || text != "text" {
				t.Errorf("%s: got %q, %v", name, text, err)
			}
		case err == nil && got != "a":
			t.Errorf("%s: got %v", name, got)
		}
	}
	// Nor is a bound secret revealed.
	target := held.ScanValue()
	if err := target.Scan(encrypt(t, ring(t, keyA), "text")); err != nil {
		t.Fatal(err)
	}
	s, err := held.FromValue(target)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Reveal(); got != "" || !errors.Is(err, fieldcrypt.ErrNoDriver) {
		t.Errorf("bound: got %q, %v", got, err)
	}
}

// errAny stands for an error of any kind in tables.
var errAny = errors.New("any error")

// Where takes a schema chosen at run time into account.
func TestWhere(t *testing.T) {
	t.Parallel()
	arg, err := column.NewArg(heldSecret, fieldcrypt.New("text"))
	if err != nil {
		t.Fatal(err)
	}
	if got := arg.Where(); got != heldSecret {
		t.Errorf("got %v", got)
	}
	arg.Schema = "billing"
	if got := arg.Where(); got != heldSecret.InSchema("billing") {
		t.Errorf("got %v", got)
	}
	if arg, err := column.NewArg(heldSecret, fieldcrypt.Secret{}); arg != nil || err != nil {
		t.Errorf("absent: got %v, %v", arg, err)
	}
}

// A stored secret in an argument is opened once, not again by the driver.
func TestArgOpensOnce(t *testing.T) {
	useDefault(t, keyA)
	read := stored(t, encrypt(t, ring(t, keyA), "text"))
	arg, err := column.NewArg(heldSecret, read)
	if err != nil {
		t.Fatal(err)
	}
	useDefault(t)
	if got, err := arg.Secret.Reveal(); err != nil || got != "text" {
		t.Errorf("got %q, %v", got, err)
	}
}
