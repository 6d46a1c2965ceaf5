// Package testdb gives a test its own migrated database, with each driver of
// Postgres and SQLite, with a client, a keyring and rows.
//
// All concurrently running test binaries share one Postgres, which
// internal/pgserver starts for the first. Each binary migrates one database on
// it, and each test gets a clone.
//
// Call [New], [ForEachDatabase] or a similar function. Call [Main] in a
// package's TestMain if its tests run the credent command.
package testdb

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/credent-go/credent/internal/cli"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/testdb/bare"
	"github.com/credent-go/credent/internal/testopt"
)

// EnvCommand makes the test binary act as the credent command.
const EnvCommand = "CREDENT_TEST_COMMAND"

var (
	// template returns the name of the migrated database that tests clone.
	template = sync.OnceValues(makeTemplate)
	// dropTemplate is set by makeTemplate.
	dropTemplate = func() error { return nil }
)

// Main runs a package's tests, or in a child process the credent command.
func Main(m *testing.M) {
	if os.Getenv(EnvCommand) != "" {
		os.Exit(cli.Main())
	}
	code := m.Run()
	if err := dropTemplate(); err != nil {
		fmt.Fprintln(os.Stderr, "testdb:", err)
		code = 1
	}
	os.Exit(code)
}

// Server returns the tests' shared server.
func Server(tb testing.TB) *pgserver.Server {
	tb.Helper()
	return bare.Server(tb)
}

// NewDatabase returns the URL of a new database, cloned from the template, or
// empty for "". If the test fails, the database is kept as long as the server.
func NewDatabase(tb testing.TB, template string) string {
	tb.Helper()
	return bare.NewDatabase(tb, template)
}

// Template returns the name of a migrated database, for [NewDatabase].
func Template(tb testing.TB) string {
	tb.Helper()
	name, err := template()
	if err != nil {
		tb.Fatal(err)
	}
	return name
}

func makeTemplate() (name string, err error) {
	ctx := context.Background()
	server, err := bare.Start()
	if err != nil {
		return "", err
	}
	url, drop, err := server.CreateDatabase(ctx, "")
	if err != nil {
		return "", err
	}
	dropTemplate = drop
	db, _, err := testopt.OpenDB(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = db.Close() }()
	if err := testopt.Apply(ctx, db); err != nil {
		return "", err
	}
	if err := db.QueryRowContext(ctx, "SELECT current_database()").Scan(&name); err != nil {
		return "", err
	}
	return name, db.Close() // a template can't be copied while connections to it are open
}
