// Package bare gives a test an empty database of its own, over each driver of
// Postgres and SQLite. It registers no columns, unlike package testdb above it,
// so that a test's own schema is the only one that rotations see.
package bare

import (
	"context"
	"database/sql"
	"path/filepath"
	"sync"
	"testing"

	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql/schema"
	_ "github.com/jackc/pgx/v5/stdlib" // the four drivers that the tests run over
	_ "github.com/lib/pq"
	_ "github.com/mattn/go-sqlite3"
	_ "modernc.org/sqlite"

	"github.com/credent-go/credent/internal/pgserver"
)

// Start starts the server that all test binaries share, or joins it.
var Start = sync.OnceValues(func() (*pgserver.Server, error) {
	return pgserver.Start(context.Background(), pgserver.Shared())
})

// Server is [Start] for a test.
func Server(tb testing.TB) *pgserver.Server {
	tb.Helper()
	server, err := Start()
	if err != nil {
		tb.Fatal(err)
	}
	return server
}

// NewDatabase returns the URL of a new database, a copy of a template or, for
// "", an empty one. If its test fails, it is kept as long as the server.
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

// Creating is held while ent creates tables or compares them, since it writes
// to variables of the generated package meanwhile.
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

// SQLDrivers are the drivers of database/sql: two of Postgres and two of
// SQLite.
var SQLDrivers = []string{"postgres", "pgx", "sqlite", "sqlite3"}

// Source returns a new, empty database as sql.Open takes it, with a driver's
// name, and its dialect.
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

// Empty opens a new, empty database by a driver of database/sql, and returns
// its dialect too.
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
