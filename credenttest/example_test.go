package credenttest_test

import (
	"os"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/credenttest"
	"github.com/credent-go/credent/migrate"
)

// A test binary stops the server that its tests started.
func ExampleMain() {
	_ = func(m *testing.M) { os.Exit(credenttest.Main(m)) } // func TestMain
	// Output:
}

func ExampleNew() {
	_ = func(t *testing.T) {
		client := credenttest.New(t, credent.Config{VerifyOnRead: true})
		client.UserAccount.Create().SetUserID("u1").SetAccountName("Ada").ExecX(t.Context())
	}
	// Output:
}

// In a service's test, the owner prepares rows, and the service sees its user's
// rows.
func ExampleNewPair() {
	_ = func(t *testing.T) {
		owner, app := credenttest.NewPair(t, credent.Config{})
		owner.UserAccount.Create().SetUserID("u1").SetAccountName("Ada").ExecX(t.Context())
		owner.UserAccount.Create().SetUserID("u2").SetAccountName("Ben").ExecX(t.Context())

		if got := app.UserAccount.Query().OnlyX(credent.WithUser(t.Context(), "u1")); got.AccountName != "Ada" {
			t.Errorf("u1 is %s", got.AccountName)
		}
		if n := app.UserAccount.Query().CountX(t.Context()); n != 0 {
			t.Errorf("without a user the service sees %d accounts", n)
		}
	}
	// Output:
}

// Two clients with different configurations share a database and a keyring.
func ExampleOpen() {
	_ = func(t *testing.T) {
		url, ring := credenttest.URL(t), credenttest.Keyring(t)
		before := credenttest.Open(t, url, credent.Config{Keyring: ring})
		after := credenttest.Open(t, url, credent.Config{Keyring: ring, Binding: credent.Accept})
		_, _ = before, after
	}
	// Output:
}

func ExampleKeyring() {
	_ = func(t *testing.T) {
		if n := len(credenttest.Keyring(t).Keys()); n != 1 {
			t.Errorf("%d keys", n)
		}
	}
	// Output:
}

func ExampleURL() {
	_ = func(t *testing.T) {
		t.Setenv("DATABASE_URL", credenttest.URL(t)) // for a program under test
	}
	// Output:
}

func ExampleEmptyURL() {
	_ = func(t *testing.T) {
		db, _, err := credent.OpenDB(credenttest.EmptyURL(t))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		if err := migrate.Apply(t.Context(), db, migrate.Config{}); err != nil {
			t.Error(err)
		}
	}
	// Output:
}

// A service that connects as a member of credent_app has all the rights it
// needs.
func ExampleAppURL() {
	_ = func(t *testing.T) {
		url := credenttest.AppURL(t, credenttest.URL(t))
		credenttest.Open(t, url, credent.Config{Keyring: credenttest.Keyring(t), RequireRowSecurity: true})
	}
	// Output:
}
