package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/states"
)

// Limits for waiting for transactions.
const (
	drainTimeout  = 10 * time.Second
	drainInterval = 20 * time.Millisecond
)

// drain waits for the transactions that are writing to the column's table. They
// may have encrypted under an earlier state, and their rows are invisible until
// they end.
func (c *stateChanger) drain(ctx context.Context) error {
	if c.store.dialect() == dialect.SQLite { // SQLite has one writer
		tx, err := c.db.BeginTx(ctx, nil)
		if err == nil {
			_, err = tx.ExecContext(ctx, lockStates)
			err = errors.Join(err, tx.Rollback())
		}
		return err
	}
	waiting, err := c.writers(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, drainTimeout,
		fmt.Errorf("%w: a transaction that writes to %s is still open, and may have begun in the previous state",
			ErrState, c.tables[0].label()))
	defer cancel()
	for len(waiting) > 0 {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(drainInterval):
		}
		open, err := c.writers(ctx)
		if err != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		waiting = slices.DeleteFunc(waiting, func(tx string) bool { return !slices.Contains(open, tx) })
	}
	return nil
}

// writers returns the open transactions that have written to the column's
// table.
func (c *stateChanger) writers(ctx context.Context) (list []string, err error) {
	rows, err := c.db.QueryContext(ctx, `SELECT DISTINCT virtualtransaction FROM pg_locks
		WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted AND relation = to_regclass($1::text)
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, c.tables[0].quoted())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var tx sql.NullString
		if err := rows.Scan(&tx); err != nil {
			return nil, err
		}
		list = append(list, tx.String)
	}
	return list, rows.Err()
}

// lockStates takes SQLite's write lock.
const lockStates = "UPDATE " + states.TableName + " SET state = state WHERE column_name = ''"
