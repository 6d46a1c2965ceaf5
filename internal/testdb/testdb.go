// Package testdb gives a test a migrated database of its own, over each driver
// of Postgres and SQLite, with a client, a keyring and rows.
//
// All test binaries that run at the same time share one Postgres, which
// internal/pgserver starts for the first of them. A binary migrates one
// database on it, and each test gets a clone.
//
// Call [New], [ForEachDatabase] or one of its kind; [Main] in the TestMain of a
// package, which it needs to run the command credent.
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

// EnvCommand makes the test binary the command credent.
const EnvCommand = "CREDENT_TEST_COMMAND"

var (
	// template is the name of the migrated database that tests get a clone of.
	template = sync.OnceValues(makeTemplate)
	// dropTemplate is set by makeTemplate.
	dropTemplate = func() error { return nil }
)

// Main runs the tests of a package, or the command credent in a child of them.
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

// Server returns the server that the tests share.
func Server(tb testing.TB) *pgserver.Server {
	tb.Helper()
	return bare.Server(tb)
}

// NewDatabase returns the URL of a new database, a clone of the template or,
// for "", an empty one. If its test fails, it is kept as long as the server.
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
	return name, db.Close() // nobody may be connected to it when it's copied
}
