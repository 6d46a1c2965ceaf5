// Package bare gives a test its own empty database, with each driver of
// Postgres and SQLite. Unlike package testdb, which builds on it, it registers
// no columns, so rotations see only the test's own schema.
package bare

import (
	"context"
	"database/sql"
	"path/filepath"
	"sync"
	"testing"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql/schema"
	_ "github.com/jackc/pgx/v5/stdlib" // the drivers under test
	_ "github.com/lib/pq"
	_ "github.com/mattn/go-sqlite3"
	_ "modernc.org/sqlite"

	"github.com/credent-go/credent/internal/pgserver"
)

// Start starts or joins the server shared by all test binaries.
var Start = sync.OnceValues(func() (*pgserver.Server, error) {
	return pgserver.Start(context.Background(), pgserver.Shared())
})

// Server calls [Start] for a test.
func Server(tb testing.TB) *pgserver.Server {
	tb.Helper()
	server, err := Start()
	if err != nil {
		tb.Fatal(err)
	}
	return server
}

// NewDatabase returns the URL of a new database, copied from a template, or
// empty for "". If the test fails, the database is kept as long as the server.
func NewDatabase(tb testing.TB, template string) string {
	tb.Helper()
	url, drop, err := Server(tb).CreateDatabase(tb.Context(), template)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("kept the database %s", url)
			return
		}
		if err := drop(); err != nil {
			tb.Error(err)
		}
	})
	return url
}

// Creating is held while ent creates or compares tables, because that writes to
// variables of the generated package.
var Creating sync.Mutex

// CreateTables runs ent's Schema.Create with [Creating] held.
func CreateTables(tb testing.TB, create func(context.Context, ...schema.MigrateOption) error) {
	tb.Helper()
	Creating.Lock()
	defer Creating.Unlock()
	if err := create(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// SQLDrivers are the names of the database/sql drivers, two of Postgres and two
// of SQLite.
var SQLDrivers = []string{"postgres", "pgx", "sqlite", "sqlite3"}

// Source returns a new, empty database as a DSN for sql.Open with the given
// driver, and its dialect.
func Source(tb testing.TB, driverName string) (dsn, of string) {
	tb.Helper()
	file := func() string { return "file:" + filepath.Join(tb.TempDir(), "test.db") }
	switch driverName {
	case "sqlite":
		return file() + "?_pragma=busy_timeout(60000)&_pragma=foreign_keys(1)&_pragma=synchronous(0)&_txlock=immediate",
			dialect.SQLite
	case "sqlite3":
		return file() + "?_busy_timeout=60000&_foreign_keys=1&_synchronous=0&_txlock=immediate", dialect.SQLite
	}
	return NewDatabase(tb, ""), dialect.Postgres
}

// Empty opens a new, empty database with the given driver, and returns its
// dialect as well.
func Empty(tb testing.TB, driverName string) (db *sql.DB, of string) {
	tb.Helper()
	dsn, of := Source(tb, driverName)
	db, err := sql.Open(driverName, dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db, of
}
