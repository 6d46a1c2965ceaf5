package testdb

import (
	"database/sql"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// Command returns the credent command with the environment's database and key.
func (env *Env) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...) //nolint:gosec // the test binary itself
	cmd.Env = append(os.Environ(), EnvCommand+"=1", "DATABASE_URL="+env.URL, "ENCRYPTION_KEY="+env.Key)
	return cmd
}

// Versions of migrations.
const (
	CreateTables = "20261124030000"
	Harden       = "20261124030100"
)

// Versions returns the versions of the Postgres files.
func Versions(t *testing.T) []string {
	t.Helper()
	dir, err := migrate.Files("postgres")
	if err != nil {
		t.Fatal(err)
	}
	names, err := fs.Glob(dir, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, name := range names {
		version, _, _ := strings.Cut(name, "_")
		all = append(all, version)
	}
	return all
}

// AppliedVersions returns the versions in a database's history.
func AppliedVersions(t *testing.T, db *sql.DB) []string {
	t.Helper()
	status, err := testopt.ReadStatus(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, rev := range status.Applied {
		all = append(all, rev.Version)
	}
	return all
}

// PgDump returns the output of pg_dump, without the parts that differ between
// calls.
func PgDump(t *testing.T, url string, args ...string) string {
	t.Helper()
	program := filepath.Join(Server(t).BinDir(), "pg_dump")
	out, err := exec.CommandContext(t.Context(), program, append(args, "--dbname", url)...).CombinedOutput()
	if err != nil {
		t.Fatalf("pg_dump: %v\n%s", err, out)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		// Since the releases of August 2025, pg_dump prints a random word.
		if !strings.HasPrefix(line, `\restrict`) && !strings.HasPrefix(line, `\unrestrict`) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// Backup copies the database's current state, and returns a function that
// restores it.
func (env *Env) Backup(t *testing.T) (restored func(t *testing.T) *Env) {
	t.Helper()
	of := &Env{Driver: env.Driver, Opts: env.Opts, Key: env.Key, Ring: env.Ring}
	if !env.IsSQLite() {
		dump := PgDump(t, env.URL)
		return func(t *testing.T) *Env {
			t.Helper()
			of.URL = restore(t, dump)
			return of
		}
	}
	file := filepath.Join(t.TempDir(), "backup.db")
	env.Exec(t, "VACUUM INTO '"+file+"'")
	of.URL = "sqlite:" + file
	return func(*testing.T) *Env { return of }
}

// restore creates a database from a dump.
func restore(t *testing.T, dump string) string {
	t.Helper()
	url := NewDatabase(t, "")
	program := filepath.Join(Server(t).BinDir(), "psql")
	cmd := exec.CommandContext(t.Context(), program, "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", url)
	cmd.Stdin = strings.NewReader(dump)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	return url
}
