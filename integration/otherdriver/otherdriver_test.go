// Package otherdriver registers another driver under the name of Credent's
// SQLite driver, as a service that imports one does.
package otherdriver

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/credenttest"
	"github.com/credent-go/credent/open"
)

var errOther = errors.New("the other driver was called")

// other is a third-party driver.
type other struct{}

// Open implements driver.Driver.
func (other) Open(string) (driver.Conn, error) { return nil, errOther }

// Registering a name twice panics, so this file also tests that none of its
// imports registers one.
func init() { //nolint:gochecknoinits // as drivers do
	sql.Register("sqlite", other{})
	sql.Register("sqlite3", other{})
}

// A service on Postgres works beside it, and an SQLite URL isn't sent to it.
func TestOtherDriver(t *testing.T) {
	t.Parallel()
	ring := credenttest.Keyring(t)
	client, err := credent.Open(t.Context(), credenttest.URL(t), credent.Config{Keyring: ring, Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	account := client.UserAccount.Create().SetUserID("u").SetAccountName("n").SaveX(t.Context())
	row := client.UserCredential.Create().SetAccount(account).SetUserID("u").SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("key")).SetSecretKey(credent.NewSecret("secret")).SaveX(t.Context())
	if got, err := client.UserCredential.GetX(t.Context(), row.ID).APIKey.Reveal(); err != nil || got != "key" {
		t.Errorf("revealed %q, %v", got, err)
	}
	_, err = credent.Open(t.Context(), "sqlite::memory:", credent.Config{Keyring: ring})
	if !errors.Is(err, open.ErrNoDriver) {
		t.Errorf("an SQLite URL: %v", err)
	}
}
