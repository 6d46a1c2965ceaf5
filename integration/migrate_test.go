package integration

import (
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

const (
	createTables = "20261124030000"
	harden       = "20261124030100"
)

// versions returns the versions of the Postgres files.
func versions(t *testing.T) []string {
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

func appliedVersions(t *testing.T, db *sql.DB) []string {
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

func TestApply(t *testing.T) {
	t.Parallel()
	for name, opts := range drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openDB(t, newDatabase(t, ""), opts...)
			status, err := testopt.ReadStatus(t.Context(), db)
			if err != nil {
				t.Fatal(err)
			}
			if len(status.Applied) != 0 || len(status.Pending) != len(versions(t)) || !errors.Is(status.Err(), migrate.ErrPending) {
				t.Errorf("status of an empty database: %+v, %v", status, status.Err())
			}
			var files []string
			progress := testopt.WithProgress(func(name string) { files = append(files, name) })
			for range 2 { // the second time there is nothing to do
				if err := testopt.Apply(t.Context(), db, progress); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(status.Pending, files); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(versions(t), appliedVersions(t, db)); diff != "" {
				t.Error(diff)
			}
			if status, err = testopt.ReadStatus(t.Context(), db); err != nil || status.Err() != nil {
				t.Errorf("status afterwards: %+v, %v", status, err)
			}
		})
	}
}

func TestApplyWithOneConnection(t *testing.T) {
	t.Parallel()
	for name, opts := range drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openDB(t, newDatabase(t, ""), opts...)
			db.SetMaxOpenConns(1)
			if err := testopt.Apply(t.Context(), db); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(versions(t), appliedVersions(t, db)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Eight instances that start at once: each file is applied once, and all find
// the database ready.
func TestApplyAtOnce(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, "")
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		files []string
	)
	for range 8 {
		db := openDB(t, url)
		wg.Go(func() {
			err := testopt.Apply(t.Context(), db, testopt.WithProgress(func(name string) {
				mu.Lock()
				defer mu.Unlock()
				files = append(files, name)
			}))
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(files) != len(versions(t)) {
		t.Errorf("applied %v", files)
	}
	var locks int
	db := openDB(t, url)
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "+
		"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&locks); err != nil || locks != 0 {
		t.Errorf("%d advisory locks left, %v", locks, err)
	}
}

// The stock command's lock: FNV-1 of "atlas_migrate_execute", in the session.
func TestApplyWaitsForTheStockLock(t *testing.T) {
	t.Parallel()
	url := newDatabase(t, "")
	holder, err := openDB(t, url).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.ExecContext(t.Context(), "SELECT pg_advisory_lock(2686470616)"); err != nil {
		t.Fatal(err)
	}
	db := openDB(t, url)
	if err := testopt.Apply(t.Context(), db, testopt.WithMigratorTimeout(0)); !errors.Is(err, migrate.ErrLocked) {
		t.Errorf("while another holds the lock: %v", err)
	}
	if n := len(appliedVersions(t, db)); n != 0 {
		t.Errorf("%d files were applied", n)
	}
	if err := holder.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestApplyRefusals(t *testing.T) {
	t.Parallel()
	t.Run("newer database", func(t *testing.T) {
		t.Parallel()
		env := newEnvironment(t)
		env.exec(t, "INSERT INTO atlas_schema_revisions.atlas_schema_revisions SELECT '20991231000000', 'later', 2, 1, 1, "+
			"now(), 1, '', '', 'hash', 'null', 'other'")
		if err := testopt.Apply(t.Context(), env.db); !errors.Is(err, migrate.ErrNewer) || !strings.Contains(err.Error(), "20991231000000") {
			t.Error(err)
		}
		status, err := testopt.ReadStatus(t.Context(), env.db)
		if err != nil || !errors.Is(status.Err(), migrate.ErrNewer) {
			t.Errorf("%+v, %v", status, err)
		}
	})
	t.Run("tables and no history", func(t *testing.T) {
		t.Parallel()
		db := openDB(t, newDatabase(t, ""))
		if _, err := db.ExecContext(t.Context(), "CREATE TABLE others (id int)"); err != nil {
			t.Fatal(err)
		}
		if err := testopt.Apply(t.Context(), db); !errors.Is(err, migrate.ErrNotClean) {
			t.Error(err)
		}
		var schemas int
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_namespace WHERE nspname = 'atlas_schema_revisions'").
			Scan(&schemas); err != nil || schemas != 0 {
			t.Errorf("the refused Apply left a history behind: %d, %v", schemas, err)
		}
		if err := testopt.Apply(t.Context(), db, testopt.WithAllowDirty()); err != nil {
			t.Errorf("allowed: %v", err)
		}
	})
	t.Run("unreachable", func(t *testing.T) {
		t.Parallel()
		db := openDB(t, "postgres://nobody:hunter2@127.0.0.1:1/none?sslmode=disable&connect_timeout=2")
		err := testopt.Apply(t.Context(), db)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Error(err)
		}
	})
}

// A file that fails is rolled back whole; the ones before it stay.
func TestFailedFileIsRolledBack(t *testing.T) {
	t.Parallel()
	for name, opts := range drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := newDatabase(t, "")
			twin(t, url, "", nil, "create-all")
			db := openDB(t, url, opts...)
			for _, stmt := range []string{
				"INSERT INTO user_accounts (id, user_id, account_name) VALUES (gen_random_uuid(), 'u1', 'n')",
				"INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, secret_key) " +
					"SELECT gen_random_uuid(), id, user_id, 'alpaca', 'PLAINCANARY', 'PLAINCANARY' FROM user_accounts",
			} {
				if _, err := db.ExecContext(t.Context(), stmt); err != nil {
					t.Fatal(err)
				}
			}
			err := testopt.Apply(t.Context(), db, testopt.WithBaseline(createTables))
			if err == nil || !strings.Contains(err.Error(), harden+"_harden.sql:") || strings.Contains(err.Error(), "PLAINCANARY") {
				t.Fatal(err)
			}
			var active sql.NullBool
			if err := db.QueryRowContext(t.Context(), "SELECT is_active FROM user_accounts").Scan(&active); err != nil || active.Valid {
				t.Errorf("the failed file's UPDATE stayed: %v, %v", active, err)
			}
			if n := len(appliedVersions(t, db)); n != 0 {
				t.Errorf("%d rows in the history", n)
			}
			if _, err := db.ExecContext(t.Context(), "DELETE FROM user_credentials"); err != nil {
				t.Fatal(err)
			}
			if err := testopt.Apply(t.Context(), db, testopt.WithBaseline(createTables)); err != nil {
				t.Errorf("after the cause was removed: %v", err)
			}
		})
	}
}

// The schema that the last file leaves is the one that the ent schema asks for,
// on either database.
func TestNoDiffAfterTheLastFile(t *testing.T) {
	t.Parallel()
	for directory, url := range map[string]string{"postgres": newDatabase(t, ""), "sqlite": "sqlite::memory:"} {
		t.Run(directory, func(t *testing.T) {
			t.Parallel()
			tmp := t.TempDir()
			if err := os.CopyFS(tmp, os.DirFS(filepath.Join("..", "migrate", directory))); err != nil {
				t.Fatal(err)
			}
			for range 2 { // once more on the same database: it is left empty
				written, err := migrate.Diff(t.Context(), openDB(t, url), tmp, "again")
				if err != nil || written {
					t.Errorf("written %v, %v", written, err)
				}
			}
			// What is not there any more is found.
			last := lastFile(t, tmp)
			if err := os.Remove(last); err != nil {
				t.Fatal(err)
			}
			if _, err := migrate.Diff(t.Context(), openDB(t, url), tmp, "again"); err == nil {
				t.Error("a directory that does not match its atlas.sum was accepted")
			}
		})
	}
}

func lastFile(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.sql"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	return names[len(names)-1]
}

// What pg_dump says of a database that create_all made, and of one with the
// first migration alone, is the same.
func TestFirstMigrationIsCreateAll(t *testing.T) {
	t.Parallel()
	made := newDatabase(t, "")
	twin(t, made, "", nil, "create-all")

	migrated := newDatabase(t, "")
	dir, err := migrate.Files("postgres")
	if err != nil {
		t.Fatal(err)
	}
	script, err := fs.ReadFile(dir, createTables+"_create_tables.sql")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openDB(t, migrated).ExecContext(t.Context(), string(script)); err != nil {
		t.Fatal(err)
	}
	want := pgDump(t, made, "--schema-only")
	if !strings.Contains(want, "idx_user_credentials_account_id") {
		t.Fatalf("create_all made\n%s", want)
	}
	if diff := cmp.Diff(want, pgDump(t, migrated, "--schema-only")); diff != "" {
		t.Error(diff)
	}
}

// pgDump returns what pg_dump says of a database, without what differs from
// call to call.
func pgDump(t *testing.T, url string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(server.BinDir(), "pg_dump"), append(args, "--dbname", url)...).CombinedOutput()
	if err != nil {
		t.Fatalf("pg_dump: %v\n%s", err, out)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		// A random word, since the releases of August 2025.
		if !strings.HasPrefix(line, `\restrict`) && !strings.HasPrefix(line, `\unrestrict`) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// A dump of a used database has no secret in it.
func TestDumpHasNoPlaintext(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, env *environment) {
		account := env.account(t, "u1")
		for i, secret := range []string{"CANARY-ALPACA-KEY", "CANARY-ключ", strings.Repeat("CANARY", 50)} {
			credential := env.credential(t, account, secret, "CANARY-SECRET")
			if i == 0 {
				credential.Update().SetSecretKey(credent.NewSecret("CANARY-UPDATED")).SaveX(t.Context())
			}
		}
		dump := pgDump(t, env.url)
		if n := strings.Count(dump, "gAAAA"); n < 6 {
			t.Fatalf("the dump has %d tokens", n)
		}
		if i := strings.Index(dump, "CANARY"); i >= 0 {
			t.Errorf("the dump has plaintext: %s", dump[max(0, i-80):i+20])
		}
	})
}
