//go:build linux || darwin

// Package outages_test breaks a database beside long commands and functions,
// and counts the stored rows: none twice, none left out.
package outages_test

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/cli"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// envCommand makes the test binary run the command credent.
const envCommand = "CREDENT_TEST_COMMAND"

// userID is the user of all rows.
const userID = "u"

var (
	server   *pgserver.Server
	template string
)

func TestMain(m *testing.M) {
	if os.Getenv(envCommand) != "" {
		os.Exit(cli.Main())
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	// The server is private, since the tests end sessions, and its timeout
	// leaves time to create a deadlock.
	server, err = pgserver.Start(ctx, pgserver.Private(), pgserver.WithSetting("deadlock_timeout", "3s"))
	if err != nil {
		return 1, err
	}
	defer func() { _ = server.Stop() }()
	if template, _, err = server.CreateDatabase(ctx, ""); err != nil {
		return 1, err
	}
	if err := migrated(ctx, template); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// migrated creates the tables and an account.
func migrated(ctx context.Context, url string) error {
	db, err := sql.Open("postgres", url)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if err := testopt.Apply(ctx, db); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "INSERT INTO user_accounts (id, user_id, account_name, created_at, updated_at) "+
		"VALUES ($1, $2, 'Ada', now(), now())",
		uuid.NewString(), userID)
	return err
}

// drivers are the drivers' registered names.
var drivers = []string{"postgres", "pgx"}

// forEachDriver runs a test over each driver, on a database of its own.
func forEachDriver(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, driver))
		})
	}
}

// world is a database with rows under an old key.
type world struct {
	url      string
	driver   string
	db       *sql.DB // the tested code's pool
	admin    *sql.DB // another pool
	oldKey   string
	newKey   string
	old, new *keyring.Keyring // new also opens the old one's tokens
}

func newWorld(t *testing.T, driver string) *world {
	t.Helper()
	url, drop, err := server.CreateDatabase(t.Context(), template)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil {
			t.Error(err)
		}
	})
	return worldAt(t, driver, url, url)
}

// worldAt returns a world with different URLs for the tested code and the test.
func worldAt(t *testing.T, driver, url, adminURL string) *world {
	t.Helper()
	w := &world{
		url: url, driver: driver, db: openPool(t, driver, url), admin: openPool(t, "postgres", adminURL),
		oldKey: keyring.GenerateKey(), newKey: keyring.GenerateKey(),
	}
	var err error
	if w.old, err = keyring.New(w.oldKey); err != nil {
		t.Fatal(err)
	}
	if w.new, err = keyring.New(w.newKey, w.oldKey); err != nil {
		t.Fatal(err)
	}
	return w
}

func openPool(t *testing.T, driver, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// secret returns a row's secret.
func secret(i int) string { return fmt.Sprintf("secret-%d", i) }

// rows yields n rows.
func rows(n int) iter.Seq2[credent.CopyRow, error] {
	return func(yield func(credent.CopyRow, error) bool) {
		for i := range n {
			if !yield(credent.CopyRow{
				UserID: userID, CredentialType: "alpaca", APIKey: credent.NewSecret(secret(i)),
				SecretKey: credent.NewSecret(secret(i)),
			}, nil) {
				return
			}
		}
	}
}

// fill stores n rows under the old key.
func (w *world) fill(t *testing.T, n int) {
	t.Helper()
	if stored, err := testopt.Copy(t.Context(), w.admin, rows(n), credent.CopyConfig{},
		testopt.WithKeyring(w.old)); err != nil || stored != int64(n) {
		t.Fatalf("%d rows are stored: %v", stored, err)
	}
}

// check checks that each of n rows is stored once and opens under a keyring.
func (w *world) check(t *testing.T, n int, ring *keyring.Keyring) {
	t.Helper()
	client, err := testopt.NewClient(w.admin, "postgres", testopt.WithKeyring(ring))
	if err != nil {
		t.Fatal(err)
	}
	all, err := client.UserCredential.Query().All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for _, row := range all {
		apiKey, err := row.APIKey.Reveal()
		secretKey, err2 := row.SecretKey.Reveal()
		if err != nil || err2 != nil || apiKey != secretKey {
			t.Fatalf("row %s: %v, %v", row.ID, err, err2)
		}
		seen[apiKey]++
	}
	for i := range n {
		if seen[secret(i)] != 1 {
			t.Errorf("%s is stored %d times", secret(i), seen[secret(i)])
		}
	}
	if len(all) != n {
		t.Errorf("%d rows are stored, want %d", len(all), n)
	}
}

func (w *world) exec(t *testing.T, query string) {
	t.Helper()
	if _, err := w.admin.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

// cutter repeatedly ends all other sessions of a database.
type cutter struct {
	stop   context.CancelFunc
	ended  chan struct{}
	first  chan struct{} // closed when the first session has ended
	killed int           // number of ended sessions; read after close
}

// cut starts a cutter. It stops after some sessions, since a slow machine would
// make no progress otherwise.
func (w *world) cut(t *testing.T) *cutter {
	t.Helper()
	const most = 12
	ctx, cancel := context.WithCancel(t.Context())
	c := &cutter{stop: cancel, ended: make(chan struct{}), first: make(chan struct{})}
	go func() {
		defer close(c.ended)
		for c.killed < most {
			var now int
			err := w.admin.QueryRowContext(ctx,
				`SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid()) AS t`).Scan(&now)
			if err != nil {
				return
			}
			if c.killed == 0 && now > 0 {
				close(c.first)
			}
			c.killed += now
			select {
			case <-ctx.Done():
				return
			case <-time.After(150 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(c.close)
	return c
}

// close stops it.
func (c *cutter) close() {
	c.stop()
	<-c.ended
}
