// Package credenttest gives each test a database: a real Postgres, migrated,
// and dropped when the test passes.
//
//	func TestMain(m *testing.M) { os.Exit(credenttest.Main(m)) }
//
//	func TestService(t *testing.T) {
//		client := credenttest.New(t, credent.Config{})
//		…
//	}
//
// The server is the one that CREDENT_TEST_DATABASE_URL names, with a role that
// may create databases. Without that variable one is started from installed
// binaries on a private port, and shared by the test binaries that run at the
// same time; if there are no binaries the test fails. The migrations run once
// per test binary, on a template. Each test gets a clone of it in some ten
// milliseconds. On a server of CREDENT_TEST_DATABASE_URL a failed test's
// database is kept, and its URL, with the password, is logged.
//
// [New] connects as the owner of the tables, who sees every user's rows. Use
// [NewPair] to test a service that connects as a member of credent_app.
package credenttest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

// shared holds the server of all test binaries, and this test binary's
// template.
var shared struct {
	sync.Mutex
	server   *pgserver.Server
	template string
}

// Main runs the tests and releases the server, which ends some seconds after
// the last test binary that used it.
func Main(m *testing.M) int {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		return code
	}
	if err := shared.server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "credenttest:", err)
		return max(code, 1)
	}
	return code
}

// server returns the server, and starts it at the first call.
func server(ctx context.Context) (*pgserver.Server, string, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		return shared.server, shared.template, nil
	}
	s, err := pgserver.Start(ctx, pgserver.Shared())
	if err != nil {
		return nil, "", err
	}
	template, err := migrated(ctx, s)
	if err != nil {
		_ = s.Stop()
		return nil, "", err
	}
	shared.server, shared.template = s, template
	return s, template, nil
}

// migrated creates the database that the others are cloned from.
func migrated(ctx context.Context, s *pgserver.Server) (url string, err error) {
	if url, _, err = s.CreateDatabase(ctx, ""); err != nil {
		return "", err
	}
	db, _, err := credent.OpenDB(url)
	if err != nil {
		return "", err
	}
	if err := migrate.Apply(ctx, db, migrate.Config{}); err != nil {
		_ = db.Close()
		return "", err
	}
	return url, db.Close() // a template can't be copied while connections to it are open
}

// URL returns the URL of a new database with all migrations.
func URL(tb testing.TB) string {
	tb.Helper()
	s, template, err := server(tb.Context())
	if err != nil {
		tb.Fatalf("credenttest: %v", err)
	}
	return create(tb, s, template)
}

// EmptyURL returns the URL of a new database without tables, for tests of
// migrations.
func EmptyURL(tb testing.TB) string {
	tb.Helper()
	s, _, err := server(tb.Context())
	if err != nil {
		tb.Fatalf("credenttest: %v", err)
	}
	return create(tb, s, "")
}

func create(tb testing.TB, s *pgserver.Server, template string) string {
	tb.Helper()
	url, drop, err := s.CreateDatabase(tb.Context(), template)
	if err != nil {
		tb.Fatalf("credenttest: %v", err)
	}
	tb.Cleanup(func() {
		if tb.Failed() && os.Getenv(pgserver.EnvURL) != "" {
			tb.Logf("credenttest: kept the database %s", url)
			return
		}
		if err := drop(); err != nil {
			tb.Errorf("credenttest: %v", err)
		}
	})
	return url
}

// New returns a client on a new database with all migrations, and with a new
// key if the configuration has no keyring. It is closed when the test ends. The
// database is as after its first start: credent.Check returns nil. The options
// say how to connect.
func New(tb testing.TB, cfg credent.Config, opts ...credent.Option) *ent.Client {
	tb.Helper()
	cfg.Migrate = true
	return Open(tb, URL(tb), withKeyring(tb, cfg), opts...)
}

// withKeyring adds a keyring with a new key to a configuration without one.
func withKeyring(tb testing.TB, cfg credent.Config) credent.Config {
	tb.Helper()
	if cfg.Keyring == nil {
		cfg.Keyring = Keyring(tb)
	}
	return cfg
}

// Open is credent.Open for tests: the client is closed when the test ends.
func Open(tb testing.TB, url string, cfg credent.Config, opts ...credent.Option) *ent.Client {
	tb.Helper()
	client, err := credent.Open(tb.Context(), url, cfg, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := client.Close(); err != nil {
			tb.Error(err)
		}
	})
	return client
}

// Keyring returns a keyring with a new key.
func Keyring(tb testing.TB) *keyring.Keyring {
	tb.Helper()
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		tb.Fatal(err)
	}
	return ring
}
