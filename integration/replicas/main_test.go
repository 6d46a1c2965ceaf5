//go:build linux || darwin

// Package replicas_test tests clients and commands on a primary and its
// standby: one that lags, one that is promoted, and one that is killed.
package replicas_test

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/cli"
	"github.com/credent-go/credent/internal/pgreplica"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/libpq"
)

// envCommand makes the test binary run the command credent.
const envCommand = "CREDENT_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(envCommand) != "" {
		os.Exit(cli.Main())
	}
	os.Exit(m.Run())
}

// within bounds a step that takes milliseconds, or seconds on a loaded machine.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func started(t *testing.T, s *pgreplica.Server, err error) *pgreplica.Server {
	t.Helper()
	must(t, err)
	t.Cleanup(func() { _ = s.Stop() })
	return s
}

// world is a migrated database on a primary and its standby, and a key.
type world struct {
	primary, standby *pgreplica.Server
	database         string
	key, earlier     string
	ring             *keyring.Keyring
	app              *url.Userinfo // a member of credent_app
	opts             []credent.Option
}

func newWorld(t *testing.T, driver string) *world {
	t.Helper()
	w := &world{key: keyring.GenerateKey(), earlier: keyring.GenerateKey()}
	primary, err := pgreplica.Start(within(t))
	w.primary = started(t, primary, err)
	standby, err := w.primary.AddStandby(within(t))
	w.standby = started(t, standby, err)
	w.ring, err = keyring.New(w.key, w.earlier)
	must(t, err)
	at, _, err := w.primary.CreateDatabase(within(t), "")
	must(t, err)
	u, err := url.Parse(at)
	must(t, err)
	w.database = strings.TrimPrefix(u.Path, "/")
	if driver == "libpq" {
		w.opts = append(w.opts, credent.WithDriver(libpq.Driver()))
	}
	db, _, err := credent.OpenDB(at, w.opts...)
	must(t, err)
	defer func() { _ = db.Close() }()
	must(t, migrate.Apply(within(t), db, migrate.Config{Keyring: w.ring, Columns: ent.EncryptedColumns()}))
	w.app = url.UserPassword("service", rand.Text())
	password, _ := w.app.Password()
	_, err = db.ExecContext(within(t), "CREATE ROLE service LOGIN PASSWORD '"+password+"' IN ROLE credent_app")
	must(t, err)
	must(t, w.standby.WaitFor(within(t), w.primary))
	return w
}

// url returns a server's URL, for the owner, or for a role if it isn't nil.
func (w *world) url(t *testing.T, s *pgreplica.Server, role *url.Userinfo) string {
	t.Helper()
	u, err := url.Parse(s.URL(w.database))
	if err != nil {
		t.Fatal("a server has no valid URL")
	}
	if role != nil {
		u.User = role
	}
	return u.String()
}

// open returns a client of the primary and the standby.
func (w *world) open(t *testing.T, role *url.Userinfo, cfg credent.Config) *ent.Client {
	t.Helper()
	return w.openAt(t, w.url(t, w.primary, role), w.url(t, w.standby, role), cfg)
}

func (w *world) openAt(t *testing.T, primary, standby string, cfg credent.Config) *ent.Client {
	t.Helper()
	cfg.Keyring = w.ring
	c, err := credent.Open(within(t), primary, cfg, append(w.opts, credent.WithReader(standby))...)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// add stores a credential, and its account if missing.
func add(ctx context.Context, c *ent.Client, user, secret string) (*ent.UserCredential, error) {
	account, err := c.UserAccount.Query().Only(ctx)
	if ent.IsNotFound(err) {
		account, err = c.UserAccount.Create().SetUserID(user).SetAccountName("n").Save(ctx)
	}
	if err != nil {
		return nil, err
	}
	return c.UserCredential.Create().SetAccount(account).SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("key " + secret)).SetSecretKey(credent.NewSecret(secret)).Save(ctx)
}
