package migrations

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// addNote is a file after ours that needs ACCESS EXCLUSIVE.
const addNote = "SELECT 1;\nALTER TABLE user_credentials ADD COLUMN note text;\n"

// ddlWaits counts the DDL waiting for a table.
const ddlWaits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' " +
	"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"

// noteColumns counts the columns that addNote adds.
const noteColumns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'user_credentials' AND " +
	"column_name = 'note'"

// dump holds ACCESS SHARE on user_credentials, as pg_dump does, until the
// returned function is called.
func dump(t *testing.T, url string) (end func()) {
	t.Helper()
	tx, err := testdb.OpenDB(t, url+"&application_name=a%20dump").BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	if _, err := tx.ExecContext(t.Context(), "SELECT count(*) /* CANARY */ FROM user_credentials"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Commit(); err != nil {
			t.Error(err)
		}
	}
}

// Case B5. A plain SELECT queued after a waiting migration is answered before
// the transaction that blocks the migration ends.
func TestApplyLetsReadersBy(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewDatabase(t, testdb.Template(t))
			db, service := testdb.OpenDB(t, url, opts...), testdb.OpenDB(t, url, opts...)
			end := dump(t, url)
			done := make(chan error)
			go func() {
				done <- testopt.Apply(context.WithoutCancel(t.Context()), db,
					testopt.WithDir(directory(t, map[string]string{next: addNote})),
					testopt.WithLockTimeout(300*time.Millisecond), testopt.WithLockRetry(time.Hour))
			}()
			for range 3 {
				eventually(t, func() bool { return row(t, service, ddlWaits) == "1" })
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				if _, err := service.ExecContext(ctx, "SELECT count(*) FROM user_credentials"); err != nil {
					t.Errorf("a plain SELECT: %v", err)
				}
				cancel()
				// Between two tries the migration holds no lock.
				eventually(t, func() bool {
					return row(t, service, ddlWaits) == "0" &&
						row(t, service, advisoryLocks) == "0"
				})
			}
			end()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if n := row(t, db, noteColumns); n != "1" {
				t.Errorf("%s columns", n)
			}
		})
	}
}

// After the limit the error says who held the lock, and nothing has changed.
func TestApplyGivesUp(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pq", "pgx", "pq behind PgBouncer", "pgx, exec behind PgBouncer"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewDatabase(t, testdb.Template(t))
			through, opts := url, testdb.Drivers[name]
			if way, behind := strings.CutSuffix(name, " behind PgBouncer"); behind {
				through, opts = testdb.StartPgBouncer(t, url)+testdb.Pooled[way].Parameters, testdb.Pooled[way].Opts
			}
			db := testdb.OpenDB(t, through, opts...)
			before := testdb.AppliedVersions(t, db)
			end := dump(t, url)
			dir := testopt.WithDir(directory(t, map[string]string{next: addNote}))
			err := testopt.Apply(t.Context(), db, dir, testopt.WithLockTimeout(300*time.Millisecond),
				testopt.WithLockRetry(4*time.Second))
			var blocked *migrate.LockError
			var failed *migrate.StatementError
			if !errors.As(err, &blocked) || !errors.Is(err, migrate.ErrLockTimeout) || !errors.As(err, &failed) {
				t.Fatal(err)
			}
			if blocked.File != next || blocked.Line != 2 || blocked.Table != "user_credentials" || blocked.Tries < 2 ||
				blocked.Waited < 600*time.Millisecond {
				t.Errorf("%+v", blocked)
			}
			if len(blocked.Holders) != 1 || blocked.Holders[0].PID == 0 || blocked.Holders[0].Application != "a dump" ||
				blocked.Holders[0].State != "idle in transaction" || blocked.Holders[0].Age <= 0 {
				t.Errorf("%+v", blocked.Holders)
			}
			for _, want := range []string{next + ":2: ", "user_credentials", `"a dump"`, " tries", "the file was rolled back"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("missing %q in %s", want, err)
				}
			}
			if strings.Contains(err.Error(), "CANARY") {
				t.Error(err)
			}
			if diff := cmp.Diff(before, testdb.AppliedVersions(t, db)); diff != "" {
				t.Error(diff)
			}
			for query, want := range map[string]string{noteColumns: "0", advisoryLocks: "0", "SHOW lock_timeout": "0"} {
				if got := row(t, db, query); got != want {
					t.Errorf("%s: %s", query, got)
				}
			}
			end()
			if err := testopt.Apply(t.Context(), db, dir); err != nil {
				t.Error(err)
			}
		})
	}
}

// With only one connection in the pool, the error can't name the holder; the
// rest is the same.
func TestApplyGivesUpWithOneConnection(t *testing.T) {
	t.Parallel()
	url := testdb.NewDatabase(t, testdb.Template(t))
	db := testdb.OpenDB(t, url)
	db.SetMaxOpenConns(1)
	dump(t, url)
	err := testopt.Apply(t.Context(), db, testopt.WithDir(directory(t, map[string]string{next: addNote})),
		testopt.WithLockTimeout(50*time.Millisecond), testopt.WithLockRetry(0))
	var blocked *migrate.LockError
	if !errors.As(err, &blocked) || blocked.Tries != 1 || blocked.Line != 2 || len(blocked.Holders) != 0 {
		t.Error(err)
	}
}

// Zero turns the timeout off.
func TestApplyWithoutLockTimeout(t *testing.T) {
	t.Parallel()
	url := testdb.NewDatabase(t, testdb.Template(t))
	db, other := testdb.OpenDB(t, url), testdb.OpenDB(t, url)
	end := dump(t, url)
	done := make(chan error)
	go func() {
		done <- testopt.Apply(context.WithoutCancel(t.Context()), db, testopt.WithLockTimeout(0),
			testopt.WithDir(directory(t, map[string]string{next: "DO $$ BEGIN IF current_setting('lock_timeout') <> " +
				"'0' THEN RAISE 'there is one'; END IF; END $$;\n" + addNote})))
	}()
	eventually(t, func() bool { return row(t, other, ddlWaits) == "1" })
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A file without a transaction: the timeout is set on the connection for the
// file, an index built CONCURRENTLY gets the time of all tries, its leftovers
// are named, and the next run continues from the history.
func TestApplyOutsideTransactionGivesUp(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewDatabase(t, "")
			db := testdb.OpenDB(t, url, opts...)
			db.SetMaxOpenConns(2) // one inspects the locks
			testdb.Run(t, db, "ALTER DATABASE "+row(t, db,
				"SELECT quote_ident(current_database())")+" SET lock_timeout = '7777ms'")
			db.SetMaxIdleConns(0)
			db.SetMaxIdleConns(2)
			dir := testopt.WithDir(newDirectory(t, map[string]string{
				"1_a.sql": "CREATE TABLE t (id int, n int);\nCREATE TABLE seen (timeout text);",
				"2_b.sql": "-- atlas:txmode none\n\nINSERT INTO seen VALUES (current_setting('lock_timeout'));\n" +
					"CREATE INDEX CONCURRENTLY IF NOT EXISTS t_n ON t (n);\n",
			}))
			if err := testopt.Apply(t.Context(), db, dir, testopt.WithTarget("1")); err != nil {
				t.Fatal(err)
			}
			other := testdb.OpenDB(t, url)
			tx, err := other.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback() }()
			if _, err := tx.ExecContext(t.Context(), "INSERT INTO t VALUES (3, 3)"); err != nil {
				t.Fatal(err)
			}
			err = testopt.Apply(t.Context(), db, dir, testopt.WithLockTimeout(200*time.Millisecond),
				testopt.WithLockRetry(time.Second))
			var blocked *migrate.LockError
			if !errors.As(err, &blocked) || !errors.Is(err, migrate.ErrPartial) || blocked.Line != 4 ||
				blocked.Tries != 1 ||
				len(blocked.Holders) != 1 || !strings.Contains(err.Error(), "public.t_n is invalid") {
				t.Fatal(err)
			}
			if got := row(t, db, "SELECT string_agg(timeout, ' ') FROM seen"); got != "200ms" {
				t.Errorf("the first statement's lock_timeout was %s", got)
			}
			for range 4 { // both connections
				if got := row(t, db, "SHOW lock_timeout"); got != "7777ms" {
					t.Errorf("left %s", got)
				}
			}
			if got := row(t, db, "SELECT applied || '/' || total || (error LIKE '%lock timeout%')::text FROM "+
				"atlas_schema_revisions.atlas_schema_revisions WHERE version = '2'"); got != "1/2true" {
				t.Error(got)
			}
			if n := row(t, other, advisoryLocks); n != "0" {
				t.Errorf("%s advisory locks", n)
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
			if got := row(t, db, "SELECT count(*) FROM seen"); got != "1" {
				t.Errorf("the first statement ran %s times", got)
			}
		})
	}
}

// A statement that stalls readers in a file without a transaction is retried as
// in a transaction, after the completed statements.
func TestApplyOutsideTransactionRetries(t *testing.T) {
	t.Parallel()
	url := testdb.NewDatabase(t, testdb.Template(t))
	db, other := testdb.OpenDB(t, url), testdb.OpenDB(t, url)
	end := dump(t, url)
	done := make(chan error)
	go func() {
		done <- testopt.Apply(context.WithoutCancel(t.Context()), db, testopt.WithLockTimeout(200*time.Millisecond),
			testopt.WithLockRetry(time.Hour), testopt.WithDir(directory(t, map[string]string{
				next: "-- atlas:txmode none\n\nCREATE TABLE once (id int);\nALTER TABLE user_credentials ADD COLUMN " +
					"note text;\n",
			})))
	}()
	for range 2 {
		eventually(t, func() bool { return row(t, other, ddlWaits) == "1" })
		eventually(t, func() bool { return row(t, other, ddlWaits) == "0" })
	}
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Adopt doesn't wait any longer.
func TestAdoptGivesUp(t *testing.T) {
	t.Parallel()
	url := testdb.NewDatabase(t, testdb.Template(t))
	tx, err := testdb.OpenDB(t, url).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), "LOCK TABLE atlas_schema_revisions.atlas_schema_revisions"); err != nil {
		t.Fatal(err)
	}
	_, err = testopt.Adopt(t.Context(), testdb.OpenDB(t, url), testopt.WithLockTimeout(300*time.Millisecond),
		testopt.WithLockRetry(0))
	var blocked *migrate.LockError
	if !errors.As(err, &blocked) || len(blocked.Holders) != 1 ||
		!strings.Contains(blocked.Table, "atlas_schema_revisions") {
		t.Error(err)
	}
}

// On SQLite a commit waits for readers, and new readers wait for the commit.
func TestApplyGivesUpOnSQLite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.db")
	db, reader := testdb.OpenDB(t, "sqlite:"+path), testdb.OpenDB(t, "sqlite:"+path)
	dir := testopt.WithDir(newDirectory(t, map[string]string{
		"1_a.sql": "CREATE TABLE t (id int);",
		"2_b.sql": "CREATE TABLE u (id int);",
	}))
	if err := testopt.Apply(t.Context(), db, dir, testopt.WithTarget("1")); err != nil {
		t.Fatal(err)
	}
	read, err := reader.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = read.Rollback() }()
	var n int
	if err := read.QueryRowContext(t.Context(), "SELECT count(*) FROM t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	limits := []testopt.Migration{
		dir, testopt.WithLockTimeout(50 * time.Millisecond),
		testopt.WithLockRetry(3 * time.Second),
	}
	err = testopt.Apply(t.Context(), db, limits...)
	var blocked *migrate.LockError
	if !errors.As(err, &blocked) || blocked.File != "2_b.sql" || blocked.Tries < 2 ||
		!strings.Contains(err.Error(), "fuser") {
		t.Error(err)
	}
	if err := read.Rollback(); err != nil {
		t.Fatal(err)
	}
	// Another writer.
	write, err := reader.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := write.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	err = testopt.Apply(t.Context(), db, append(limits, testopt.WithMigratorTimeout(0))...)
	if !errors.Is(err, migrate.ErrLockTimeout) || !errors.Is(err, migrate.ErrLocked) ||
		!strings.Contains(err.Error(), "fuser") {
		t.Error(err)
	}
	if _, err := write.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	if got := row(t, db, "PRAGMA busy_timeout"); got != "5000" {
		t.Errorf("left a busy_timeout of %s", got)
	}
	if err := testopt.Apply(t.Context(), db, dir); err != nil {
		t.Error(err)
	}
}
