package fernet_test

import (
	"errors"
	"strings"
	"testing"

	fernetgo "github.com/fernet/fernet-go"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

// halves returns a key with one key's signing half and another's encryption
// half.
func halves(t *testing.T, signing, encryption string) string {
	t.Helper()
	keys, err := fernetgo.DecodeKeys(signing, encryption)
	if err != nil {
		t.Fatal(err)
	}
	mixed := *keys[0]
	copy(mixed[16:], keys[1][16:])
	return mixed.Encode()
}

// hasPart reports whether a message quotes any 6 characters of a text.
func hasPart(message, text string) bool {
	for i := 0; i+6 <= len(text); i++ {
		if strings.Contains(message, text[i:i+6]) {
			return true
		}
	}
	return false
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	bare := strings.TrimRight(keyA, "=")
	for name, test := range map[string]struct {
		text string
		want error
	}{
		"URL-safe alphabet":   {keyA, nil},
		"standard alphabet":   {strings.NewReplacer("-", "+", "_", "/").Replace(keyA), nil},
		"mixed alphabets":     {strings.Replace(keyA, "_", "/", 1), nil},
		"line break after":    {keyA + "\n", nil},
		"Windows line break":  {keyA + "\r\n", nil},
		"white space around":  {"\t " + keyA + " ", nil},
		"empty":               {"", fernet.ErrBadKey},
		"white space":         {" \n", fernet.ErrBadKey},
		"without padding":     {bare, fernet.ErrBadKey},
		"short":               {keyA[:40], fernet.ErrBadKey},
		"32 characters":       {keyA[:32], fernet.ErrBadKey},
		"31 bytes":            {keyA[:40] + "4Q==", fernet.ErrBadKey},
		"33 bytes":            {keyA[:40] + "4e4A", fernet.ErrBadKey},
		"long":                {keyA[:40] + keyA, fernet.ErrBadKey},
		"hexadecimal":         {strings.Repeat("73", 32), fernet.ErrBadKey},
		"not base64":          {strings.Replace(keyA, "RpI", "R!I", 1), fernet.ErrBadKey},
		"space inside":        {keyA[:20] + " " + keyA[21:], fernet.ErrBadKey},
		"line break inside":   {keyA[:20] + "\n" + keyA[21:], fernet.ErrBadKey},
		"quoted":              {`"` + keyA + `"`, fernet.ErrBadKey},
		"with its variable":   {"ENCRYPTION_KEY=" + keyA, fernet.ErrBadKey},
		"spare bits set":      {keyA[:42] + "5=", fernet.ErrBadKey},
		"padding inside":      {keyA[:20] + "====" + keyA[24:], fernet.ErrBadKey},
		"all zero":            {strings.Repeat("A", 43) + "=", fernet.ErrBadKey},
		"invalid UTF-8":       {keyA[:20] + "\xff" + keyA[21:], fernet.ErrBadKey},
		"redaction marker":    {redacted, fernet.ErrBadKey},
		"44 bytes, non-ASCII": {strings.Repeat("é", 22), fernet.ErrBadKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := fernet.ParseKey(test.text)
			if !errors.Is(err, test.want) || (key == nil) != (err != nil) {
				t.Fatalf("got %v, %v, want error %v", key, err, test.want)
			}
			if err != nil && hasPart(err.Error(), test.text) {
				t.Errorf("the error quotes the key: %v", err)
			}
			if key != nil {
				token := seal(t, ring(t, test.text), "text")
				if got, err := ring(t, keyA).Decrypt(token); err != nil || got != "text" {
					t.Errorf("the key differs: got %q, %v", got, err)
				}
			}
		})
	}
}

func TestGenerateKey(t *testing.T) {
	t.Parallel()
	text := fernet.GenerateKey()
	if _, err := fernet.ParseKey(text); err != nil {
		t.Error(err)
	}
	if _, err := fernetgo.DecodeKey(text); err != nil {
		t.Error(err)
	}
	if fernet.GenerateKey() == text {
		t.Error("the same key twice")
	}
}

func TestKeyID(t *testing.T) {
	t.Parallel()
	keys := ring(t, keyA, keyB)
	// Pinned: the ID is written into logs and compared across versions.
	if got, want := keys[0].ID(), "ff4b7028"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if keys[0].ID() == keys[1].ID() {
		t.Error("two keys have the same ID")
	}
}

// TestDerive compares with Python's cryptography: HKDF(SHA256(), 32, None,
// info).derive(key).
func TestDerive(t *testing.T) {
	t.Parallel()
	key := ring(t, keyA)[0]
	derived, err := fernet.Derive(key, "credent bound token v1\x00user_credentials\x00api_key\x00user-1")
	if err != nil {
		t.Fatal(err)
	}
	if !fernet.Same(derived, ring(t, "1NVCm77I4PTgCZzQxTKm0LB0UJ5u8jLf4tXvyW762_0=")[0]) {
		t.Error("the key differs from Python's")
	}
	if derived.ID() != key.ID() {
		t.Error("a derived key's ID differs from its source's")
	}
	if other, err := fernet.Derive(key, "other"); err != nil || fernet.Same(other, derived) ||
		fernet.SignsLike(other, derived) {
		t.Errorf("two purposes have the same key: %v", err)
	}
	short, err := fernet.Subkey(key, "label", 16)
	if err != nil || len(short) != 16 {
		t.Errorf("got %d bytes, %v", len(short), err)
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	all := ring(t, keyA, keyA, keyB, halves(t, keyA, keyB))
	for i, want := range []struct{ same, signs bool }{{true, true}, {true, true}, {false, false}, {false, true}} {
		if got := fernet.Same(all[0], all[i]); got != want.same {
			t.Errorf("key %d: same %v", i, got)
		}
		if got := fernet.SignsLike(all[0], all[i]); got != want.signs {
			t.Errorf("key %d: signs alike %v", i, got)
		}
	}
	if got := fernet.Text(all[0]); got != keyA {
		t.Error("Text returns a different key")
	}
}
