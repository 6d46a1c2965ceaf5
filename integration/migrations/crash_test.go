package migrations

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// Every statement that changes something is a point at which to be killed, just
// before it. The moment after a statement is the next one's point.
//
// One database passes through all of them: an attempt is killed at the first
// new point. Reaching it shows that the attempt recovered from the previous
// crash.

// crashDirectories returns our directory, and one with a file that runs without
// a transaction.
func crashDirectories(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{
		"own": pathOf(t, directory(t, nil)),
		"without transaction": pathOf(t, newDirectory(t, with(withoutTx, "20260101000000_a.sql",
			"CREATE TABLE t (id int, n int);\nINSERT INTO t VALUES (1, 1), (2, 2);\n"))),
	}
}

func pathOf(t *testing.T, dir fs.FS) string {
	t.Helper()
	tmp := t.TempDir()
	if err := os.CopyFS(tmp, dir); err != nil {
		t.Fatal(err)
	}
	return tmp
}

// state returns the contents of a database, with the history without times. If
// a file was killed after its last statement, a later run finishes it, and the
// library leaves its partial hashes there, as the stock command does.
func state(t *testing.T, url string) string {
	t.Helper()
	db := testdb.OpenDB(t, url)
	return testdb.PgDump(t, url, "--exclude-table-data=atlas_schema_revisions.atlas_schema_revisions") +
		row(t, db, "SELECT string_agg(concat_ws('|', version, description, type, applied, total, "+
			"quote_nullable(error), quote_nullable(error_stmt), hash, CASE WHEN applied < total THEN partial_hashes "+
			"END, operator_version), E'\\n' ORDER BY version) FROM atlas_schema_revisions.atlas_schema_revisions") +
		row(t, db, invalidIndexes) + row(t, db, advisoryLocks)
}

// uninterrupted returns the state after an uninterrupted run of a directory.
func uninterrupted(t *testing.T, path string) string {
	t.Helper()
	url := testdb.NewDatabase(t, "")
	if err := testopt.Apply(t.Context(), testdb.OpenDB(t, url), testopt.WithDir(os.DirFS(path))); err != nil {
		t.Fatal(err)
	}
	return state(t, url)
}

// The process is killed at every point.
func TestKilledProcess(t *testing.T) {
	t.Parallel()
	for name, path := range crashDirectories(t) {
		want := uninterrupted(t, path)
		for driverName := range testdb.Drivers {
			t.Run(name+"/"+driverName, func(t *testing.T) {
				t.Parallel()
				o := order{Driver: driverName, URL: testdb.NewDatabase(t, ""), Dir: path}
				for {
					point := kill(t, o)
					if point == "" {
						break
					}
					o.Points = append(o.Points, point)
				}
				if len(o.Points) < 15 {
					t.Errorf("killed at only %d points: %q", len(o.Points), o.Points)
				}
				if diff := cmp.Diff(want, state(t, o.URL)); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// The same on SQLite, where the file is locked.
func TestKilledProcessOnSQLite(t *testing.T) {
	t.Parallel()
	own, err := migrate.Files("sqlite3")
	if err != nil {
		t.Fatal(err)
	}
	const query = "SELECT group_concat(sql || char(10)) || (SELECT group_concat(concat_ws('|', version, applied, " +
		"total, error, hash)) FROM atlas_schema_revisions) FROM sqlite_master"
	for name, dir := range map[string]fs.FS{
		"own": own,
		"without transaction": newDirectory(t, map[string]string{
			"1_a.sql": "CREATE TABLE t (id int);",
			"2_b.sql": "-- atlas:txmode none\n\nCREATE TABLE IF NOT EXISTS u (id int);\nCREATE INDEX IF NOT EXISTS i " +
				"ON t (id);\n",
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole, file := testdb.OpenDB(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db")), filepath.Join(t.TempDir(),
				"x.db")
			if err := testopt.Apply(t.Context(), whole, testopt.WithDir(dir)); err != nil {
				t.Fatal(err)
			}
			o := order{Driver: "sqlite", URL: file, Dir: pathOf(t, dir)}
			for point := kill(t, o); point != ""; point = kill(t, o) {
				o.Points = append(o.Points, point)
			}
			if len(o.Points) < 10 {
				t.Errorf("killed at only %d points: %q", len(o.Points), o.Points)
			}
			if diff := cmp.Diff(row(t, whole, query), row(t, testdb.OpenDB(t, "sqlite:"+file), query)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The server is killed at every point: if one of its processes is killed,
// Postgres ends all of them and recovers from the log, as after a full crash.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	own, err := pgserver.Start(t.Context(), pgserver.Private(), pgserver.WithSetting("synchronous_commit", "on"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := own.Stop(); err != nil {
			t.Error(err)
		}
	})
	for name, path := range crashDirectories(t) {
		want := uninterrupted(t, path)
		url, _, err := own.CreateDatabase(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		var points []string
		for killed := true; killed; {
			killed = false
			var mu sync.Mutex
			db, err := openCrashing("pq", url, func(pid int32, point string) {
				mu.Lock()
				defer mu.Unlock()
				// In our own files' transactions, the row of the history that
				// was being written makes no difference.
				if killed || slices.Contains(points, point) || name == "own" && strings.HasPrefix(point, "history") {
					return
				}
				killed, points = true, append(points, point)
				if err := syscall.Kill(int(pid), syscall.SIGKILL); err != nil {
					t.Error(err)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			recovered := awaitCrash(t, url)
			if err := testopt.Apply(t.Context(), db, testopt.WithDir(os.DirFS(path))); (err == nil) == killed {
				t.Fatalf("%s: killed %t at %q: %v", name, killed, points, err)
			}
			if killed {
				recovered()
			}
			testdb.CloseAll(t, db)
		}
		if len(points) < 15 {
			t.Errorf("%s: killed at only %d points: %q", name, len(points), points)
		}
		if diff := cmp.Diff(want, state(t, url)); diff != "" {
			t.Error(diff)
		}
	}
}

// awaitCrash returns a function that waits until a server has noticed its crash
// and recovered.
func awaitCrash(t *testing.T, url string) func() {
	t.Helper()
	db := testdb.OpenDB(t, url)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		eventually(t, func() bool { return conn.PingContext(t.Context()) != nil })
		_ = conn.Close() // it's broken
		eventually(t, func() bool { return db.PingContext(t.Context()) == nil })
	}
}

func eventually(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited too long")
		}
	}
}

// An index that was being built when the server ended the connection exists but
// is invalid. Apply builds it again; the statement alone would consider it
// done.
func TestInterruptedIndex(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewDatabase(t, "")
			db, other := testdb.OpenDB(t, url, opts...), testdb.OpenDB(t, url)
			dir := testopt.WithDir(newDirectory(t, withoutTx))
			if err := testopt.Apply(t.Context(), db, dir, testopt.WithTarget("20260101000000")); err != nil {
				t.Fatal(err)
			}
			testdb.Run(t, db, "DELETE FROM t WHERE id = 2")
			tx, err := other.BeginTx(t.Context(), nil) // the index has to wait for it
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback() }()
			if _, err := tx.ExecContext(t.Context(), "INSERT INTO t VALUES (3, 3)"); err != nil {
				t.Fatal(err)
			}
			done := make(chan error)
			go func() { done <- testopt.Apply(t.Context(), db, dir) }()
			eventually(t, func() bool { return row(t, other, invalidIndexes) == "t_n" })
			testdb.Run(t, other,
				"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' "+
					"AND datname = current_database()")
			if err := <-done; !errors.Is(err, migrate.ErrPartial) ||
				!strings.Contains(err.Error(), "20260101000001_b.sql:3: ") {
				t.Error(err)
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			if err := testopt.Apply(t.Context(), db, dir); err != nil {
				t.Error(err)
			}
			if got := row(t, db, invalidIndexes); got != "" {
				t.Errorf("invalid: %s", got)
			}
			if got := row(t, db, "SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass"); got != "3" {
				t.Errorf("%s indexes", got)
			}
		})
	}
}

// A process is killed while the server runs its statement, and the server ends
// the session with its lock. The statement can't be repeated, so the next Apply
// explains.
func TestKilledInAStatement(t *testing.T) {
	t.Parallel()
	url := testdb.NewDatabase(t, "")
	db := testdb.OpenDB(t, url)
	path := pathOf(t, newDirectory(t, with(withoutTx, "20260101000001_b.sql",
		"-- atlas:txmode none\n\nINSERT INTO t VALUES (3, 3);\nCREATE TABLE s AS SELECT 1 AS n FROM "+
			"pg_sleep(1);\nINSERT INTO t VALUES (4, 4);\n")))
	all := order{Driver: "pq", URL: url, Dir: path}
	for point := kill(t, all); !strings.HasPrefix(point, "CREATE TABLE s"); point = kill(t, all) {
		all.Points = append(all.Points, point)
	}
	all.Points = append(all.Points, "CREATE TABLE s AS SELECT 1 AS n FROM pg_sleep(1);")
	cmd, _ := start(t, all)
	eventually(t, func() bool {
		return row(t, db, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'CREATE TABLE "+
			"s%' AND datname = current_database()") == "1"
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // reports the kill
	dir := testopt.WithDir(os.DirFS(path))
	if err := testopt.Apply(t.Context(), db, dir, testopt.WithMigratorTimeout(0)); !errors.Is(err, migrate.ErrLocked) {
		t.Errorf("while the server keeps working: %v", err)
	}
	var failed *migrate.StatementError
	if err := testopt.Apply(t.Context(), db, dir); !errors.As(err, &failed) || !failed.InDoubt || failed.Line != 4 ||
		!errors.Is(err, migrate.ErrPartial) || !strings.Contains(err.Error(), "undo it and apply again") {
		t.Error(err)
	}
	testdb.Run(t, db, "DROP TABLE s")
	if err := testopt.Apply(t.Context(), db, dir); err != nil {
		t.Error(err)
	}
	if got := row(t, db, "SELECT string_agg(id::text, ' ' ORDER BY id) FROM t"); got != "1 2 3 3 4" {
		t.Errorf("%s; the first INSERT was killed before it was recorded, and had to be repeated", got)
	}
}
