package tenancy

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/credent-go/credent/internal/testdb"
)

// Accounts are renamed while credentials are inserted, by sessions that do not
// know of each other.
func TestConcurrentRename(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		account := env.Account(t, "u0")
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range 60 {
				if _, err := env.DB.ExecContext(t.Context(), "UPDATE user_accounts SET user_id = $1", fmt.Sprintf("u%d", i)); err != nil {
					t.Error(err)
				}
			}
		})
		for worker := range 4 {
			wg.Go(func() {
				for i := range 60 {
					user := sql.NullString{String: fmt.Sprintf("u%d", i), Valid: worker%2 == 0}
					_, err := env.DB.ExecContext(t.Context(), insertByID, account.ID, user)
					// The name may have changed again; then it is refused.
					if err != nil && (!user.Valid || !strings.Contains(err.Error(), ofAccount)) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n := mismatches(t, env); n != 0 {
			t.Errorf("%d credentials differ from their account", n)
		}
		var n int
		if env.Value(t, &n, "SELECT count(*) FROM user_credentials"); n < 120 {
			t.Errorf("%d credentials were inserted", n)
		}
	})
}

// The two orders in which an insertion and a change of the account's user_id
// can meet, at every isolation level. One waits for the other; what then cannot
// see the other's work fails.
func TestInsertAndRenameMeet(t *testing.T) {
	t.Parallel()
	levels := []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable}
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		for _, level := range levels {
			for i := range 8 {
				// filled: the trigger is to say whose it is; deferred: the
				// foreign key does not lock the account before it.
				renameFirst, filled, deferred := i&1 == 0, i&2 == 0, i&4 == 0
				name := fmt.Sprintf("%v, rename first %v, filled %v, deferred %v", level, renameFirst, filled, deferred)
				timing := "NOT DEFERRABLE"
				if deferred {
					timing = "DEFERRABLE INITIALLY DEFERRED"
				}
				env.Exec(t, "ALTER TABLE user_credentials ALTER CONSTRAINT user_credentials_user_account_id_fkey "+timing)
				account := env.Account(t, name)
				rename := func(tx *sql.Tx) error {
					_, err := tx.ExecContext(t.Context(), "UPDATE user_accounts SET user_id = $1 WHERE id = $2", "new "+name, account.ID)
					return err
				}
				insert := func(tx *sql.Tx) error {
					_, err := tx.ExecContext(t.Context(), insertByID, account.ID, sql.NullString{String: name, Valid: !filled})
					return err
				}
				ahead, behind := rename, insert
				if !renameFirst {
					ahead, behind = insert, rename
				}
				// The second has begun to look before the first is done, and
				// waits for its lock.
				first, second := beginTx(t, env, level), beginTx(t, env, level)
				if err := ahead(first); err != nil && level == sql.LevelReadCommitted {
					t.Errorf("%s: %v", name, err)
				}
				done := make(chan error, 1)
				go func() {
					err := behind(second)
					if err == nil {
						err = second.Commit()
					} else {
						_ = second.Rollback()
					}
					done <- err
				}()
				waitForLock(t, env, done)
				_ = first.Commit() // of a failed statement's transaction, it is a rollback
				err := <-done
				if level == sql.LevelReadCommitted && (renameFirst && !filled) != (err != nil) {
					t.Errorf("%s: the second: %v", name, err)
				}
				if n := mismatches(t, env); n != 0 {
					t.Errorf("%s: %d credentials differ from their account; the second: %v", name, n, err)
				}
				env.Exec(t, "DELETE FROM user_accounts")
			}
		}
	})
}

// begin starts a transaction that has its snapshot.
func beginTx(t *testing.T, env *testdb.Env, level sql.IsolationLevel) *sql.Tx {
	t.Helper()
	tx, err := env.DB.BeginTx(t.Context(), &sql.TxOptions{Isolation: level})
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRowContext(t.Context(), "SELECT count(*) FROM user_credentials").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return tx
}

// waitForLock waits until some session of the database waits for a lock, or
// something is done without.
func waitForLock(t *testing.T, env *testdb.Env, done chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(done) == 0 {
		var waiting int
		if err := env.DB.QueryRowContext(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "+
			"AND wait_event_type = 'Lock'").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		if waiting > 0 {
			return
		}
	}
}
