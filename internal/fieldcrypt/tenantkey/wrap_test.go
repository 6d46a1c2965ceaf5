package tenantkey_test

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	fernetgo "github.com/fernet/fernet-go"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
)

// ring makes a keyring, or fails the test.
func ring(tb testing.TB, primary string, previous ...string) *keyring.Ring {
	tb.Helper()
	r, err := keyring.New(primary, previous...)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func newTestKey(t *testing.T, text string) *fernet.Key {
	t.Helper()
	key, err := fernet.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestWrap(t *testing.T) {
	t.Parallel()
	oldText, newText, data := fernet.GenerateKey(), fernet.GenerateKey(), fernet.GenerateKey()
	old, both, other := ring(t, oldText), ring(t, newText, oldText), ring(t, fernet.GenerateKey())

	wrapped, err := tenantkey.Wrap(old, "u-1", newTestKey(t, data))
	if err != nil {
		t.Fatal(err)
	}
	key, under, err := tenantkey.Unwrap(both, "u-1", wrapped)
	if err != nil || key.ID() != newTestKey(t, data).ID() || under != both.Keys()[1] {
		t.Errorf("unwrapped %v under %v, %v", key, under, err)
	}
	noKey, err := old.Encrypt(data)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		ring            *keyring.Ring
		tenant, wrapped string
		want            error
	}{
		"of another tenant":     {old, "u-2", wrapped, fernet.ErrUnknownKey},
		"under another keyring": {other, "u-1", wrapped, fernet.ErrUnknownKey},
		"under the key itself":  {old, "u-1", noKey, fernet.ErrUnknownKey},
		"cut":                   {old, "u-1", wrapped[:len(wrapped)-4], fernet.ErrCorrupt},
		"not a token":           {old, "u-1", data, fernet.ErrNotEncrypted},
		"without a keyring":     {nil, "u-1", wrapped, keyring.ErrNoKey},
		"a token of something":  {old, "u-1", wrapText(t, oldText, "u-1", "not a key"), fernet.ErrCorrupt},
		"a token of a zero key": {
			old, "u-1", wrapText(t, oldText, "u-1", strings.Repeat("A", 43)+"="),
			fernet.ErrCorrupt,
		},
		"tenants run together":   {old, "u-1\x00", wrapped, fernet.ErrUnknownKey},
		"the tenant in capitals": {old, "U-1", wrapped, fernet.ErrUnknownKey},
	} {
		key, _, err := tenantkey.Unwrap(test.ring, test.tenant, test.wrapped)
		if !errors.Is(err, test.want) || key != nil {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		if err != nil && (strings.Contains(err.Error(), data) || strings.Contains(err.Error(), "not a key")) {
			t.Errorf("%s: the error contains the plaintext: %v", name, err)
		}
	}
}

// wrapText wraps a text as documented, with fernet-go instead of our codec.
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
	sub := fernetgo.Key(derived)
	token, err := fernetgo.EncryptAndSign([]byte(text), &sub)
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

// The format of wrapped keys is fixed, since other programs read them.
func TestWrappedFormat(t *testing.T) {
	t.Parallel()
	text, data := fernet.GenerateKey(), fernet.GenerateKey()
	key, _, err := tenantkey.Unwrap(ring(t, text), "Ü-1", wrapText(t, text, "Ü-1", data))
	if err != nil || key.ID() != newTestKey(t, data).ID() {
		t.Errorf("%v, %v", key, err)
	}
}

// Values that hold a data key don't print it.
func TestPrints(t *testing.T) {
	t.Parallel()
	text := fernet.GenerateKey()
	key := newTestKey(t, text)
	raw, err := base64.URLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{tenantkey.Key{Data: key}, &tenantkey.Key{Data: key}, keyring.Of(key)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			printed := fmt.Sprintf(verb, v)
			for _, secret := range []string{
				text, fmt.Sprintf("%x", raw), fmt.Sprintf("%d", raw),
				fmt.Sprintf("%d", raw[:4]),
			} {
				if strings.Contains(printed, strings.Trim(secret, "[]")) {
					t.Errorf("%s of a %T contains the key", verb, v)
				}
			}
		}
		if data, err := json.Marshal(v); err == nil && strings.Contains(string(data), text) {
			t.Errorf("the JSON of a %T contains the key", v)
		}
	}
}
