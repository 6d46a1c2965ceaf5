// Package integration runs the tests of the vault on a Postgres that they start.
package integration

import (
	"database/sql"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"entgo.io/ent/dialect"
	"github.com/credent-go/credent/credenttest"
	"github.com/credent-go/credent/migrate"
	_ "github.com/lib/pq" // a database driver

	entmigrate "example.com/oauth/ent/migrate"
	"example.com/oauth/migrations"
	"example.com/oauth/vault/vaulttest"
)

func TestMain(m *testing.M) { os.Exit(credenttest.Main(m)) }

func open(t *testing.T, driver string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, credenttest.EmptyURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestPostgres(t *testing.T) {
	for name, driver := range map[string]string{"pq": "postgres", "pgx": "pgx"} {
		t.Run(name, func(t *testing.T) {
			vaulttest.Run(t, func(t *testing.T) (*sql.DB, string) {
				t.Helper()
				return open(t, driver), dialect.Postgres
			})
		})
	}
}

// The migration files make the schema of package ent, and nothing in them is dangerous.
func TestMigrations(t *testing.T) {
	files, err := migrations.Files("postgres")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "postgres")
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	written, err := migrate.Diff(t.Context(), open(t, "postgres"), dir, "missing", entmigrate.Tables...)
	if err != nil || written {
		t.Errorf("got %v, %v, want nothing to write", written, err)
	}
	found, err := migrate.Lint(t.Context(), open(t, "postgres"), os.DirFS(dir), migrate.LintOptions{})
	if err != nil || len(found) > 0 {
		t.Errorf("got %v, %v", found, err)
	}
	if names, err := fs.Glob(files, "*.sql"); err != nil || len(names) == 0 {
		t.Errorf("got %v, %v", names, err)
	}
	db := open(t, "postgres")
	if err := migrate.Apply(t.Context(), db, migrate.WithDir(files)); err != nil {
		t.Fatal(err)
	}
	if report, err := migrate.Check(t.Context(), db, migrate.WithDir(files)); err != nil || report.Err() != nil {
		t.Errorf("got %+v, %v", report, err)
	}
}
