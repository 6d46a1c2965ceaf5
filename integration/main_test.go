// Package integration tests Credent on a real Postgres, over both drivers, and
// beside the Python application.
package integration

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/cli"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// Shared by all tests: one server, and on it one migrated database that each
// test gets a clone of.
var (
	server   *pgserver.Server
	template string
)

// envCommand makes the test binary the command credent.
const envCommand = "CREDENT_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(envCommand) != "" {
		os.Exit(cli.Main())
	}
	if os.Getenv(envVictim) != "" {
		os.Exit(victim()) // a child of TestKilledProcess
	}
	flag.Parse()
	if os.Getenv(heapEnv) != "" || os.Getenv(rotateURL) != "" {
		os.Exit(m.Run()) // a child of TestPlaintextInMemory or TestRotateKilled, which needs no server of its own
	}
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	ctx := context.Background()
	if server, err = pgserver.Start(ctx); err != nil {
		return 0, err
	}
	defer func() { _ = server.Stop() }()
	url, drop, err := server.CreateDatabase(ctx, "")
	if err != nil {
		return 0, err
	}
	defer func() { _ = drop() }()
	db, _, err := testopt.OpenDB(url)
	if err != nil {
		return 0, err
	}
	if err := testopt.Apply(ctx, db); err != nil {
		return 0, err
	}
	if err := db.QueryRowContext(ctx, "SELECT current_database()").Scan(&template); err != nil {
		return 0, err
	}
	if err := db.Close(); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// drivers are the two ways to connect; a test that runs SQL through the client
// runs over each.
var drivers = map[string][]testopt.Option{
	"pq":  nil,
	"pgx": {testopt.WithPGX()},
}

// forEachDriver runs a test over both drivers, each on a migrated database of
// its own.
func forEachDriver(t *testing.T, test func(t *testing.T, env *environment)) {
	t.Helper()
	for name, opts := range drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t, opts...)
			env.driver = name
			test(t, env)
		})
	}
}

// environment is a migrated database with a client and a keyring.
type environment struct {
	url    string
	driver string           // "pq", "pgx", "modernc" or "mattn"
	opts   []testopt.Option // how to connect to Postgres
	db     *sql.DB          // plain, without encryption
	client *ent.Client
	key    string
	ring   *keyring.Keyring
}

func newEnvironment(t *testing.T, opts ...testopt.Option) *environment {
	t.Helper()
	env := &environment{url: newDatabase(t, template), key: keyring.GenerateKey(), opts: opts}
	var err error
	if env.ring, err = keyring.New(env.key); err != nil {
		t.Fatal(err)
	}
	env.client = open(t, env.url, append(opts, testopt.WithKeyring(env.ring))...)
	env.db = openDB(t, env.url, opts...)
	return env
}

// newDatabase returns the URL of a new database. One whose test fails is kept.
func newDatabase(t *testing.T, template string) string {
	t.Helper()
	url, drop, err := server.CreateDatabase(t.Context(), template)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("kept the database %s", url)
			return
		}
		if err := drop(); err != nil {
			t.Error(err)
		}
	})
	return url
}

func open(t *testing.T, url string, opts ...testopt.Option) *ent.Client {
	t.Helper()
	client, err := testopt.Open(t.Context(), url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, client) })
	return client
}

func openDB(t *testing.T, url string, opts ...testopt.Option) *sql.DB {
	t.Helper()
	db, _, err := testopt.OpenDB(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, db) })
	return db
}

// session takes a connection of the pool for the whole test, with what is set
// on it.
func session(t *testing.T, db *sql.DB) *sql.Conn {
	t.Helper()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, conn) })
	return conn
}

func closeAll(t *testing.T, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// account makes an account.
func (env *environment) account(t *testing.T, userID string) *ent.UserAccount {
	t.Helper()
	account, err := env.client.UserAccount.Create().SetUserID(userID).SetAccountName("name of " + userID).Save(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return account
}

// credential makes a credential of an account.
func (env *environment) credential(t *testing.T, account *ent.UserAccount, apiKey, secretKey string) *ent.UserCredential {
	t.Helper()
	credential, err := env.client.UserCredential.Create().
		SetAccount(account).
		SetUserID(account.UserID).
		SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret(apiKey)).
		SetSecretKey(credent.NewSecret(secretKey)).
		Save(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

// value runs a query for one value, as seen without encryption.
func (env *environment) value(t *testing.T, dest any, query string, args ...any) {
	t.Helper()
	if err := env.db.QueryRowContext(t.Context(), query, args...).Scan(dest); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (env *environment) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := env.db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// reveal fails the test if a secret cannot be opened.
func reveal(t *testing.T, s credent.Secret) string {
	t.Helper()
	plaintext, err := s.Reveal()
	if err != nil {
		t.Fatal(err)
	}
	return plaintext
}
