package migrations

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// Six instances start at once behind PgBouncer in transaction mode, with fewer
// server connections.
func TestApplyBehindPgBouncer(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pq", "pgx, exec"} {
		way := testdb.Pooled[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewDatabase(t, "")
			through := testdb.StartPgBouncer(t, url) + way.Parameters
			var (
				wg    sync.WaitGroup
				mu    sync.Mutex
				files []string
			)
			for i := range 6 {
				db := testdb.OpenDB(t, through, way.Opts...)
				wg.Go(func() {
					var opts []testopt.Migration
					if i%2 == 0 { // no difference if each file has a transaction
						opts = append(opts, testopt.WithPooled())
					}
					err := testopt.Apply(t.Context(), db, append(opts, testopt.WithProgress(func(name string) {
						mu.Lock()
						defer mu.Unlock()
						files = append(files, name)
					}))...)
					if err != nil {
						t.Error(err)
					}
					if status, err := testopt.ReadStatus(t.Context(), db); err != nil || status.Err() != nil {
						t.Errorf("%+v, %v", status, err)
					}
				})
			}
			wg.Wait()
			if !slices.IsSorted(files) || len(files) != len(testdb.Versions(t)) {
				t.Errorf("applied %v", files)
			}
			db := testdb.OpenDB(t, url)
			if n := row(t, db, advisoryLocks); n != "0" {
				t.Errorf("%s locks left", n)
			}
			if diff := cmp.Diff(testdb.Versions(t), testdb.AppliedVersions(t, db)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The stock command's lock, held by a session on a direct connection, also
// stops Apply behind PgBouncer.
func TestApplyBehindPgBouncerWaitsForTheStockLock(t *testing.T) {
	t.Parallel()
	url := testdb.NewDatabase(t, "")
	through := testdb.OpenDB(t, testdb.StartPgBouncer(t, url))
	stock := testdb.OpenDB(t, url)
	stock.SetMaxOpenConns(1) // one session
	testdb.Run(t, stock, "SELECT pg_advisory_lock(2686470616)")
	if err := testopt.Apply(t.Context(), through, testopt.WithMigratorTimeout(0)); !errors.Is(err, migrate.ErrLocked) {
		t.Errorf("while another session holds the lock: %v", err)
	}
	testdb.Run(t, stock, "SELECT pg_advisory_unlock(2686470616)")
	if err := testopt.Apply(t.Context(), through); err != nil {
		t.Error(err)
	}
}

// A file without a transaction is refused there, whether the option says so or
// Apply detects the pooler, and earlier files stay applied. No lock is left.
func TestApplyBehindPgBouncerRefuses(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pq", "pgx, exec"} {
		way := testdb.Pooled[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewDatabase(t, "")
			through := testdb.OpenDB(t, testdb.StartPgBouncer(t, url)+way.Parameters, way.Opts...)
			dir := testopt.WithDir(newDirectory(t, withoutTx))
			for option, opts := range map[string][]testopt.Migration{
				"told":      {dir, testopt.WithPooled()},
				"found out": {dir},
			} {
				if err := testopt.Apply(t.Context(), through, opts...); !errors.Is(err, migrate.ErrPooled) {
					t.Errorf("%s: %v", option, err)
				}
			}
			db := testdb.OpenDB(t, url, way.Opts...)
			const applied = "SELECT string_agg(version, ',') FROM atlas_schema_revisions.atlas_schema_revisions"
			if got := row(t, db, applied); got != "20260101000000" {
				t.Errorf("applied %s", got)
			}
			if n := row(t, db, advisoryLocks); n != "0" {
				t.Errorf("%s locks left", n)
			}
			// On a direct connection it continues.
			testdb.Run(t, db, "DELETE FROM t WHERE id = 2")
			if err := testopt.Apply(t.Context(), db, dir); err != nil {
				t.Error(err)
			}
		})
	}
}

// With one connection in the pool, a direct connection also works for a file
// without a transaction.
func TestApplyWithoutTransactionWithOneConnection(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.OpenDB(t, testdb.NewDatabase(t, ""), opts...)
			db.SetMaxOpenConns(1)
			files := with(withoutTx, "20260101000000_a.sql", "CREATE TABLE t (id int, n int);")
			if err := testopt.Apply(t.Context(), db, testopt.WithDir(newDirectory(t, files))); err != nil {
				t.Error(err)
			}
		})
	}
}

// Apply doesn't wait for a pool that others have exhausted.
func TestApplyWithoutTransactionOnABusyPool(t *testing.T) {
	t.Parallel()
	db := testdb.OpenDB(t, testdb.NewDatabase(t, ""))
	db.SetMaxOpenConns(2)
	busy, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer testdb.CloseAll(t, busy)
	files := with(withoutTx, "20260101000000_a.sql", "CREATE TABLE t (id int, n int);")
	if err := testopt.Apply(t.Context(), db, testopt.WithDir(newDirectory(t, files))); err != nil {
		t.Error(err)
	}
}
