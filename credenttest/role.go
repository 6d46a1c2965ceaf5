package credenttest

import (
	"context"
	"crypto/rand"
	"net/url"
	"strings"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
)

// NewPair returns two clients on one new database with all migrations: owner
// sees every user's rows, to prepare and inspect them; app is the service's, a
// member of credent_app opened with Config.RequireRowSecurity, and sees only
// the rows of credent.WithUser's user. Both have the given configuration and
// the same keyring, a new one if that has none, and credent.Check returns nil
// for both. Both are closed when the test ends.
func NewPair(tb testing.TB, cfg credent.Config, opts ...credent.Option) (owner, app *ent.Client) {
	tb.Helper()
	cfg = withKeyring(tb, cfg)
	cfg.RequireRowSecurity = false
	ownerURL := URL(tb)
	appURL := AppURL(tb, ownerURL)
	cfg.Migrate = true // with canaries, so that the other client can Check
	owner = Open(tb, ownerURL, cfg, opts...)
	cfg.Migrate, cfg.RequireRowSecurity = false, true
	app = Open(tb, appURL, cfg, opts...)
	return owner, app
}

// AppURL returns the [URL] of a database from URL for a new role, which is a
// member of credent_app and is dropped when the test ends. The role of
// CREDENT_TEST_DATABASE_URL needs the right to create roles, and on Postgres 16
// and later the admin option on credent_app.
func AppURL(tb testing.TB, databaseURL string) string {
	tb.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		tb.Fatal("credenttest: the URL is malformed") // the error would quote it
	}
	db, _, err := credent.OpenDB(databaseURL)
	if err != nil {
		tb.Fatalf("credenttest: %v", err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	role, password := "credent_test_"+strings.ToLower(rand.Text()), rand.Text()
	if _, err := db.ExecContext(tb.Context(), "CREATE ROLE "+role+" LOGIN PASSWORD '"+password+
		"' IN ROLE credent_app"); err != nil {
		tb.Fatalf("credenttest: create a member of credent_app: %v", err)
	}
	tb.Cleanup(func() {
		if _, err := db.ExecContext(context.WithoutCancel(tb.Context()), "DROP ROLE "+role); err != nil {
			tb.Errorf("credenttest: drop the role: %v", err)
		}
	})
	u.User = url.UserPassword(role, password)
	return u.String()
}
