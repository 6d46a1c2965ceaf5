package seal_test

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
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

// rentedKey has a tenant but isn't bound by its schema; heldSecret is.
var (
	wide      = column.Column{Client: "test", Table: "vault", Name: "wide", Size: 500}
	narrow    = column.Column{Client: "test", Table: "vault", Name: "narrow", Size: 100} // 15 bytes
	rentedKey = column.Column{
		Client: "test", Table: "rented", Name: "key", Size: 500, Type: "string",
		Tenant: "user_id",
	}
	heldSecret = column.Column{
		Client: "test", Table: "held", Name: "secret", Size: 500, Type: "string",
		Tenant: "org", Bound: true,
	}
)

func bound(t *testing.T, r *keyring.Ring, c column.Column, tenant string) *keyring.Ring {
	t.Helper()
	b, err := new(seal.Locator).Bind(r, c, tenant)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func in(c column.Column, tenant string) seal.Place {
	return seal.Place{Column: c, Tenant: sql.NullString{String: tenant, Valid: true}}
}

// The wanted key was computed with Python's cryptography: HKDF(SHA256(), 32,
// None, info).derive(key).
func TestBindIsHKDF(t *testing.T) {
	t.Parallel()
	r := ring(t, "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=")
	b := bound(t, r, column.Column{Table: "user_credentials", Name: "api_key"}, "user-1")
	want := ring(t, "1NVCm77I4PTgCZzQxTKm0LB0UJ5u8jLf4tXvyW762_0=")
	if got, err := want.Decrypt(encrypt(t, b, "text")); err != nil || got != "text" {
		t.Errorf("Python's key does not open it: %v", err)
	}
	if b.Primary().ID() != r.Primary().ID() {
		t.Error("a derived key's ID differs from its source's")
	}
	if _, err := new(seal.Locator).Bind(nil, rentedKey, "a"); !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("no keyring: %v", err)
	}
}

func TestBoundTokensOpenNowhereElse(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA, keyB)
	places := []struct{ table, column, tenant string }{
		{"t", "c", "a"},
		{"t", "c", "b"},
		{"t", "d", "a"},
		{"u", "c", "a"},
		{"t", "c", ""},
		{"t", "", "c\x00a"},
		{"tc", "", "a"},
		{"", "tc", "a"},
	}
	for _, from := range places {
		token := encrypt(t, bound(t, r, column.Column{Table: from.table, Name: from.column}, from.tenant), "text")
		for _, to := range places {
			got, err := bound(t, r, column.Column{Table: to.table, Name: to.column}, to.tenant).Decrypt(token)
			if from == to && (err != nil || got != "text") {
				t.Errorf("%q: %v", from, err)
			}
			if from != to && (!errors.Is(err, fernet.ErrUnknownKey) || got != "") {
				t.Errorf("from %q to %q: got %v", from, to, err)
			}
		}
		if _, err := r.Decrypt(token); !errors.Is(err, fernet.ErrUnknownKey) {
			t.Errorf("%q opens under the key itself: %v", from, err)
		}
	}
	if !strings.HasPrefix(encrypt(t, bound(t, r, rentedKey, "a"), ""), "gAAAA") {
		t.Error("the bound token lacks the prefix")
	}
}

// There are more locations than a Locator remembers.
func TestManyTenants(t *testing.T) {
	t.Parallel()
	r, old := ring(t, keyA, keyB), ring(t, keyB)
	var locator seal.Locator
	for i := range 3000 {
		tenant := fmt.Sprint(i % 1500)
		from, err := locator.Bind(old, rentedKey, tenant)
		if err != nil {
			t.Fatal(err)
		}
		to, err := locator.Bind(r, rentedKey, tenant)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.Decrypt(encrypt(t, from, "x")); err != nil {
			t.Fatal(err)
		}
	}
}

// NewOpenerAt opens secrets that database/sql scanned.
func TestOpenerAt(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	var secret fieldcrypt.Secret
	if err := secret.Scan(encrypt(t, bound(t, r, heldSecret, "b"), "text")); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.Reveal(); !errors.Is(err, fieldcrypt.ErrNoOpener) {
		t.Errorf("without a keyring: %v", err)
	}
	if got, err := secret.OpenedBy(seal.NewOpenerAt(r, heldSecret, "b", true)).Reveal(); err != nil || got != "text" {
		t.Errorf("got %v", err)
	}
	if _, err := secret.OpenedBy(seal.NewOpenerAt(r, heldSecret, "c", true)).
		Reveal(); !errors.Is(err, seal.ErrWrongLocation) {
		t.Errorf("another tenant: %v", err)
	}
	if got, err := fieldcrypt.New("new").OpenedBy(seal.NewOpenerAt(r, heldSecret, "c", true)).
		Reveal(); err != nil || got != "new" {
		t.Errorf("a secret that isn't stored: %v", err)
	}
	if err := secret.Scan(encrypt(t, r, "text")); err != nil {
		t.Fatal(err)
	}
	if got, err := secret.OpenedBy(seal.NewOpenerAt(r, rentedKey, "c", true)).Reveal(); err != nil || got != "text" {
		t.Errorf("an unbound token in an unbound column: %v", err)
	}
	// A client may bind the column, which the opener can't know.
	if err := secret.Scan(encrypt(t, bound(t, r, rentedKey, "c"), "text")); err != nil {
		t.Fatal(err)
	}
	if got, err := secret.OpenedBy(seal.NewOpenerAt(r, rentedKey, "c", true)).Reveal(); err != nil || got != "text" {
		t.Errorf("a bound token in an unbound column: %v", err)
	}
	if _, err := secret.OpenedBy(seal.NewOpenerAt(r, rentedKey, "b", true)).
		Reveal(); !errors.Is(err, seal.ErrWrongLocation) {
		t.Errorf("another tenant's token in an unbound column: %v", err)
	}
	if _, err := secret.OpenedBy(seal.NewOpenerAt(r, rentedKey, "", false)).
		Reveal(); !errors.Is(err, fernet.ErrUnknownKey) {
		t.Errorf("a bound token in an unbound column, without a tenant: %v", err)
	}
	if err := secret.Scan(encrypt(t, r, "text")); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.OpenedBy(seal.NewOpenerAt(r, heldSecret, "b", true)).
		Reveal(); !errors.Is(err, seal.ErrWrongLocation) {
		t.Errorf("an unbound token in a bound column: %v", err)
	}
	policy := &seal.Policy{Ring: r}
	unknown := policy.NewOpener(&heldSecret)
	_, err := unknown.Check("gAAAA", 7)
	var detail *fieldcrypt.Error
	if !errors.Is(err, seal.ErrNoTenant) || !errors.As(err, &detail) || detail.Row != "7" || detail.Column != "secret" {
		t.Errorf("without a tenant: %v", err)
	}
	if _, err := policy.Failing(fieldcrypt.ErrValue).Check(encrypt(t, r, "text"), nil); !errors.Is(err,
		fieldcrypt.ErrValue) {
		t.Errorf("got %v", err)
	}
}
