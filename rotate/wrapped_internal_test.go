package rotate

import (
	"errors"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
)

func newRing(t *testing.T, primary string, previous ...string) *keyring.Ring {
	t.Helper()
	ring, err := keyring.New(primary, previous...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func encrypt(t *testing.T, ring *keyring.Ring, plaintext string) string {
	t.Helper()
	token, err := ring.Encrypt(plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A rewrapped key is the same key, under the primary key.
func TestRewrap(t *testing.T) {
	t.Parallel()
	oldKey, newKey := fernet.GenerateKey(), fernet.GenerateKey()
	old, both := newRing(t, oldKey), newRing(t, newKey, oldKey)
	data, err := fernet.ParseKey(fernet.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := tenantkey.Wrap(old, "u-1", data)
	if err != nil {
		t.Fatal(err)
	}
	rewrapped, changed, err := rewrap(both, "u-1", wrapped)
	if err != nil || !changed || rewrapped == wrapped {
		t.Errorf("changed %t, %v", changed, err)
	}
	if key, under, err := tenantkey.Unwrap(both, "u-1", rewrapped); err != nil || under != both.Primary() ||
		!fernet.Same(key, data) {
		t.Errorf("it is under %v, %v", under, err)
	}
	if again, changed, err := rewrap(both, "u-1", rewrapped); again != rewrapped || changed || err != nil {
		t.Errorf("once more: changed %t, %v", changed, err)
	}
}

// Nobody can open what replaces an overwritten secret.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	token, err := unreadable()
	if err != nil || !fernet.IsToken(token) {
		t.Errorf("got %q, %v", token, err)
	}
	if again, err := unreadable(); err != nil || again == token {
		t.Errorf("twice the same, or %v", err)
	}
}

// Tokens become plaintext if the column can hold it.
func TestDecryptStored(t *testing.T) {
	t.Parallel()
	keyA, keyB := fernet.GenerateKey(), fernet.GenerateKey()
	r, other, only := newRing(t, keyA, keyB), newRing(t, keyB), newRing(t, keyA)
	var locator seal.Locator
	for name, test := range map[string]struct {
		stored, want string
		changed      bool
		err          error
	}{
		"token":                    {encrypt(t, r, "text"), "text", true, nil},
		"of an earlier key":        {encrypt(t, other, "text"), "text", true, nil},
		"of nothing":               {encrypt(t, r, ""), "", true, nil},
		"plaintext":                {"PKA1B2C3D4", "PKA1B2C3D4", false, nil},
		"empty":                    {"", "", false, nil},
		"damaged":                  {"gAAAA-plaintext", "", false, fernet.ErrCorrupt},
		"of a token":               {encrypt(t, r, encrypt(t, r, "text")), "", false, seal.ErrLooksLikeToken},
		"plaintext like a token":   {encrypt(t, r, "gAAAA"), "", false, seal.ErrLooksLikeToken},
		"not UTF-8":                {encrypt(t, r, "text\xff"), "", false, column.ErrNotText},
		"that Postgres can't hold": {encrypt(t, r, "te\x00xt"), "", false, column.ErrNotText},
	} {
		got, changed, err := decryptStored(&locator, r, test.stored, seal.Place{})
		if got != test.want || changed != test.changed || !errors.Is(err, test.err) {
			t.Errorf("%s: got %q, %v, %v", name, got, changed, err)
		}
	}
	unknown := encrypt(t, other, "text")
	if _, _, err := decryptStored(&locator, only, unknown, seal.Place{}); !errors.Is(err, fernet.ErrUnknownKey) {
		t.Errorf("of another key: %v", err)
	}
}
