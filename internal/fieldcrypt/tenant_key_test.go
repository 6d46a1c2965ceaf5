package fieldcrypt_test

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fernet/fernet-go"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

func newTestKey(t *testing.T, text string) *fieldcrypt.Key {
	t.Helper()
	key, err := fieldcrypt.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestWrapTenantKey(t *testing.T) {
	t.Parallel()
	oldText, newText, data := fieldcrypt.GenerateKey(), fieldcrypt.GenerateKey(), fieldcrypt.GenerateKey()
	old, both, other := ring(t, oldText), ring(t, newText, oldText), ring(t, fieldcrypt.GenerateKey())

	wrapped, err := old.WrapTenantKey("u-1", newTestKey(t, data))
	if err != nil {
		t.Fatal(err)
	}
	key, under, err := both.UnwrapTenantKey("u-1", wrapped)
	if err != nil || key.ID() != newTestKey(t, data).ID() || under != both.Keys()[1] {
		t.Errorf("unwrapped %v under %v, %v", key, under, err)
	}
	rewrapped, changed, err := both.RewrapTenantKey("u-1", wrapped)
	if err != nil || !changed || rewrapped == wrapped {
		t.Errorf("rewrapping: changed %t, %v", changed, err)
	}
	if _, under, err := both.UnwrapTenantKey("u-1", rewrapped); err != nil || under != both.Primary() {
		t.Errorf("rewrapped, it is under %v, %v", under, err)
	}
	if again, changed, err := both.RewrapTenantKey("u-1", rewrapped); again != rewrapped || changed || err != nil {
		t.Errorf("rewrapping again: changed %t, %v", changed, err)
	}

	// Another tenant, another keyring, the keys of the keyring themselves, and what is no key.
	noKey, err := old.Encrypt(data)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		ring            *fieldcrypt.Keyring
		tenant, wrapped string
		want            error
	}{
		"of another tenant":      {old, "u-2", wrapped, fieldcrypt.ErrUnknownKey},
		"under another keyring":  {other, "u-1", wrapped, fieldcrypt.ErrUnknownKey},
		"under the key itself":   {old, "u-1", noKey, fieldcrypt.ErrUnknownKey},
		"cut":                    {old, "u-1", wrapped[:len(wrapped)-4], fieldcrypt.ErrCorrupt},
		"not a token":            {old, "u-1", data, fieldcrypt.ErrNotEncrypted},
		"without a keyring":      {nil, "u-1", wrapped, fieldcrypt.ErrNoKey},
		"a token of something":   {old, "u-1", wrapText(t, oldText, "u-1", "not a key"), fieldcrypt.ErrCorrupt},
		"a token of a zero key":  {old, "u-1", wrapText(t, oldText, "u-1", strings.Repeat("A", 43)+"="), fieldcrypt.ErrCorrupt},
		"tenants run together":   {old, "u-1\x00", wrapped, fieldcrypt.ErrUnknownKey},
		"the tenant in capitals": {old, "U-1", wrapped, fieldcrypt.ErrUnknownKey},
	} {
		key, _, err := test.ring.UnwrapTenantKey(test.tenant, test.wrapped)
		if !errors.Is(err, test.want) || key != nil {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		if err != nil && (strings.Contains(err.Error(), data) || strings.Contains(err.Error(), "not a key")) {
			t.Errorf("%s: the error has the plaintext in it: %v", name, err)
		}
	}
}

// wrapText wraps a text as the documentation says, with fernet-go in place of our codec.
func wrapText(t *testing.T, key, tenant, text string) string {
	t.Helper()
	raw, err := base64.URLEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	derived, err := hkdf.Key(sha256.New, raw, nil, "credent tenant key v1\x00"+tenant, 32)
	if err != nil {
		t.Fatal(err)
	}
	sub := fernet.Key(derived)
	token, err := fernet.EncryptAndSign([]byte(text), &sub)
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

// The form of wrapped keys is fixed: other programs read them.
func TestWrappedTenantKeyFormat(t *testing.T) {
	t.Parallel()
	text, data := fieldcrypt.GenerateKey(), fieldcrypt.GenerateKey()
	key, _, err := ring(t, text).UnwrapTenantKey("Ü-1", wrapText(t, text, "Ü-1", data))
	if err != nil || key.ID() != newTestKey(t, data).ID() {
		t.Errorf("%v, %v", key, err)
	}
}

// Nothing that holds a data key prints it.
func TestTenantKeyPrints(t *testing.T) {
	t.Parallel()
	text := fieldcrypt.GenerateKey()
	key := newTestKey(t, text)
	raw, err := base64.URLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{fieldcrypt.TenantKey{Data: key}, &fieldcrypt.TenantKey{Data: key}, fieldcrypt.KeyringOf(key)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			printed := fmt.Sprintf(verb, v)
			for _, secret := range []string{text, fmt.Sprintf("%x", raw), fmt.Sprintf("%d", raw), fmt.Sprintf("%d", raw[:4])} {
				if strings.Contains(printed, strings.Trim(secret, "[]")) {
					t.Errorf("%s of a %T has the key in it", verb, v)
				}
			}
		}
		if data, err := json.Marshal(v); err == nil && strings.Contains(string(data), text) {
			t.Errorf("the JSON of a %T has the key in it", v)
		}
	}
}
