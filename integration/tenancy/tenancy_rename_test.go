package tenancy

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credent-go/credent/internal/testdb"
)

// insertLocked gives a credential its account's current user_id.
const insertLocked = "INSERT INTO user_credentials (user_account_id, user_id, credential_type, api_key, secret_key) " +
	"SELECT id, user_id, 'alpaca', 'gAAAA-not-opened', 'gAAAA-not-opened' FROM user_accounts WHERE id = $1 FOR KEY " +
	"SHARE"

// Accounts are renamed while credentials are inserted, by independent sessions.
func TestConcurrentRename(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		account := env.Account(t, "u0")
		var wg sync.WaitGroup
		var inserted atomic.Int64
		wg.Go(func() {
			for i := range 60 {
				if _, err := env.DB.ExecContext(t.Context(), "UPDATE user_accounts SET user_id = $1",
					fmt.Sprintf("u%d", i)); err != nil {
					t.Error(err)
				}
			}
		})
		for worker := range 4 {
			wg.Go(func() {
				for i := range 60 {
					query, args := insertByID, []any{account.ID, fmt.Sprintf("u%d", i)}
					if worker%2 == 0 {
						query, args = insertLocked, args[:1]
					}
					// The name may have changed again; then the insert is
					// refused.
					_, err := env.DB.ExecContext(t.Context(), query, args...)
					if err == nil {
						inserted.Add(1)
					} else if !strings.Contains(err.Error(), ofAccount) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if n := mismatches(t, env); n != 0 {
			t.Errorf("%d credentials have another user_id than their account", n)
		}
		var n int64
		if env.Value(t, &n, "SELECT count(*) FROM user_credentials"); n != inserted.Load() || n < 120 {
			t.Errorf("%d credentials, %d were inserted", n, inserted.Load())
		}
	})
}

// An insertion and a change of the account's user_id meet in both orders, at
// every isolation level. One waits for the other; then the one that can't see
// the other's change fails.
func TestInsertAndRenameMeet(t *testing.T) {
	t.Parallel()
	levels := []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable}
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		for _, level := range levels {
			for i := range 8 {
				// locked: the insertion locks the account before it reads its
				// user_id; deferred: the foreign key is checked at the commit.
				renameFirst, locked, deferred := i&1 == 0, i&2 == 0, i&4 == 0
				name := fmt.Sprintf("%v, rename first %v, locked %v, deferred %v", level, renameFirst, locked, deferred)
				timing := "NOT DEFERRABLE"
				if deferred {
					timing = "DEFERRABLE INITIALLY DEFERRED"
				}
				env.Exec(t, "ALTER TABLE user_credentials ALTER CONSTRAINT "+ofAccount+" "+timing)
				account := env.Account(t, name)
				rename := func(tx *sql.Tx) error {
					_, err := tx.ExecContext(t.Context(), "UPDATE user_accounts SET user_id = $1 WHERE id = $2",
						"new "+name, account.ID)
					return err
				}
				insert := func(tx *sql.Tx) error {
					query, args := insertByID, []any{account.ID, name}
					if locked {
						query, args = insertLocked, args[:1]
					}
					_, err := tx.ExecContext(t.Context(), query, args...)
					return err
				}
				ahead, behind := rename, insert
				if !renameFirst {
					ahead, behind = insert, rename
				}
				// The second starts before the first is done, and waits for its
				// lock.
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
				_ = first.Commit() // a rollback if a statement failed
				err := <-done
				if level == sql.LevelReadCommitted && (renameFirst && !locked) != (err != nil) {
					t.Errorf("%s: the second: %v", name, err)
				}
				if n := mismatches(t, env); n != 0 {
					t.Errorf("%s: %d credentials have another user_id than their account; the second: %v", name, n, err)
				}
				env.Exec(t, "DELETE FROM user_accounts")
			}
		}
	})
}

// beginTx starts a transaction that has its snapshot.
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

// waitForLock waits until a session of the database waits for a lock, or until
// done receives without one.
func waitForLock(t *testing.T, env *testdb.Env, done chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(done) == 0 {
		var waiting int
		if err := env.DB.QueryRowContext(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = "+
			"current_database() AND wait_event_type = 'Lock'").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		if waiting > 0 {
			return
		}
	}
}
