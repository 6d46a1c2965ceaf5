package fernet_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	fernetgo "github.com/fernet/fernet-go"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

// Fuzzing uses the key of the Fernet spec's vectors, so that their mutations
// get past the signature.

// addTokens seeds with the vectors, and with values that are almost tokens.
func addTokens(f *testing.F) {
	f.Helper()
	for _, v := range slices.Concat(vectors(f, "verify.json"), vectors(f, "invalid.json"),
		vectors(f, "generate.json")) {
		f.Add(v.Token)
		f.Add(v.Token + "\n")
		f.Add(v.Token + v.Token)
		f.Add(strings.TrimRight(v.Token, "="))
		f.Add(strings.NewReplacer("-", "+", "_", "/").Replace(v.Token))
	}
	for _, token := range []string{"", "gAAAA", "PKA1B2C3D4E5F6G7H8I9", redacted, "gAAAA\x00\xff"} {
		f.Add(token)
	}
}

// reference decrypts with fernet-go. A panic on a signed token counts as a
// refusal.
func reference(tb testing.TB, keyText, token string) (plaintext []byte) {
	tb.Helper()
	key, err := fernetgo.DecodeKey(keyText)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() {
		if recover() != nil {
			plaintext = nil
		}
	}()
	return fernetgo.VerifyAndDecrypt([]byte(token), 0, []*fernetgo.Key{key})
}

func FuzzDecrypt(f *testing.F) {
	addTokens(f)
	r := ring(f, keyB, keyA)
	f.Fuzz(func(t *testing.T, token string) {
		got, err := r.Decrypt(token)
		if err != nil {
			if got != "" || !errors.Is(err, fernet.ErrCorrupt) && !errors.Is(err, fernet.ErrNotEncrypted) {
				t.Errorf("got %q, %v", got, err)
			}
			return
		}
		if want := reference(t, keyA, token); want == nil || string(want) != got {
			t.Errorf("got %q, fernet-go %q", got, want)
		}
		if again := base64.URLEncoding.EncodeToString(decodeToken(t, token)); again != token {
			t.Errorf("accepted %q; its canonical form is %q", token, again)
		}
	})
}

// addBodies seeds with the part of a token before its signature.
func addBodies(f *testing.F) {
	f.Helper()
	for _, v := range slices.Concat(vectors(f, "verify.json"), vectors(f, "invalid.json")) {
		if raw, err := base64.URLEncoding.DecodeString(v.Token); err == nil && len(raw) > 32 {
			f.Add(raw[:len(raw)-32])
		}
	}
	for size := range 60 { // without an IV, without ciphertext, and with partial blocks
		f.Add(append([]byte{0x80}, make([]byte, size)...))
	}
	for _, pad := range []byte{0, 1, 16, 17, 32, 255} {
		f.Add(decodeToken(f, signedBlocks(f, keyA, bytes.Repeat([]byte{pad}, 32)))[:25+32])
	}
}

func FuzzDecryptSigned(f *testing.F) {
	addBodies(f)
	r := ring(f, keyA)
	f.Fuzz(func(t *testing.T, body []byte) {
		token := signedToken(t, keyA, body)
		got, err := r.Decrypt(token)
		want := reference(t, keyA, token)
		if err == nil {
			if want == nil || string(want) != got {
				t.Errorf("got %q, fernet-go %q", got, want)
			}
			return
		}
		if errors.Is(err, fernet.ErrUnknownKey) {
			t.Errorf("a signed token: got %v", err)
		}
		// fernet-go also accepts padding of no or too many bytes, and times
		// that change the prefix.
		pad := len(body) - 25 - len(want)
		if want != nil && pad >= 1 && pad <= 16 && strings.HasPrefix(token, "gAAAA") {
			t.Errorf("got %v, fernet-go %q", err, want)
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	for _, plaintext := range plaintexts {
		f.Add([]byte(plaintext))
	}
	r, readers := ring(f, keyA), ring(f, keyC, keyB, keyA)
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		token := seal(t, r, string(plaintext))
		if len(token) != fernet.TokenLen(len(plaintext)) || !strings.HasPrefix(token, "gAAAA") {
			t.Errorf("%d bytes: got the token %q", len(plaintext), token)
		}
		if got, err := readers.Decrypt(token); err != nil || got != string(plaintext) {
			t.Errorf("got %q, %v, want %q", got, err, plaintext)
		}
		if got := reference(t, keyA, token); got == nil || !bytes.Equal(got, plaintext) {
			t.Errorf("fernet-go got %q, want %q", got, plaintext)
		}
	})
}

// keyErrors matches ParseKey's errors, which are short. FuzzCause of package
// keytext checks that they don't contain the key.
var keyErrors = regexp.MustCompile(`^bad encryption key: its? [^\n]{6,250}$`)

func FuzzParseKey(f *testing.F) {
	for _, text := range []string{
		keyA, keyB, keyA + "\n", strings.TrimRight(keyA, "="), keyA[:42] + "5=", strings.Repeat("A", 43) + "=",
		strings.Repeat("73", 32), "", " ", keyA[:20] + "\r\n" + keyA[22:], strings.Replace(keyA, "_", "/", 1),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, err := fernet.ParseKey(text)
		if err != nil {
			if key != nil || !keyErrors.MatchString(err.Error()) {
				t.Errorf("got %v, %v", key, err)
			}
			return
		}
		canonical := strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimSpace(text))
		theirs, err := fernetgo.DecodeKey(canonical)
		if err != nil || theirs.Encode() != canonical {
			t.Fatalf("accepted a key that fernet-go does not: %v", err)
		}
		token, err := fernetgo.EncryptAndSign([]byte("text"), theirs)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ring(t, text).Decrypt(string(token)); err != nil || got != "text" {
			t.Errorf("the key differs: got %q, %v", got, err)
		}
	})
}
