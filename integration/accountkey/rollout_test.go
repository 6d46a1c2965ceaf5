package accountkey

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// Each file of the roll-out runs beside an open transaction that has written to
// both tables. The two files that read the rows block nobody. The two that need
// a lock give up after the limit and can be retried. Between any two files the
// service keeps working, and no credential gets another user's account.
func TestRollOutFileByFile(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t, opts)
			apply := func(target string, more ...testopt.Migration) error {
				// Each run is a new process that continues where the last one
				// stopped.
				db := testdb.OpenDB(t, d.url, opts...)
				return testopt.Apply(t.Context(), db, append(more, testopt.WithTarget(target))...)
			}
			impatient := []testopt.Migration{testopt.WithLockTimeout(100 * time.Millisecond), testopt.WithLockRetry(0)}
			d.serve(t, "before")

			tx := d.open(t)
			done := make(chan error, 1)
			go func() { done <- apply(makesIndex) }()
			d.awaitLock(t, done)
			d.serve(t, "while the index is made")
			if err := errors.Join(tx.Commit(), <-done); err != nil {
				t.Fatal(err)
			}
			d.serve(t, "with the index")

			for _, target := range []string{addsKey, validates, dropsTriggers} {
				tx := d.open(t)
				err := apply(target, impatient...)
				if target == validates {
					if err != nil {
						t.Errorf("validating waits for a writer: %v", err)
					}
				} else if !errors.Is(err, migrate.ErrLockTimeout) {
					t.Errorf("%s beside an open writer: %v", target, err)
				}
				d.serve(t, target+" was tried")
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				if err := apply(target); err != nil {
					t.Fatal(err)
				}
				d.serve(t, "with "+target)
			}
			if err := apply(""); err != nil { // the files after them
				t.Fatal(err)
			}
			if report, err := testopt.Check(t.Context(), d.DB); err != nil || report.Err() != nil {
				t.Errorf("%v, %+v", err, report)
			}
			const earlier = "SELECT proname FROM pg_proc WHERE proname ~ '^credent_.*_tenant$' UNION ALL " +
				"SELECT tgname FROM pg_trigger WHERE tgname ~ 'tenant' UNION ALL " +
				"SELECT conname FROM pg_constraint WHERE conname = 'user_credentials_user_account_id_fkey'"
			if left := testdb.Lines(t, d.DB, earlier); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// Writers keep running while all files are applied at once, and lose nothing.
func TestRollOutBesideWriters(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t, opts)
			var inserted, deleted, refused atomic.Int64
			var wg sync.WaitGroup
			stop := make(chan struct{})
			ready := make(chan struct{}, 4)
			for w := range 4 {
				wg.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						if err := d.write(t.Context(), w, i, &inserted, &deleted, &refused); err != nil {
							t.Errorf("writer %d: %v", w, err)
						}
						if i == 3 {
							ready <- struct{}{}
						}
					}
				})
			}
			for range 4 {
				<-ready
			}
			err := testopt.Apply(t.Context(), testdb.OpenDB(t, d.url, opts...), testopt.WithLockRetry(5*time.Minute))
			close(stop)
			wg.Wait()
			if err != nil {
				t.Fatal(err)
			}
			if n := d.value(t, mismatches); n != "0" {
				t.Errorf("%s credentials have another user_id than their account", n)
			}
			want := fmt.Sprint(int64(len(d.accounts)*perAccount) + inserted.Load() - deleted.Load())
			if n := d.value(t, "SELECT count(*) FROM user_credentials"); n != want || refused.Load() == 0 {
				t.Errorf("%s credentials, want %s; %d refused", n, want, refused.Load())
			}
		})
	}
}

// write runs one round of writes on the writer's own accounts. It retries after
// a deadlock, as services do.
func (d *database) write(ctx context.Context, w, i int, inserted, deleted, refused *atomic.Int64) error {
	account, user := d.accounts[10*w+i%10], fmt.Sprintf("u%d", 10*w+i%10)
	exec := func(stmt string, args ...any) (int64, error) {
		for {
			result, err := d.ExecContext(ctx, stmt, args...)
			if err != nil && strings.Contains(err.Error(), "deadlock") {
				continue
			}
			if err != nil {
				return 0, err
			}
			return result.RowsAffected()
		}
	}
	n, err := exec(insert, account, user)
	if err != nil {
		return err
	}
	inserted.Add(n)
	if _, err := exec(insert, account, "another"); err == nil {
		return errors.New("a credential got another user_id than its account")
	}
	refused.Add(1)
	for _, rename := range [][2]string{{user, "renamed " + user}, {"renamed " + user, user}} {
		_, err := exec("UPDATE user_accounts SET user_id = $2 WHERE user_id = $1", rename[0], rename[1])
		if err != nil {
			return err
		}
	}
	n, err = exec("DELETE FROM user_credentials WHERE id = "+
		"(SELECT id FROM user_credentials WHERE user_account_id = $1 LIMIT 1)", account)
	deleted.Add(n)
	return err
}

// Apply rebuilds an interrupted index. The stock command considers it done,
// because the statement says IF NOT EXISTS, and the next file says what to do
// about it.
func TestRollOutInterruptedIndex(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t, opts)
			const state = "SELECT indisvalid::text FROM pg_index WHERE indexrelid = " +
				"to_regclass('user_accounts_user_id_id_key')"
			interrupt := func() {
				t.Helper()
				tx := d.open(t)
				done := make(chan error, 1)
				go func() {
					done <- testopt.Apply(t.Context(), testdb.OpenDB(t, d.url, opts...), testopt.WithTarget(makesIndex))
				}()
				d.awaitLock(t, done)
				if n := d.value(t, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "+
					"WHERE query LIKE 'CREATE UNIQUE INDEX%' AND datname = current_database()"); n != "1" {
					t.Fatalf("terminated %s sessions", n)
				}
				if err := <-done; err == nil {
					t.Fatal("Apply reported no error for its terminated session")
				}
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				if got := d.value(t, state); got != "false" {
					t.Fatalf("the index is valid: %s", got)
				}
			}
			interrupt()
			d.serve(t, "with an invalid index")
			dir, err := migrate.Files("postgres")
			if err != nil {
				t.Fatal(err)
			}
			files := rolloutFiles(t, dir)
			if _, err := d.ExecContext(t.Context(), files[addsKey]); err == nil ||
				!strings.Contains(err.Error(), "run REINDEX INDEX CONCURRENTLY user_accounts_user_id_id_key") {
				t.Errorf("on an invalid index: %v", err)
			}
			if err := testopt.Apply(t.Context(), d.DB); err != nil {
				t.Fatal(err)
			}
			if got := d.value(t, state); got != "true" {
				t.Errorf("the index is valid: %s", got)
			}
			d.serve(t, "afterwards")
		})
	}
}

// A credential that got past the triggers stops the roll-out while the triggers
// are still in place, and the query in the file lists it.
func TestRollOutFindsMismatch(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t, opts)
			testdb.Run(t, d.DB, "ALTER TABLE user_credentials DISABLE TRIGGER ALL",
				strings.NewReplacer("$1", "'"+d.accounts[7]+"'", "$2", "'planted'").Replace(insert),
				"ALTER TABLE user_credentials ENABLE TRIGGER ALL")
			var failed *migrate.StatementError
			err := testopt.Apply(t.Context(), d.DB)
			if !errors.As(err, &failed) || !strings.HasPrefix(failed.File, validates) ||
				!strings.Contains(err.Error(), accountKey) {
				t.Fatal(err)
			}
			applied := testdb.AppliedVersions(t, d.DB)
			if last := applied[len(applied)-1]; last != addsKey {
				t.Errorf("applied up to %s", last)
			}
			const triggers = "SELECT count(*) FROM pg_trigger WHERE tgname ~ 'tenant' AND NOT tgisinternal"
			if n := d.value(t, triggers); n != "4" {
				t.Errorf("%s triggers", n)
			}
			dir, err := migrate.Files("postgres")
			if err != nil {
				t.Fatal(err)
			}
			_, query, _ := strings.Cut(rolloutFiles(t, dir)[validates], "--   ")
			query, _, _ = strings.Cut(query, "\n")
			found := testdb.Lines(t, d.DB, strings.Replace(query, "c.id", "c.user_id", 1))
			if diff := cmp.Diff([]string{"planted"}, found); diff != "" {
				t.Error(diff)
			}
			testdb.Run(t, d.DB, "DELETE FROM user_credentials WHERE user_id = 'planted'")
			if err := testopt.Apply(t.Context(), d.DB); err != nil {
				t.Error(err)
			}
		})
	}
}

// Behind a pooler in transaction mode an empty database is migrated as before.
// If there are accounts, the index needs a direct connection, and a failed run
// leaves nothing half done.
func TestRollOutBehindPgBouncer(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pq", "pgx, exec"} {
		way := testdb.Pooled[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t, way.Opts)
			through := testdb.OpenDB(t, testdb.StartPgBouncer(t, d.url)+way.Parameters, way.Opts...)
			for _, opts := range [][]testopt.Migration{{testopt.WithPooled()}, nil} {
				if err := testopt.Apply(t.Context(), through, opts...); !errors.Is(err, migrate.ErrPooled) {
					t.Errorf("with accounts: %v", err)
				}
			}
			if err := testopt.Apply(t.Context(), d.DB, testopt.WithTarget(makesIndex)); err != nil {
				t.Fatal(err)
			}
			if err := testopt.Apply(t.Context(), through, testopt.WithPooled()); err != nil {
				t.Errorf("after the index: %v", err)
			}
			d.serve(t, "afterwards")

			empty := testdb.NewDatabase(t, "")
			pooled := testdb.OpenDB(t, testdb.StartPgBouncer(t, empty)+way.Parameters, way.Opts...)
			if err := testopt.Apply(t.Context(), pooled, testopt.WithPooled()); err != nil {
				t.Errorf("an empty database: %v", err)
			}
			if diff := cmp.Diff(testdb.Versions(t), testdb.AppliedVersions(t, testdb.OpenDB(t, empty))); diff != "" {
				t.Error(diff)
			}
			if report, err := testopt.Check(t.Context(), testdb.OpenDB(t, empty)); err != nil || report.Err() != nil {
				t.Errorf("%v, %+v", err, report)
			}
		})
	}
}
