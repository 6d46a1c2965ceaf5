package credenttest_test

import (
	"context"
	"os"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/credenttest"
	"github.com/credent-go/credent/migrate"
)

func TestMain(m *testing.M) { os.Exit(credenttest.Main(m)) }

func TestNew(t *testing.T) {
	t.Parallel()
	client := credenttest.New(t, credent.Config{})
	if err := credent.Check(t.Context(), client); err != nil {
		t.Error(err)
	}
	account := client.UserAccount.Create().SetUserID("u1").SetAccountName("n").SaveX(t.Context())
	created := client.UserCredential.Create().SetAccount(account).SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("PK")).SetSecretKey(credent.NewSecret("s")).SaveX(t.Context())
	if got, err := client.UserCredential.GetX(t.Context(), created.ID).APIKey.Reveal(); got != "PK" || err != nil {
		t.Errorf("revealed %q, %v", got, err)
	}
	if n := credenttest.New(t, credent.Config{}).UserAccount.Query().CountX(t.Context()); n != 0 {
		t.Errorf("another test's database has %d accounts", n)
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{credenttest.URL(t): true, credenttest.EmptyURL(t): false} {
		db, _, err := credent.OpenDB(url)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		status, err := migrate.ReadStatus(t.Context(), db, migrate.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if got := status.Err() == nil; got != want {
			t.Errorf("migrated: %v, want %v", got, want)
		}
	}
}

// A database is dropped after its test.
func TestDropped(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("a test", func(t *testing.T) {
		t.Parallel()
		url = credenttest.URL(t)
	})
	t.Cleanup(func() { gone(t, url) })
}

func gone(t *testing.T, url string) {
	t.Helper()
	db, _, err := credent.OpenDB(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.PingContext(context.Background()); err == nil {
		t.Error("the database is still there")
	}
}
