package column_test

import (
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/keysource"
)

const (
	keyA = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=" // from the Fernet spec's vectors
	keyB = "3vYpT7mQx0bL2nKcR9sWfZ1gHjUe5aDq8iOy4MtXk6E="
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

// useDefault sets the keys of the process's keyring, or removes them. Tests
// that call it can't be parallel.
func useDefault(tb testing.TB, keys ...string) {
	tb.Helper()
	tb.Setenv(keysource.EnvKey, keyA) // for the first test that uses it
	tb.Setenv(keysource.EnvPreviousKeys, "")
	r, err := keysource.Default()
	if err != nil {
		tb.Fatal(err)
	}
	*r = keyring.Ring{}
	if len(keys) > 0 {
		*r = *ring(tb, keys[0], keys[1:]...)
	}
	tb.Cleanup(func() { *r = keyring.Ring{} })
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

// The columns of the tests, as generated code registers them.
var (
	wide   = register("vault", "wide", 500)
	narrow = register("vault", "narrow", 100) // 15 bytes
	_      = register("safe", "narrow", 120)  // 31 bytes

	heldSecret = column.Column{
		Client: "test", Table: "held", Name: "secret", Size: 500, Type: "string",
		Tenant: "org", Bound: true,
	}
	held     = registerAs(heldSecret)
	foundPIN = column.Column{Client: "test", Table: "held", Name: "pin", Size: 500, Type: "string", Index: "pin_index"}
	pin      = registerAs(foundPIN)
)

func register(table, name string, size int) column.Field {
	return registerAs(column.Column{Client: "test", Table: table, Name: name, Size: size})
}

func registerAs(c column.Column) column.Field {
	f := column.NewField(c.Name, c.Size)
	column.Register(column.Binding{Column: c, Scanner: func() any { return f }})
	return f
}

// stored returns a secret as a client reads it.
func stored(tb testing.TB, value string) fieldcrypt.Secret {
	tb.Helper()
	target := wide.ScanValue()
	if err := target.Scan(value); err != nil {
		tb.Fatal(err)
	}
	s, err := wide.FromValue(target)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}
