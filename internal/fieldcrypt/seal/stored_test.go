package seal_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

// inWindow returns stored values, and what revealing them gives in a column
// that may hold plaintext.
func inWindow(t *testing.T, r *keyring.Ring) map[string]struct {
	stored, want string
	plaintext    bool
	err          error
} {
	t.Helper()
	token := encrypt(t, r, "text")
	return map[string]struct {
		stored, want string
		plaintext    bool
		err          error
	}{
		"plaintext":        {"PKA1B2C3D4", "PKA1B2C3D4", true, nil},
		"empty":            {"", "", true, nil},
		"almost a prefix":  {"gAAA", "gAAA", true, nil},
		"prefix elsewhere": {" gAAAA", " gAAAA", true, nil},
		"token":            {token, "text", false, nil},
		"truncated":        {token[:50], "", false, fernet.ErrCorrupt},
		"prefix alone":     {"gAAAA", "", false, fernet.ErrCorrupt},
		"looks like one":   {"gAAAA-plaintext", "", false, fernet.ErrCorrupt},
		"of another key":   {encrypt(t, ring(t, keyB), "text"), "", false, fernet.ErrUnknownKey},
		"marker":           {fieldcrypt.Redacted, "", true, fieldcrypt.ErrRedacted},
	}
}

func TestEncryptStored(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA, keyB)
	var locator seal.Locator
	for name, test := range inWindow(t, ring(t, keyA)) {
		if name == "of another key" { // an earlier key of r
			test.err = nil
		}
		token, changed, err := locator.EncryptStored(r, test.stored, seal.Place{Column: wide}, seal.Keep)
		if !errors.Is(err, test.err) || changed != (test.plaintext && test.err == nil) {
			t.Errorf("%s: got changed %v, %v, want %v", name, changed, err, test.err)
		}
		if !changed {
			if err == nil && token != test.stored {
				t.Errorf("%s: the token changed", name)
			}
			continue
		}
		if got, err := r.Decrypt(token); err != nil || got != test.want || r.Primary() != keyOf(t, r, token) {
			t.Errorf("%s: it opens as %q, %v", name, got, err)
		}
	}
	for name, test := range map[string]struct {
		stored string
		column column.Column
		want   error
	}{
		"longest":             {strings.Repeat("x", 303), wide, nil},
		"too long":            {strings.Repeat("x", 304), wide, column.ErrTooLong},
		"longest of another":  {strings.Repeat("x", 15), narrow, nil},
		"too long of another": {strings.Repeat("x", 16), narrow, column.ErrTooLong},
		"not UTF-8":           {"text\xff", wide, column.ErrNotText},
	} {
		if _, changed, err := locator.EncryptStored(r, test.stored, seal.Place{Column: test.column},
			seal.Keep); !errors.Is(err, test.want) || changed != (test.want == nil) {
			t.Errorf("%s: got changed %v, %v, want %v", name, changed, err, test.want)
		}
	}
	if _, _, err := locator.EncryptStored(nil, "text", seal.Place{Column: wide}, seal.Keep); !errors.Is(err,
		keyring.ErrNoKey) {
		t.Errorf("without a keyring: %v", err)
	}
}

// Plaintext in a column of bytes needn't be UTF-8.
func TestEncryptStoredBytes(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	raw := column.Column{Table: "t", Name: "raw", Size: 500, Type: "[]byte"}
	token, changed, err := new(seal.Locator).EncryptStored(r, "raw\xff", seal.Place{Column: raw}, seal.Keep)
	if err != nil || !changed {
		t.Fatalf("got changed %v, %v", changed, err)
	}
	if got, err := r.Decrypt(token); err != nil || got != "raw\xff" {
		t.Errorf("got %q, %v", got, err)
	}
}

func keyOf(t *testing.T, r *keyring.Ring, token string) *fernet.Key {
	t.Helper()
	o, err := new(seal.Locator).OpenAt(r, seal.Place{}, token)
	if err != nil {
		t.Fatal(err)
	}
	return o.Key
}

// TestReencrypt covers tokens that are bound or not, under the primary key or
// an earlier one.
func TestReencrypt(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA, keyB)
	var locator seal.Locator
	at := in(rentedKey, "b")
	nobodys := seal.Place{Column: rentedKey}
	tokens := map[string]string{
		"primary":        encrypt(t, r, "text"),
		"earlier":        encrypt(t, ring(t, keyB), "text"),
		"bound":          encrypt(t, bound(t, r, rentedKey, "b"), "text"),
		"bound, earlier": encrypt(t, bound(t, ring(t, keyB), rentedKey, "b"), "text"),
		"another's":      encrypt(t, bound(t, r, rentedKey, "a"), "text"),
		"unknown":        encrypt(t, ring(t, keyC), "text"),
	}
	for _, test := range []struct {
		token   string
		place   seal.Place
		to      seal.Rebinding
		changed bool
		bound   bool
		want    error
	}{
		{"primary", at, seal.Keep, false, false, nil},
		{"primary", at, seal.Bind, true, true, nil},
		{"primary", at, seal.Unbind, false, false, nil},
		{"primary", nobodys, seal.Keep, false, false, nil},
		{"primary", nobodys, seal.Bind, false, false, seal.ErrNoTenant},
		{"earlier", at, seal.Keep, true, false, nil},
		{"earlier", at, seal.Bind, true, true, nil},
		{"earlier", nobodys, seal.Unbind, true, false, nil},
		{"bound", at, seal.Keep, false, true, nil},
		{"bound", at, seal.Bind, false, true, nil},
		{"bound", at, seal.Unbind, true, false, nil},
		{"bound", nobodys, seal.Keep, false, false, fernet.ErrUnknownKey},
		{"bound, earlier", at, seal.Keep, true, true, nil},
		{"bound, earlier", at, seal.Unbind, true, false, nil},
		{"another's", at, seal.Keep, false, false, fernet.ErrUnknownKey},
		{"another's", at, seal.Bind, false, false, fernet.ErrUnknownKey},
		{"unknown", at, seal.Keep, false, false, fernet.ErrUnknownKey},
	} {
		token := tokens[test.token]
		got, changed, isBound, err := locator.Reencrypt(r, test.place, token, test.to)
		if changed != test.changed || !errors.Is(err, test.want) || err == nil && isBound != test.bound {
			t.Errorf("%s to %d: got changed %v, bound %v, %v", test.token, test.to, changed, isBound, err)
		}
		if err != nil {
			continue
		}
		if changed == (got == token) {
			t.Errorf("%s to %d: changed %v, and the token is the same: %v", test.token, test.to, changed, got == token)
		}
		of := r
		if test.bound {
			of = bound(t, r, rentedKey, "b")
		}
		if text, err := of.Decrypt(got); err != nil || text != "text" {
			t.Errorf("%s to %d: got %q, %v", test.token, test.to, text, err)
		}
		if o, err := locator.OpenAt(r, test.place, got); err != nil || o.Plaintext != "text" ||
			o.Bound != test.bound || o.Key != r.Primary() {
			t.Errorf("%s to %d: got %q under %v, bound %v, %v", test.token, test.to, o.Plaintext, o.Key.ID(), o.Bound,
				err)
		}
	}
	// For a column that the schema binds, the error says more.
	if _, err := locator.OpenAt(r, in(heldSecret, "b"), encrypt(t, bound(t, r, heldSecret, "a"),
		"text")); !errors.Is(err, seal.ErrWrongLocation) ||
		!errors.Is(err, fernet.ErrUnknownKey) {
		t.Errorf("a moved token: %v", err)
	}
	if _, _, _, err := locator.Reencrypt(nil, at, tokens["primary"], seal.Keep); !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("no keyring: %v", err)
	}
	if token, changed, err := locator.EncryptStored(r, "text", at, seal.Bind); err != nil || !changed {
		t.Errorf("plaintext: %v", err)
	} else if text, err := bound(t, r, rentedKey, "b").Decrypt(token); err != nil || text != "text" {
		t.Errorf("plaintext: got %q, %v", text, err)
	}
	if _, _, err := locator.EncryptStored(r, "text", nobodys, seal.Bind); !errors.Is(err, seal.ErrNoTenant) {
		t.Errorf("plaintext without a tenant: %v", err)
	}
	if o, err := locator.OpenAt(r, at, tokens["bound, earlier"]); err != nil || o.Plaintext != "text" {
		t.Errorf("back: got %q, %v", o.Plaintext, err)
	}
}
