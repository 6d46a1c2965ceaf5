package audit_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	_ "github.com/jackc/pgx/v5/stdlib" // a Postgres driver
	_ "github.com/lib/pq"              // another one
	_ "github.com/mattn/go-sqlite3"    // an SQLite driver
	_ "modernc.org/sqlite"             // another one

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

var server *pgserver.Server

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	if flag.Parse(); testing.Short() {
		return m.Run()
	}
	var err error
	if server, err = pgserver.Start(context.Background(), pgserver.Shared()); err != nil {
		log.Print(err)
		return 1
	}
	defer func() {
		if dropTemplate != nil {
			_ = dropTemplate()
		}
		_ = server.Stop()
	}()
	return m.Run()
}

var dropTemplate func() error

// template is a migrated database that tests copy.
var template = sync.OnceValues(func() (url string, err error) {
	if url, dropTemplate, err = server.CreateDatabase(context.Background(), ""); err != nil {
		return "", err
	}
	return url, migrated("pgx", url)
})

func migrated(driver, name string) error {
	db, err := sql.Open(driver, name)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return migrate.Apply(context.Background(), db, migrate.Config{})
}

// database is a migrated database.
type database struct {
	*sql.DB
	driver, name, dialect string
}

// engines create a migrated database for each database driver.
var engines = map[string]func(t *testing.T) database{
	"pgx": func(t *testing.T) database { t.Helper(); return newPostgres(t, "pgx") },
	"pq":  func(t *testing.T) database { t.Helper(); return newPostgres(t, "postgres") },
	"modernc": func(t *testing.T) database {
		t.Helper()
		return newSQLite(t, "sqlite",
			"?_pragma=busy_timeout(10000)")
	},
	"mattn": func(t *testing.T) database { t.Helper(); return newSQLite(t, "sqlite3", "?_busy_timeout=10000") },
}

func newPostgres(tb testing.TB, driver string) database {
	tb.Helper()
	pgserver.SkipShort(tb)
	of, err := template()
	if err != nil {
		tb.Fatal(err)
	}
	url, drop, err := server.CreateDatabase(tb.Context(), of)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = drop() })
	return open(tb, driver, url, dialect.Postgres)
}

// sqliteTemplates are migrated files, by driver, that tests copy.
var sqliteTemplates = map[string]func() ([]byte, error){
	"sqlite":  sync.OnceValues(func() ([]byte, error) { return migratedFile("sqlite") }),
	"sqlite3": sync.OnceValues(func() ([]byte, error) { return migratedFile("sqlite3") }),
}

func migratedFile(driver string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "credent-audit-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	name := filepath.Join(dir, "x.db")
	if err := migrated(driver, "file:"+name); err != nil {
		return nil, err
	}
	return os.ReadFile(name)
}

func newSQLite(t *testing.T, driver, options string) database {
	t.Helper()
	data, err := sqliteTemplates[driver]()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t, driver, "file:"+name+options, dialect.SQLite)
}

func open(tb testing.TB, driver, name, d string) database {
	tb.Helper()
	db, err := sql.Open(driver, name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return database{db, driver, name, d}
}

// onEach runs a test with each database driver.
func onEach(t *testing.T, test func(t *testing.T, db database)) {
	t.Helper()
	for name, make := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, make(t))
		})
	}
}

// onBoth runs a test on Postgres and SQLite.
func onBoth(t *testing.T, test func(t *testing.T, db database)) {
	t.Helper()
	for _, name := range []string{"pgx", "modernc"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, engines[name](t))
		})
	}
}

func (db database) exec(t *testing.T, query string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (db database) number(t *testing.T, query string) (n int64) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// unprotect removes the protection against changes, as a superuser can.
func (db database) unprotect(t *testing.T) {
	t.Helper()
	if db.dialect == dialect.SQLite {
		for _, name := range []string{"insert", "update", "delete"} {
			db.exec(t, "DROP TRIGGER credent_audit_"+name)
		}
		return
	}
	db.exec(t, `DO $$ DECLARE part regclass; BEGIN
		FOR part IN SELECT 'credent_audit'::regclass UNION
			SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'credent_audit'::regclass LOOP
			EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', part); END LOOP; END $$`)
}

func newRing(tb testing.TB, keys ...string) *keyring.Keyring {
	tb.Helper()
	if len(keys) == 0 {
		keys = []string{keyring.GenerateKey()}
	}
	ring, err := keyring.New(keys[0], keys[1:]...)
	if err != nil {
		tb.Fatal(err)
	}
	return ring
}

func newTrail(t *testing.T, db database, cfg audit.Config) *audit.Trail {
	t.Helper()
	if cfg.OnError == nil {
		cfg.OnError = func(err error) { t.Log(err) }
	}
	trail, err := audit.Open(t.Context(), db.DB, db.dialect, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := trail.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return trail
}

func verify(t *testing.T, db database, ring *keyring.Keyring, opt audit.VerifyOptions) audit.Report {
	t.Helper()
	report, err := audit.Verify(t.Context(), db.DB, db.dialect, ring, opt)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// sound fails the test if a verification has findings.
func sound(t *testing.T, db database, ring *keyring.Keyring) audit.Report {
	t.Helper()
	report := verify(t, db, ring, audit.VerifyOptions{})
	if err := report.Err(); err != nil {
		t.Fatalf("%v\n%v\n%v", err, report.Findings, report.CouldNotLook)
	}
	if report.Verified != report.Entries {
		t.Fatalf("%d of %d entries verified", report.Verified, report.Entries)
	}
	return report
}

func list(t *testing.T, db database, f audit.Filter) (all []audit.Stored) {
	t.Helper()
	if err := audit.List(t.Context(), db.DB, db.dialect, f, func(s audit.Stored) error {
		all = append(all, s)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func reveal(row string) audit.Entry {
	return audit.Entry{
		Action: audit.ActionReveal, Actor: "ada", Tenant: "user-1", Table: "user_credentials", Column: "api_key",
		Row:   row,
		KeyID: "01234567", Request: "r-1",
	}
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func oneOf(text string, parts ...string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// refusal is the trigger's error message.
const refusal = "the audit trail takes new entries"

func rowName(worker, i int) string { return fmt.Sprintf("%d-%d", worker, i) }
