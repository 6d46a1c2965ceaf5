package fernet_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	fernetgo "github.com/fernet/fernet-go"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

const (
	keyA = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=" // from the Fernet spec's vectors
	keyB = "3vYpT7mQx0bL2nKcR9sWfZ1gHjUe5aDq8iOy4MtXk6E="
	keyC = "Q0kq9xF2uZ7bW1nTy5cV8mRj3pLs6hGd4aKe0iXoUwA="

	redacted = "[REDACTED]"
)

// keys encrypt under the first, and decrypt under each.
type keys []*fernet.Key

// ring parses keys, or fails the test.
func ring(tb testing.TB, texts ...string) keys {
	tb.Helper()
	list := make(keys, len(texts))
	for i, text := range texts {
		var err error
		if list[i], err = fernet.ParseKey(text); err != nil {
			tb.Fatal(err)
		}
	}
	return list
}

func (k keys) Decrypt(token string) (string, error) {
	plaintext, _, err := fernet.Decrypt(k, 0, token)
	return plaintext, err
}

// seal encrypts under the first key.
func seal(tb testing.TB, k keys, plaintext string) string {
	tb.Helper()
	return fernet.Encrypt(k[0], plaintext)
}

// plaintexts are keys like those brokers issue, and texts that break encoders.
var plaintexts = map[string]string{
	"Alpaca key ID":             "PKA1B2C3D4E5F6G7H8I9",
	"Alpaca paper key ID":       "PKTESTXY12345678ABCD",
	"Alpaca live key ID":        "AKZ9Y8X7W6V5U4T3S2R1",
	"Polygon key":               "sp_9aB8cD7eF6gH5iJ4kL3mN2oP1qR0sT",
	"lower-case alphanumerics":  "m7z2k9q4x1c8v5b3n6l0p2o4i6u8y1t3",
	"special characters":        `!@#$%^&*()_+-=[]{}|;':",./<>?` + "`~\\",
	"non-ASCII":                 "ключ-密钥-🔑-é",
	"invalid UTF-8":             "\xff\xfe\x80key\xc3",
	"NUL bytes":                 "\x00key\x00\x00",
	"line breaks":               "a\r\nb\n",
	"empty":                     "",
	"one block":                 strings.Repeat("b", 16),
	"looks like a token":        "gAAAAABlooks_like_a_token",
	"longest of varchar(500)":   strings.Repeat("x", 303),
	"too long for varchar(500)": strings.Repeat("x", 304),
	"one page":                  strings.Repeat("p", 4096),
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	r := ring(t, fernet.GenerateKey())
	for name, plaintext := range plaintexts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := seal(t, r, plaintext)
			if got, err := r.Decrypt(token); err != nil || got != plaintext {
				t.Errorf("decrypt: got %q, %v, want %q", got, err, plaintext)
			}
			if !strings.HasPrefix(token, "gAAAA") {
				t.Errorf("the token begins %q", token[:5])
			}
			if len(token) <= len(plaintext) {
				t.Errorf("the token has %d characters, the plaintext %d bytes", len(token), len(plaintext))
			}
			if len(plaintext) > 3 && strings.Contains(token, plaintext) {
				t.Error("the token contains the plaintext")
			}
			if again := seal(t, r, plaintext); again == token {
				t.Error("encrypted twice, the token is the same")
			}

			sealed := fernet.AppendEncrypt([]byte("before "), r[0], plaintext)
			if got, err := r.Decrypt(strings.TrimPrefix(string(sealed), "before ")); err != nil || got != plaintext {
				t.Errorf("appended: got %q, %v, want %q", got, err, plaintext)
			}
			appended, _, err := fernet.AppendDecrypt([]byte("before "), r, 0, token)
			if want := "before " + plaintext; err != nil || string(appended) != want {
				t.Errorf("append: got %q, %v, want %q", appended, err, want)
			}
		})
	}
}

// TestAppendRefuses checks that AppendDecrypt leaves the caller's buffer
// unchanged when it fails.
func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	token := seal(t, ring(t, fernet.GenerateKey()), "text")
	other := ring(t, fernet.GenerateKey())
	got, _, err := fernet.AppendDecrypt([]byte("before"), other, 0, token)
	if string(got) != "before" || !errors.Is(err, fernet.ErrUnknownKey) {
		t.Errorf("decrypt with another key: got %q, %v", got, err)
	}
}

func TestTokenTimestamp(t *testing.T) {
	t.Parallel()
	before := time.Now().Unix()
	token := seal(t, ring(t, fernet.GenerateKey()), "text")
	after := time.Now().Unix()
	if got := int64(binary.BigEndian.Uint64(decodeToken(t, token)[1:])); got < before || got > after {
		t.Errorf("timestamp: got %d, want %d to %d", got, before, after)
	}
}

func TestTokenLen(t *testing.T) {
	t.Parallel()
	r := ring(t, fernet.GenerateKey())
	text := strings.Repeat("x", 4096)
	for n := range len(text) + 1 {
		token := seal(t, r, text[:n])
		if got := fernet.TokenLen(n); got != len(token) {
			t.Fatalf("TokenLen(%d): got %d, want %d", n, got, len(token))
		}
	}
}

func TestMaxPlaintext(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]int{500: 303, 484: 303, 483: 287, 100: 15, 255: 127} {
		if got := fernet.MaxPlaintext(size); got != want {
			t.Errorf("MaxPlaintext(%d): got %d, want %d", size, got, want)
		}
	}
	for size := range 3000 {
		n := fernet.MaxPlaintext(size)
		if n >= 0 && fernet.TokenLen(n) > size {
			t.Errorf("MaxPlaintext(%d) is %d, and its token has %d characters", size, n, fernet.TokenLen(n))
		}
		if fernet.TokenLen(max(n+1, 0)) <= size {
			t.Errorf("MaxPlaintext(%d) is %d, but one byte more fits", size, n)
		}
	}
}

// TestAnyTime opens tokens with any timestamp.
func TestAnyTime(t *testing.T) {
	t.Parallel()
	key := fernet.GenerateKey()
	decoded, err := fernetgo.DecodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{time.Unix(0, 0), time.Now().AddDate(100, 0, 0), time.Unix(1<<42-1, 0)} {
		token, err := fernetgo.EncryptAndSignAtTime([]byte("text"), decoded, at)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ring(t, key).Decrypt(string(token)); err != nil || got != "text" {
			t.Errorf("token of %v: got %q, %v", at, got, err)
		}
	}
}

func TestUnknownKey(t *testing.T) {
	t.Parallel()
	token := seal(t, ring(t, fernet.GenerateKey()), "text")
	for name, r := range map[string]keys{
		"one key":    ring(t, fernet.GenerateKey()),
		"three keys": ring(t, fernet.GenerateKey(), fernet.GenerateKey(), fernet.GenerateKey()),
	} {
		got, err := r.Decrypt(token)
		if got != "" || !errors.Is(err, fernet.ErrUnknownKey) || !errors.Is(err, fernet.ErrCorrupt) {
			t.Errorf("%s: got %q, %v, want ErrUnknownKey", name, got, err)
		}
	}
}

// TestInterchange reads fernet-go's tokens, and has fernet-go read ours.
func TestInterchange(t *testing.T) {
	t.Parallel()
	text := fernet.GenerateKey()
	key, err := fernetgo.DecodeKey(text)
	if err != nil {
		t.Fatal(err)
	}
	r := ring(t, text)
	for name, plaintext := range plaintexts {
		theirs, err := fernetgo.EncryptAndSign([]byte(plaintext), key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Decrypt(string(theirs)); err != nil || got != plaintext {
			t.Errorf("%s: fernet-go's token: got %q, %v", name, got, err)
		}
		got := fernetgo.VerifyAndDecrypt([]byte(seal(t, r, plaintext)), 0, []*fernetgo.Key{key})
		if got == nil || string(got) != plaintext {
			t.Errorf("%s: our token: fernet-go got %q", name, got)
		}
	}
}
