package migrations

import (
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

func TestApply(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.OpenDB(t, testdb.NewDatabase(t, ""), opts...)
			status, err := testopt.ReadStatus(t.Context(), db)
			if err != nil {
				t.Fatal(err)
			}
			if len(status.Applied) != 0 || len(status.Pending) != len(testdb.Versions(t)) || !errors.Is(status.Err(),
				migrate.ErrPending) {
				t.Errorf("status of an empty database: %+v, %v", status, status.Err())
			}
			var files []string
			progress := testopt.WithProgress(func(name string) { files = append(files, name) })
			for range 2 { // nothing to do the second time
				if err := testopt.Apply(t.Context(), db, progress); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(status.Pending, files); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(testdb.Versions(t), testdb.AppliedVersions(t, db)); diff != "" {
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
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.OpenDB(t, testdb.NewDatabase(t, ""), opts...)
			db.SetMaxOpenConns(1)
			if err := testopt.Apply(t.Context(), db); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(testdb.Versions(t), testdb.AppliedVersions(t, db)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Eight instances start at once: each file is applied once, and all find the
// database ready.
func TestApplyAtOnce(t *testing.T) {
	t.Parallel()
	url := testdb.NewDatabase(t, "")
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		files []string
	)
	for range 8 {
		db := testdb.OpenDB(t, url)
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
	if len(files) != len(testdb.Versions(t)) {
		t.Errorf("applied %v", files)
	}
	var locks int
	db := testdb.OpenDB(t, url)
	if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "+
		"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").
		Scan(&locks); err != nil || locks != 0 {
		t.Errorf("%d advisory locks left, %v", locks, err)
	}
}

// The stock command's lock: FNV-1 of "atlas_migrate_execute", held by the
// session.
func TestApplyWaitsForTheStockLock(t *testing.T) {
	t.Parallel()
	url := testdb.NewDatabase(t, "")
	holder, err := testdb.OpenDB(t, url).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.ExecContext(t.Context(), "SELECT pg_advisory_lock(2686470616)"); err != nil {
		t.Fatal(err)
	}
	db := testdb.OpenDB(t, url)
	if err := testopt.Apply(t.Context(), db, testopt.WithMigratorTimeout(0)); !errors.Is(err, migrate.ErrLocked) {
		t.Errorf("while another session holds the lock: %v", err)
	}
	if n := len(testdb.AppliedVersions(t, db)); n != 0 {
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
		env := testdb.New(t)
		env.Exec(t, "INSERT INTO atlas_schema_revisions.atlas_schema_revisions SELECT '20991231000000', 'later', 2, "+
			"1, 1, now(), 1, '', '', 'hash', 'null', 'other'")
		if err := testopt.Apply(t.Context(), env.DB); !errors.Is(err, migrate.ErrNewer) ||
			!strings.Contains(err.Error(), "20991231000000") {
			t.Error(err)
		}
		status, err := testopt.ReadStatus(t.Context(), env.DB)
		if err != nil || !errors.Is(status.Err(), migrate.ErrNewer) {
			t.Errorf("%+v, %v", status, err)
		}
	})
	t.Run("tables and no history", func(t *testing.T) {
		t.Parallel()
		db := testdb.OpenDB(t, testdb.NewDatabase(t, ""))
		if _, err := db.ExecContext(t.Context(), "CREATE TABLE others (id int)"); err != nil {
			t.Fatal(err)
		}
		if err := testopt.Apply(t.Context(), db); !errors.Is(err, migrate.ErrNotClean) {
			t.Error(err)
		}
		var schemas int
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_namespace WHERE nspname = "+
			"'atlas_schema_revisions'").
			Scan(&schemas); err != nil || schemas != 0 {
			t.Errorf("the refused Apply left a history behind: %d, %v", schemas, err)
		}
		if err := testopt.Apply(t.Context(), db, testopt.WithAllowDirty()); err != nil {
			t.Errorf("allowed: %v", err)
		}
	})
	t.Run("unreachable", func(t *testing.T) {
		t.Parallel()
		db := testdb.OpenDB(t, "postgres://nobody:hunter2@127.0.0.1:1/none?sslmode=disable&connect_timeout=2")
		err := testopt.Apply(t.Context(), db)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Error(err)
		}
	})
}

// A failing file is rolled back whole; earlier ones stay.
func TestFailedFileIsRolledBack(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewDatabase(t, "")
			testdb.Twin(t, url, "", nil, "create-all")
			db := testdb.OpenDB(t, url, opts...)
			for _, stmt := range []string{
				"INSERT INTO user_accounts (id, user_id, account_name) VALUES (gen_random_uuid(), 'u1', 'n')",
				"INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, secret_key) " +
					"SELECT gen_random_uuid(), id, user_id, 'alpaca', 'PLAINCANARY', 'PLAINCANARY' FROM user_accounts",
			} {
				if _, err := db.ExecContext(t.Context(), stmt); err != nil {
					t.Fatal(err)
				}
			}
			err := testopt.Apply(t.Context(), db, testopt.WithBaseline(testdb.CreateTables))
			if err == nil || !strings.Contains(err.Error(),
				testdb.Harden+"_harden.sql:") || strings.Contains(err.Error(), "PLAINCANARY") {
				t.Fatal(err)
			}
			var active sql.NullBool
			if err := db.QueryRowContext(t.Context(), "SELECT is_active FROM user_accounts").
				Scan(&active); err != nil || active.Valid {
				t.Errorf("the failed file's UPDATE stayed: %v, %v", active, err)
			}
			if n := len(testdb.AppliedVersions(t, db)); n != 0 {
				t.Errorf("the history has %d rows", n)
			}
			if _, err := db.ExecContext(t.Context(), "DELETE FROM user_credentials"); err != nil {
				t.Fatal(err)
			}
			if err := testopt.Apply(t.Context(), db, testopt.WithBaseline(testdb.CreateTables)); err != nil {
				t.Errorf("after the cause was removed: %v", err)
			}
		})
	}
}

// The schema after the last file is the ent schema's, on either database.
func TestNoDiffAfterTheLastFile(t *testing.T) {
	t.Parallel()
	for directory, url := range map[string]string{"postgres": testdb.NewDatabase(t, ""), "sqlite": "sqlite::memory:"} {
		t.Run(directory, func(t *testing.T) {
			t.Parallel()
			tmp := t.TempDir()
			if err := os.CopyFS(tmp, os.DirFS(filepath.Join("..", "..", "migrate", directory))); err != nil {
				t.Fatal(err)
			}
			for range 2 { // twice on the same database, since Diff leaves it empty
				written, err := migrate.Diff(t.Context(), testdb.OpenDB(t, url), tmp, "again")
				if err != nil || written {
					t.Errorf("written %v, %v", written, err)
				}
			}
			// A removed file is found.
			last := lastFile(t, tmp)
			if err := os.Remove(last); err != nil {
				t.Fatal(err)
			}
			if _, err := migrate.Diff(t.Context(), testdb.OpenDB(t, url), tmp, "again"); err == nil {
				t.Error("accepted a directory that doesn't match its atlas.sum")
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

// pg_dump prints the same for a database that create_all made and for one with
// only the first migration.
func TestFirstMigrationIsCreateAll(t *testing.T) {
	t.Parallel()
	made := testdb.NewDatabase(t, "")
	testdb.Twin(t, made, "", nil, "create-all")

	migrated := testdb.NewDatabase(t, "")
	dir, err := migrate.Files("postgres")
	if err != nil {
		t.Fatal(err)
	}
	script, err := fs.ReadFile(dir, testdb.CreateTables+"_create_tables.sql")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := testdb.OpenDB(t, migrated).ExecContext(t.Context(), string(script)); err != nil {
		t.Fatal(err)
	}
	want := testdb.PgDump(t, made, "--schema-only")
	if !strings.Contains(want, "idx_user_credentials_account_id") {
		t.Fatalf("create_all created\n%s", want)
	}
	if diff := cmp.Diff(want, testdb.PgDump(t, migrated, "--schema-only")); diff != "" {
		t.Error(diff)
	}
}

// A used database's dump contains no secret.
func TestDumpHasNoPlaintext(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		account := env.Account(t, "u1")
		for i, secret := range []string{"CANARY-ALPACA-KEY", "CANARY-ключ", strings.Repeat("CANARY", 50)} {
			credential := env.Credential(t, account, secret, "CANARY-SECRET")
			if i == 0 {
				credential.Update().SetSecretKey(credent.NewSecret("CANARY-UPDATED")).SaveX(t.Context())
			}
		}
		dump := testdb.PgDump(t, env.URL)
		if n := strings.Count(dump, "gAAAA"); n < 6 {
			t.Fatalf("the dump has %d tokens", n)
		}
		if i := strings.Index(dump, "CANARY"); i >= 0 {
			t.Errorf("the dump has plaintext: %s", dump[max(0, i-80):i+20])
		}
	})
}
