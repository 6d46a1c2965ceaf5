package fieldcrypt_test

import (
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

const (
	keyA = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=" // from the Fernet spec's vectors
	keyB = "3vYpT7mQx0bL2nKcR9sWfZ1gHjUe5aDq8iOy4MtXk6E="
	keyC = "Q0kq9xF2uZ7bW1nTy5cV8mRj3pLs6hGd4aKe0iXoUwA="
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

// encrypt encrypts, or fails the test.
func encrypt(tb testing.TB, r *keyring.Ring, plaintext string) string {
	tb.Helper()
	token, err := r.Encrypt(plaintext)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// scanned returns a secret as database/sql scans it.
func scanned(tb testing.TB, value string) fieldcrypt.Secret {
	tb.Helper()
	var s fieldcrypt.Secret
	if err := s.Scan(value); err != nil {
		tb.Fatal(err)
	}
	return s
}

// opener returns an opener for tokens under a keyring.
func opener(r *keyring.Ring) fieldcrypt.Opener { return testOpener{r} }

type testOpener struct{ ring *keyring.Ring }

func (o testOpener) Open(stored string, row any, decode func(string) error) (string, error) {
	plaintext, err := o.ring.Decrypt(stored)
	if err != nil {
		return "", o.Locate("decrypt", row, err)
	}
	if decode != nil {
		if err := decode(plaintext); err != nil {
			return "", o.Locate("decode", row, err)
		}
	}
	return plaintext, nil
}

func (testOpener) Locate(op string, row any, err error) error {
	return &fieldcrypt.Error{Op: op, Row: fieldcrypt.RowText(row), Err: err}
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
