package driver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/entcrypt/hint"
	"github.com/credent-go/credent/internal/entcrypt/statement"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
)

// errNoRow is the error of a statement with a result that would update a row
// that isn't there.
var errNoRow = fmt.Errorf("credent: the row to update: %w", sql.ErrNoRows)

// savepoint is where a caller's transaction goes back to if a statement stored
// more than it should.
const savepoint = "credent_statement"

// statementConn is a connection for one statement, in a transaction of the
// statement's own if it needs one and is in none.
type statementConn struct {
	conn
	own dialect.Tx // or nil
}

// in returns the connection of a transaction. snapshot says that it may see
// only what was committed before it began.
func (c conn) in(tx dialect.Tx, snapshot bool) conn {
	c.Next, c.InTx, c.Tx = &shared{ExecQuerier: tx}, true, &tenantkey.Tx{Snapshot: snapshot}
	return c
}

// prepare seals a statement's arguments, over the connection that runs it. The
// caller ends that with finish or rollback.
func (c conn) prepare(ctx context.Context, query string, args []any) (on statementConn, s statement.Sealed, err error) {
	if c.Policy, err = c.live.policy(ctx, c.Conn); err != nil {
		return on, s, err
	}
	hint.Answer(ctx, c.Policy)
	on.conn = c
	s, err = c.Seal(ctx, query, args)
	if err == nil && s.Most > 0 { // in a transaction of the caller's
		return on, s, c.Next.Exec(ctx, "SAVEPOINT "+savepoint, []any{}, nil)
	}
	drv, ok := c.Next.(dialect.Driver)
	if !errors.Is(err, statement.ErrNeedsTx) || c.InTx || !ok {
		return on, s, err
	}
	if on.own, err = drv.Tx(ctx); err != nil {
		return on, s, err
	}
	sealed := false
	defer func() {
		if !sealed { // also if the caller's normaliser panicked
			_ = on.own.Rollback()
		}
	}()
	on.conn = c.in(on.own, false)
	s, err = on.Seal(ctx, query, args)
	sealed = err == nil
	return on, s, err
}

// rollback ends the statement's own transaction after an error.
func (c statementConn) rollback(err error) error {
	if c.own == nil {
		return err
	}
	return errors.Join(err, c.own.Rollback())
}

// finish does what follows a statement that affected n rows, and ends its own
// transaction.
func (c statementConn) finish(ctx context.Context, s statement.Sealed, n int64, err error) error {
	if err == nil {
		err = s.CheckRows(n)
		if c.own == nil && s.Most > 0 { // the caller's transaction goes on
			to := "RELEASE SAVEPOINT "
			if err != nil {
				to = "ROLLBACK TO SAVEPOINT "
			}
			err = errors.Join(err, c.Next.Exec(ctx, to+savepoint, []any{}, nil))
		}
	}
	if err == nil {
		err = s.Claim(ctx, c.Next)
	}
	if err != nil || c.own == nil {
		return c.rollback(err)
	}
	return c.own.Commit()
}

// finishExec is finish for a statement without rows.
func (c statementConn) finishExec(ctx context.Context, s statement.Sealed, result sql.Result) error {
	n := int64(0)
	if s.Most > 0 {
		var err error
		if n, err = result.RowsAffected(); err != nil {
			return c.rollback(err)
		}
	}
	return c.finish(ctx, s, n, nil)
}

// noRows is the result of an update of a missing row. It doesn't run: its
// secrets have no tenant.
type noRows struct{}

// LastInsertId implements sql.Result.
func (noRows) LastInsertId() (int64, error) { return 0, nil }

// RowsAffected implements sql.Result.
func (noRows) RowsAffected() (int64, error) { return 0, nil }
