// Package keyloss tests that every secret a server acknowledges opens with that
// server's keys, although a client continues with the tenants' keys it knows
// and the server has lost or replaced them.
package keyloss

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"entgo.io/ent/dialect"
	_ "github.com/mattn/go-sqlite3"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

var (
	server   *pgserver.Server
	template string // the URL of a migrated database
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "keyloss:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	if server, err = pgserver.Start(ctx); err != nil {
		return 0, err
	}
	defer func() { _ = server.Stop() }()
	var drop func() error
	if template, drop, err = server.CreateDatabase(ctx, ""); err != nil {
		return 0, err
	}
	defer func() { _ = drop() }()
	db, _, err := testopt.OpenDB(template)
	if err == nil {
		err = testopt.Apply(ctx, db)
	}
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// service is a service with tenants' keys, and its database.
type service struct {
	db       *sql.DB
	dialect  string
	ring     *keyring.Keyring
	opts     []testopt.Option
	client   *ent.Client // knows the keys it has used
	accounts map[string]*ent.UserAccount
}

// forEachDriver runs a test over both drivers of Postgres and of SQLite.
func forEachDriver(t *testing.T, test func(t *testing.T, s *service)) {
	t.Helper()
	for _, driver := range []string{"pq", "pgx", "modernc", "mattn"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			test(t, newService(t, open(t, driver), map[bool]string{
				true:  dialect.Postgres,
				false: dialect.SQLite,
			}[driver[0] == 'p']))
		})
	}
}

func open(t *testing.T, driver string) *sql.DB {
	t.Helper()
	var (
		db  *sql.DB
		err error
	)
	file := filepath.Join(t.TempDir(), "credent.db")
	switch driver {
	case "pq", "pgx":
		url, drop, err := server.CreateDatabase(t.Context(), template)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = drop() })
		return openURL(t, url, driver)
	case "modernc":
		db, _, err = testopt.OpenDB("sqlite:" + file + "?_pragma=synchronous(0)")
	default:
		db, err = sql.Open("sqlite3",
			"file:"+file+"?_foreign_keys=1&_busy_timeout=60000&_synchronous=0&_journal_mode=WAL")
	}
	if err == nil {
		err = testopt.Apply(t.Context(), db)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func openURL(t *testing.T, url, driver string) *sql.DB {
	t.Helper()
	var opts []testopt.Option
	if driver == "pq" {
		opts = append(opts, testopt.OverPQ())
	}
	db, _, err := testopt.OpenDB(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func newService(t *testing.T, db *sql.DB, d string) *service {
	t.Helper()
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	s := &service{db: db, dialect: d, ring: ring, accounts: make(map[string]*ent.UserAccount)}
	s.opts = []testopt.Option{testopt.WithKeyring(ring), testopt.WithTenantKeys(credent.Write)}
	s.client = s.newClient(t)
	for _, user := range []string{"u1", "u2"} {
		s.accounts[user] = s.client.UserAccount.Create().SetUserID(user).SetAccountName("n").SaveX(t.Context())
	}
	return s
}

// newClient returns a client that knows no keys.
func (s *service) newClient(t *testing.T) *ent.Client {
	t.Helper()
	client, err := testopt.NewClient(s.db, s.dialect, s.opts...)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// create returns a Create of a user's credential, by any client or transaction.
func (s *service) create(on *ent.UserCredentialClient, user, secret string) *ent.UserCredentialCreate {
	return on.Create().SetAccount(s.accounts[user]).SetUserID(user).SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("key " + secret)).SetSecretKey(credent.NewSecret(secret))
}

func (s *service) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := s.db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

// opens checks that a client without cached keys opens a user's secrets, except
// the secrets of the row stored before the loss.
func (s *service) opens(t *testing.T, user string, before *ent.UserCredential) (n int) {
	t.Helper()
	for _, row := range s.newClient(t).UserCredential.Query().Where(usercredential.UserID(user)).AllX(t.Context()) {
		if before != nil && row.ID == before.ID {
			continue
		}
		n++
		secret, err := row.SecretKey.Reveal()
		key, err2 := row.APIKey.Reveal()
		if err != nil || err2 != nil || key != "key "+secret {
			t.Errorf("a row of %s doesn't open: %v, %v", user, err, err2)
		}
	}
	return n
}
