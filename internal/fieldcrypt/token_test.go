package fieldcrypt_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fernet/fernet-go"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// ring makes a keyring, or fails the test.
func ring(tb testing.TB, primary string, previous ...string) *fieldcrypt.Keyring {
	tb.Helper()
	r, err := fieldcrypt.NewKeyring(primary, previous...)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// seal encrypts, or fails the test.
func seal(tb testing.TB, r *fieldcrypt.Keyring, plaintext string) string {
	tb.Helper()
	token, err := r.Encrypt(plaintext)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// plaintexts are what brokers hand out as keys, and what breaks encoders.
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
	r := ring(t, fieldcrypt.GenerateKey())
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
				t.Error("the token has the plaintext in it")
			}
			if again := seal(t, r, plaintext); again == token {
				t.Error("encrypted twice, the token is the same")
			}

			sealed, err := r.AppendEncrypt(nil, plaintext)
			if err != nil {
				t.Fatal(err)
			}
			appended, err := r.AppendDecrypt([]byte("before "), string(sealed))
			if want := "before " + plaintext; err != nil || string(appended) != want {
				t.Errorf("append: got %q, %v, want %q", appended, err, want)
			}
		})
	}
}

// TestAppendRefuses has what the append forms leave of the caller's buffer when they fail.
func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	token := seal(t, ring(t, fieldcrypt.GenerateKey()), "text")
	var none *fieldcrypt.Keyring
	if got, err := none.AppendEncrypt([]byte("before"), "text"); string(got) != "before" || !errors.Is(err, fieldcrypt.ErrNoKey) {
		t.Errorf("encrypt without a key: got %q, %v", got, err)
	}
	if got, err := none.AppendDecrypt([]byte("before"), token); string(got) != "before" || !errors.Is(err, fieldcrypt.ErrNoKey) {
		t.Errorf("decrypt without a key: got %q, %v", got, err)
	}
	other := ring(t, fieldcrypt.GenerateKey())
	if got, err := other.AppendDecrypt([]byte("before"), token); string(got) != "before" || !errors.Is(err, fieldcrypt.ErrUnknownKey) {
		t.Errorf("decrypt with another key: got %q, %v", got, err)
	}
}

func TestTokenTimestamp(t *testing.T) {
	t.Parallel()
	before := time.Now().Unix()
	token := seal(t, ring(t, fieldcrypt.GenerateKey()), "text")
	after := time.Now().Unix()
	if got := int64(binary.BigEndian.Uint64(decodeToken(t, token)[1:])); got < before || got > after {
		t.Errorf("timestamp: got %d, want %d to %d", got, before, after)
	}
}

func TestTokenLen(t *testing.T) {
	t.Parallel()
	r := ring(t, fieldcrypt.GenerateKey())
	text := strings.Repeat("x", 4096)
	for n := range len(text) + 1 {
		token := seal(t, r, text[:n])
		if got := fieldcrypt.TokenLen(n); got != len(token) {
			t.Fatalf("TokenLen(%d): got %d, want %d", n, got, len(token))
		}
	}
}

func TestMaxPlaintext(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]int{500: 303, 484: 303, 483: 287, 100: 15, 255: 127} {
		if got := fieldcrypt.MaxPlaintext(size); got != want {
			t.Errorf("MaxPlaintext(%d): got %d, want %d", size, got, want)
		}
	}
	for size := range 3000 {
		n := fieldcrypt.MaxPlaintext(size)
		if n >= 0 && fieldcrypt.TokenLen(n) > size {
			t.Errorf("MaxPlaintext(%d) is %d, whose token has %d characters", size, n, fieldcrypt.TokenLen(n))
		}
		if fieldcrypt.TokenLen(max(n+1, 0)) <= size {
			t.Errorf("MaxPlaintext(%d) is %d, but one byte more fits", size, n)
		}
	}
}

// TestAnyTime opens tokens whatever their timestamp.
func TestAnyTime(t *testing.T) {
	t.Parallel()
	key := fieldcrypt.GenerateKey()
	decoded, err := fernet.DecodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{time.Unix(0, 0), time.Now().AddDate(100, 0, 0), time.Unix(1<<42-1, 0)} {
		token, err := fernet.EncryptAndSignAtTime([]byte("text"), decoded, at)
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
	token := seal(t, ring(t, fieldcrypt.GenerateKey()), "text")
	for name, r := range map[string]*fieldcrypt.Keyring{
		"one key":    ring(t, fieldcrypt.GenerateKey()),
		"three keys": ring(t, fieldcrypt.GenerateKey(), fieldcrypt.GenerateKey(), fieldcrypt.GenerateKey()),
	} {
		got, err := r.Decrypt(token)
		if got != "" || !errors.Is(err, fieldcrypt.ErrUnknownKey) || !errors.Is(err, fieldcrypt.ErrCorrupt) {
			t.Errorf("%s: got %q, %v, want ErrUnknownKey", name, got, err)
		}
	}
}

func TestNoKeyring(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*fieldcrypt.Keyring{"nil": nil, "zero": {}} {
		if got, err := r.Encrypt("text"); got != "" || !errors.Is(err, fieldcrypt.ErrNoKey) {
			t.Errorf("%s: encrypt: got %q, %v, want ErrNoKey", name, got, err)
		}
		if got, err := r.Decrypt("gAAAA"); got != "" || !errors.Is(err, fieldcrypt.ErrNoKey) {
			t.Errorf("%s: decrypt: got %q, %v, want ErrNoKey", name, got, err)
		}
	}
}

// TestInterchange has fernet-go write what we read and read what we write.
func TestInterchange(t *testing.T) {
	t.Parallel()
	text := fieldcrypt.GenerateKey()
	key, err := fernet.DecodeKey(text)
	if err != nil {
		t.Fatal(err)
	}
	r := ring(t, text)
	for name, plaintext := range plaintexts {
		theirs, err := fernet.EncryptAndSign([]byte(plaintext), key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Decrypt(string(theirs)); err != nil || got != plaintext {
			t.Errorf("%s: fernet-go's token: got %q, %v", name, got, err)
		}
		got := fernet.VerifyAndDecrypt([]byte(seal(t, r, plaintext)), 0, []*fernet.Key{key})
		if got == nil || string(got) != plaintext {
			t.Errorf("%s: our token: fernet-go got %q", name, got)
		}
	}
}

// TestConcurrentUse is for the race detector, and for buffers that two operations would share.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	keys := []string{fieldcrypt.GenerateKey(), fieldcrypt.GenerateKey(), fieldcrypt.GenerateKey()}
	r := ring(t, keys[0], keys[1:]...)
	tokens := make([]string, len(keys))
	for i, key := range keys {
		tokens[i] = seal(t, ring(t, key), fmt.Sprint("text ", i))
	}
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := range 100 {
				plaintext := strings.Repeat(fmt.Sprint(worker), i)
				token, err := r.Encrypt(plaintext)
				if err != nil {
					t.Error(err)
				}
				if got, err := r.Decrypt(token); err != nil || got != plaintext {
					t.Errorf("got %q, %v, want %q", got, err, plaintext)
				}
				n := (worker + i) % len(keys)
				if got, err := r.Decrypt(tokens[n]); err != nil || got != fmt.Sprint("text ", n) {
					t.Errorf("key %d: got %q, %v", n, got, err)
				}
			}
		})
	}
	wg.Wait()
}
