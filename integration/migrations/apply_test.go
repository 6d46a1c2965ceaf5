package migrations

import (
	"database/sql"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// The files of a directory with one that runs without a transaction. Its second
// statement fails as long as there are two equal numbers.
var withoutTx = map[string]string{
	"20260101000000_a.sql": "CREATE TABLE t (id int, n int);\nINSERT INTO t VALUES (1, 1), (2, 1);\n",
	"20260101000001_b.sql": `-- atlas:txmode none

CREATE INDEX CONCURRENTLY IF NOT EXISTS t_n ON t (n);
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS t_u ON t (n);
CREATE INDEX CONCURRENTLY IF NOT EXISTS t_id ON t (id);
`,
	"20260101000002_c.sql": "CREATE TABLE c (id int);\n",
}

// with returns the files with another one, or another text for one of them.
func with(files map[string]string, name, text string) map[string]string {
	all := map[string]string{name: text}
	for n, s := range files {
		if n != name {
			all[n] = s
		}
	}
	return all
}

// row is what a query for one value finds, as text.
func row(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	var value sql.NullString
	if err := db.QueryRowContext(t.Context(), query).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value.String
}

const invalidIndexes = "SELECT string_agg(indexrelid::regclass::text, ',') FROM pg_index WHERE NOT indisvalid"

func TestApplyDryRun(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.OpenDB(t, testdb.NewDatabase(t, ""), opts...)
			dir := testopt.WithDir(newDirectory(t, withoutTx))
			plan := func(opts ...testopt.Migration) (planned []migrate.Planned) {
				t.Helper()
				report := testopt.WithDryRun(func(p migrate.Planned) { planned = append(planned, p) })
				if err := testopt.Apply(t.Context(), db, append(opts, dir, report)...); err != nil {
					t.Fatal(err)
				}
				return planned
			}
			want := []migrate.Planned{
				{Name: "20260101000000_a.sql", Transaction: true, Statements: []migrate.Statement{
					{Line: 1, SQL: "CREATE TABLE t (id int, n int);"},
					{Line: 2, SQL: "INSERT INTO t VALUES (1, 1), (2, 1);"},
				}},
				{Name: "20260101000001_b.sql", Statements: []migrate.Statement{
					{Line: 3, SQL: "CREATE INDEX CONCURRENTLY IF NOT EXISTS t_n ON t (n);"},
					{Line: 4, SQL: "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS t_u ON t (n);"},
					{Line: 5, SQL: "CREATE INDEX CONCURRENTLY IF NOT EXISTS t_id ON t (id);"},
				}},
				{
					Name: "20260101000002_c.sql", Transaction: true,
					Statements: []migrate.Statement{{Line: 1, SQL: "CREATE TABLE c (id int);"}},
				},
			}
			if diff := cmp.Diff(want, plan()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(want[:1], plan(testopt.WithTarget("20260101000000"))); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(want[1:], plan(testopt.WithBaseline("20260101000000"))); diff != "" {
				t.Error(diff)
			}
			if n := row(t, db, "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', "+
				"'information_schema')"); n != "0" {
				t.Errorf("%s tables were made", n)
			}
			if n := row(t, db, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'atlas%'"); n != "0" {
				t.Errorf("%s schemas were made", n)
			}
			// What is left after a failure.
			if err := testopt.Apply(t.Context(), db, dir); !errors.Is(err, migrate.ErrPartial) {
				t.Fatal(err)
			}
			want[1].Statements = want[1].Statements[1:]
			if diff := cmp.Diff(want[1:], plan()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestApplyTarget(t *testing.T) {
	t.Parallel()
	db := testdb.OpenDB(t, testdb.NewDatabase(t, ""))
	for _, target := range []string{"20250101000000", "x", "20260101000000_a"} {
		err := testopt.Apply(t.Context(), db, testopt.WithDir(newDirectory(t, withoutTx)), testopt.WithTarget(target))
		if !errors.Is(err, migrate.ErrUnknownVersion) {
			t.Errorf("%s: %v", target, err)
		}
	}
	all := testdb.Versions(t)
	for i, want := range []int{1, 2, 2, len(all)} {
		opts := []testopt.Migration{testopt.WithTarget(all[min(i, 1)])} // the third time there is nothing to do
		if i == 3 {
			opts = nil
		}
		if err := testopt.Apply(t.Context(), db, opts...); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(all[:want], testdb.AppliedVersions(t, db)); diff != "" {
			t.Error(diff)
		}
	}
	if err := testopt.Apply(t.Context(), db, testopt.WithTarget(all[0])); err != nil {
		t.Errorf("beyond the target: %v", err)
	}
	if err := testopt.Apply(t.Context(), db, testopt.WithTarget(all[0]), testopt.WithBaseline(all[1])); err == nil {
		t.Error("a baseline beyond the target")
	}
}

func TestApplyOutOfOrder(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.OpenDB(t, testdb.NewDatabase(t, ""), opts...)
			files := map[string]string{"1_a.sql": "CREATE TABLE a (id int);", "3_c.sql": "CREATE TABLE c (id int);"}
			if err := testopt.Apply(t.Context(), db, testopt.WithDir(newDirectory(t, files))); err != nil {
				t.Fatal(err)
			}
			files = with(with(files, "4_d.sql", "CREATE TABLE d (id int);"), "2_b.sql",
				"-- atlas:txmode none\n\nCREATE TABLE b (id int);\nINSERT INTO b VALUES (1 / (SELECT count(*) FROM "+
					"a));\n")
			dir := testopt.WithDir(newDirectory(t, files))
			err := testopt.Apply(t.Context(), db, dir)
			if !errors.Is(err, migrate.ErrOutOfOrder) || !strings.Contains(err.Error(), ": 2_b.sql") {
				t.Error(err)
			}
			if got := row(t, db, "SELECT count(*) FROM atlas_schema_revisions.atlas_schema_revisions"); got != "2" {
				t.Errorf("%s rows in the history", got)
			}
			// Applied in part, in the middle of the history: it is gone on with
			// there.
			var failed *migrate.StatementError
			err = testopt.Apply(t.Context(), db, dir, testopt.WithNonLinear())
			if !errors.As(err, &failed) || failed.File != "2_b.sql" || failed.Line != 4 || !failed.Partial ||
				failed.InDoubt {
				t.Errorf("%v", err)
			}
			testdb.Run(t, db, "INSERT INTO a VALUES (1)")
			if err := testopt.Apply(t.Context(), db, dir); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff([]string{"1", "2", "3", "4"}, testdb.AppliedVersions(t, db)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestApplyWithoutTransaction(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.OpenDB(t, testdb.NewDatabase(t, ""), opts...)
			dir := testopt.WithDir(newDirectory(t, withoutTx))
			for range 2 { // it fails again
				var failed *migrate.StatementError
				err := testopt.Apply(t.Context(), db, dir)
				if !errors.As(err, &failed) || failed.File != "20260101000001_b.sql" || failed.Line != 4 ||
					!failed.Partial ||
					failed.InDoubt || !errors.Is(err, migrate.ErrPartial) || strings.Contains(err.Error(), "CREATE") {
					t.Fatal(err)
				}
			}
			if got := row(t, db, invalidIndexes); got != "t_u" {
				t.Errorf("the failed statement left %q", got)
			}
			status, err := testopt.ReadStatus(t.Context(), db, dir)
			if err != nil || status.Partial != "20260101000001" || len(status.Pending) != 2 ||
				!errors.Is(status.Err(), migrate.ErrPartial) {
				t.Errorf("%+v, %v", status, err)
			}
			testdb.Run(t, db, "DELETE FROM t WHERE id = 2")
			// Another instance, with the applied part of the file changed or
			// gone.
			for _, text := range []string{
				strings.Replace(withoutTx["20260101000001_b.sql"], "t_n ON t (n)", "t_n ON t (id)", 1),
				"-- atlas:txmode none\n\n",
			} {
				changed := newDirectory(t, with(withoutTx, "20260101000001_b.sql", text))
				err := testopt.Apply(t.Context(), db, testopt.WithDir(changed))
				if !errors.Is(err, migrate.ErrHistoryChanged) ||
					!strings.Contains(err.Error(), "20260101000001_b.sql") {
					t.Error(err)
				}
			}
			if err := testopt.Apply(t.Context(), db, dir); err != nil {
				t.Fatal(err)
			}
			if got := row(t, db, invalidIndexes); got != "" {
				t.Errorf("invalid indexes %q", got)
			}
			if got := row(t, db, "SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass"); got != "3" {
				t.Errorf("%s indexes", got)
			}
			if got := row(t, db, "SELECT string_agg(applied || '/' || total || error || partial_hashes, ' ' ORDER BY "+
				"version) FROM atlas_schema_revisions.atlas_schema_revisions"); got != "2/2null 3/3null 1/1null" {
				t.Error(got)
			}
		})
	}
}

// A file may be corrected after the statements that are applied. The
// corrected file is then in the history.
func TestApplyCorrectedFile(t *testing.T) {
	t.Parallel()
	for name, rest := range map[string]string{
		"fewer statements": "",
		"other statements": "DELETE FROM t WHERE id = 2;\nSELECT 1;\nSELECT 2;\nSELECT 3;\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.OpenDB(t, testdb.NewDatabase(t, ""))
			if err := testopt.Apply(t.Context(), db, testopt.WithDir(newDirectory(t, withoutTx))); !errors.Is(err,
				migrate.ErrPartial) {
				t.Fatal(err)
			}
			text, _, _ := strings.Cut(withoutTx["20260101000001_b.sql"], "CREATE UNIQUE")
			dir := newDirectory(t, with(withoutTx, "20260101000001_b.sql", text+rest))
			if err := testopt.Apply(t.Context(), db, testopt.WithDir(dir)); err != nil {
				t.Fatal(err)
			}
			sum, err := fs.ReadFile(dir, "atlas.sum")
			if err != nil {
				t.Fatal(err)
			}
			hash := row(t, db, "SELECT hash FROM atlas_schema_revisions.atlas_schema_revisions WHERE applied = total "+
				"AND version = '20260101000001' AND error = '' AND error_stmt = ''")
			if !strings.Contains(string(sum), "_b.sql h1:"+hash+"\n") {
				t.Errorf("%s is not in\n%s", hash, sum)
			}
		})
	}
}

// Without its blank line the directive belongs to the statement and does not
// count: the file fails, and changes nothing.
func TestApplyDirectiveWithoutBlankLine(t *testing.T) {
	t.Parallel()
	db := testdb.OpenDB(t, testdb.NewDatabase(t, ""))
	text := strings.Replace(withoutTx["20260101000001_b.sql"], "none\n\n", "none\n", 1)
	err := testopt.Apply(t.Context(), db,
		testopt.WithDir(newDirectory(t, with(withoutTx, "20260101000001_b.sql", text))))
	var failed *migrate.StatementError
	if !errors.As(err, &failed) || failed.Line != 2 || failed.Partial ||
		!strings.Contains(err.Error(), "cannot run inside a transaction block") {
		t.Error(err)
	}
	if got := row(t, db, "SELECT count(*) FROM atlas_schema_revisions.atlas_schema_revisions"); got != "1" {
		t.Errorf("%s rows in the history", got)
	}
}

// Six instances with a file that runs without a transaction, which must see
// each other by the session's lock.
func TestApplyWithoutTransactionAtOnce(t *testing.T) {
	t.Parallel()
	url := testdb.NewDatabase(t, "")
	files := with(withoutTx, "20260101000001_b.sql", "-- atlas:txmode none\n\n"+
		"CREATE INDEX CONCURRENTLY t_n ON t (n);\nSELECT pg_sleep(0.1);\nINSERT INTO t VALUES (3, 3);\n")
	dir := newDirectory(t, files)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		names []string
	)
	for i := range 6 {
		db := testdb.OpenDB(t, url, testdb.Drivers[[]string{"pq", "pgx"}[i%2]]...)
		wg.Go(func() {
			err := testopt.Apply(t.Context(), db, testopt.WithDir(dir), testopt.WithProgress(func(name string) {
				mu.Lock()
				defer mu.Unlock()
				names = append(names, name)
			}))
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	db := testdb.OpenDB(t, url)
	if got := row(t, db, "SELECT count(*) FROM t"); len(names) != 3 || got != "3" {
		t.Errorf("applied %v, %s rows", names, got)
	}
	if n := row(t, db, advisoryLocks); n != "0" {
		t.Errorf("%s locks left", n)
	}
}

const advisoryLocks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' " +
	"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"

// The lock of the stock command stops files of either kind, and they it: a
// migration waits for a lock of the test's meanwhile.
func TestApplyExcludesTheStockCommand(t *testing.T) {
	t.Parallel()
	db, stock := testdb.OpenDB(t, testdb.NewDatabase(t, "")), (*sql.Conn)(nil)
	for name, text := range map[string]string{"transaction": "", "none": "-- atlas:txmode none\n\n"} {
		dir := testopt.WithDir(newDirectory(t, map[string]string{
			"1_a.sql": "",
			"2_b.sql": text + "SELECT pg_advisory_lock(7), pg_advisory_unlock(7);",
		}))
		testdb.Run(t, db, "DROP SCHEMA IF EXISTS atlas_schema_revisions CASCADE")
		if err := testopt.Apply(t.Context(), db, dir, testopt.WithTarget("1")); err != nil {
			t.Fatal(err)
		}
		var err error
		if stock, err = db.Conn(t.Context()); err != nil {
			t.Fatal(err)
		}
		try := func(function string, key int) (locked bool) {
			t.Helper()
			if err := stock.QueryRowContext(t.Context(), "SELECT "+function+"($1)", key).Scan(&locked); err != nil {
				t.Fatal(err)
			}
			return locked
		}
		const lock, held = 2686470616, 7
		try("pg_try_advisory_lock", lock)
		start := time.Now()
		if err := testopt.Apply(t.Context(), db, dir, testopt.WithMigratorTimeout(50*time.Millisecond)); !errors.Is(err,
			migrate.ErrLocked) {
			t.Errorf("%s: while the stock command has the lock: %v", name, err)
		}
		if waited := time.Since(start); waited < 50*time.Millisecond {
			t.Errorf("%s: waited %s", name, waited)
		}
		try("pg_advisory_unlock", lock)
		try("pg_try_advisory_lock", held)
		done := make(chan error, 1)
		go func() { done <- testopt.Apply(t.Context(), db, dir) }()
		eventually(t, func() bool {
			return row(t, db, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND "+
				"database = (SELECT oid FROM pg_database WHERE datname = current_database())") == "1"
		})
		if try("pg_try_advisory_lock", lock) {
			t.Errorf("%s: the stock command would not have been stopped", name)
		}
		try("pg_advisory_unlock", held)
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		testdb.CloseAll(t, stock)
	}
}

func TestApplyEmptyDirectory(t *testing.T) {
	t.Parallel()
	db := testdb.OpenDB(t, testdb.NewDatabase(t, ""))
	if err := testopt.Apply(t.Context(), db, testopt.WithDir(fstest.MapFS{})); err != nil {
		t.Error(err)
	}
}
