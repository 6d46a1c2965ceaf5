package driver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/entcrypt/hint"
	"github.com/credent-go/credent/internal/entcrypt/pending"
	"github.com/credent-go/credent/internal/entcrypt/record"
	"github.com/credent-go/credent/internal/entcrypt/shared"
	"github.com/credent-go/credent/internal/entcrypt/statement"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/sqlrows"
	"github.com/credent-go/credent/internal/states"
)

// errNoRow is returned by a statement with a result if the row to update
// doesn't exist.
var errNoRow = fmt.Errorf("credent: the row to update: %w", sql.ErrNoRows)

// savepoint is the savepoint that a caller's transaction returns to if a
// statement affected too many rows.
const savepoint = "credent_statement"

// statementConn is a connection for one statement. It has its own transaction
// if the statement needs one and the caller has none.
type statementConn struct {
	conn
	own    dialect.Tx        // or nil
	record *record.Statement // or nil
}

// in returns the connection of a transaction. snapshot says that the
// transaction may see only data committed before it began.
func (c conn) in(tx dialect.Tx, snapshot bool) conn {
	c.Next, c.InTx, c.Tx = &shared.Tx{ExecQuerier: tx}, true, &tenantkey.Tx{Snapshot: snapshot}
	c.pending = new(pending.Entries)
	return c
}

// prepare seals a statement's arguments, over the connection that runs it, and
// looks up the rows of a change. The caller must call finish or rollback.
func (c conn) prepare(
	ctx context.Context, query string, args []any, use record.Use,
) (on statementConn, s statement.Sealed, err error) {
	if c.Policy, err = c.live.policy(ctx, c.Conn); err != nil {
		return on, s, err
	}
	hint.Answer(ctx, c.Policy)
	use.Standby = c.standby
	r, err := record.Of(ctx, c.live.recorder(c.Policy), c.Dialect, query, args, use)
	if err != nil {
		return on, s, err
	}
	on.conn, on.record = c, r
	if r == nil || c.InTx {
		s, err = c.Seal(c.pending.In(ctx), query, args)
		if err == nil && r != nil {
			err = r.Look(ctx, on.Dialect, on.Next, on.Query)
		}
		if err == nil && s.Most > 0 { // in the caller's transaction
			return on, s, c.Next.Exec(ctx, "SAVEPOINT "+savepoint, []any{}, nil)
		}
		if !errors.Is(err, statement.ErrNeedsTx) || c.InTx {
			return on, s, err
		}
	}
	drv, ok := c.Next.(dialect.Driver)
	if !ok {
		return on, s, statement.ErrNeedsTx
	}
	if on.own, err = drv.Tx(ctx); err != nil {
		return on, s, err
	}
	sealed := false
	defer func() {
		if !sealed { // even if the schema's normalizer panicked
			_ = on.own.Rollback()
		}
	}()
	on.conn = c.in(on.own, false)
	if s, err = on.Seal(on.pending.In(ctx), query, args); err == nil && r != nil {
		err = r.Look(ctx, on.Dialect, on.Next, on.Query)
	}
	sealed = err == nil
	return on, s, err
}

// rollback rolls back the statement's own transaction after an error.
func (c statementConn) rollback(err error) error {
	err = c.record.Explain(err)
	if c.own == nil {
		return err
	}
	err = errors.Join(err, c.own.Rollback())
	c.pending.End(false)
	return err
}

// finish does the work after a statement that affected n rows, and ends the
// statement's own transaction.
func (c statementConn) finish(ctx context.Context, s statement.Sealed, n int64, err error) error {
	ctx = c.pending.In(ctx)
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
	if err == nil {
		did := record.Result{Rows: n, Nothing: s.Nothing, KeyID: s.Key.ID}
		err = c.pending.Fail(c.record.Write(ctx, c.Next, did, c.pending))
	}
	if err != nil || c.own == nil {
		return c.rollback(err)
	}
	err = c.own.Commit()
	c.pending.End(err == nil)
	return err
}

// finishExec is finish for a statement without rows.
func (c statementConn) finishExec(ctx context.Context, s statement.Sealed, result sql.Result) error {
	n := int64(0)
	if s.Most > 0 || c.record != nil {
		var err error
		if n, err = result.RowsAffected(); err != nil {
			return c.rollback(err)
		}
	}
	return c.finish(ctx, s, n, nil)
}

// then returns a statement's rows. The statement finishes when they end.
func (c statementConn) then(ctx context.Context, s statement.Sealed, rows sqlrows.Source) (*sql.Rows, error) {
	uncounted := false // it changes rows, and returns none
	if s.Most > 0 {
		names, _ := rows.Columns() // Then has the error
		uncounted = len(names) == 0
	}
	return sqlrows.Then(rows, c.record.See, func(n int64, err error) error {
		if uncounted {
			n = -1
		}
		return c.finish(ctx, s, n, err)
	})
}

// Keyed implements condition.Keyer.
func (d *cryptDriver) Keyed(c *column.Column) bool {
	p, ok := d.live.(*live)
	return ok && p.now.Load().policy.States.Of(c).TenantKeys >= states.Write
}

// Records implements stamp.Recorder.
func (d *cryptDriver) Records() bool {
	l, ok := d.live.(*live)
	return ok && l.trail != nil
}

// cryptDriver is the driver of New.
type cryptDriver struct {
	dialect.Driver // for Close and Dialect
	conn
}

// Exec calls conn's Exec: both embedded values have one.
func (d *cryptDriver) Exec(ctx context.Context, query string, args, v any) error {
	return d.conn.Exec(ctx, query, args, v)
}

// Query calls conn's Query.
func (d *cryptDriver) Query(ctx context.Context, query string, args, v any) error {
	return d.conn.Query(ctx, query, args, v)
}

// Tx starts a transaction that encrypts and decrypts like the driver.
func (d *cryptDriver) Tx(ctx context.Context) (dialect.Tx, error) {
	tx, err := d.Driver.Tx(ctx)
	if err != nil {
		return nil, err
	}
	return &cryptTx{Tx: tx, conn: d.in(tx, false)}, nil
}

// BeginTx is like Tx, with options.
func (d *cryptDriver) BeginTx(ctx context.Context, opts *sql.TxOptions) (dialect.Tx, error) {
	beginner, ok := d.Driver.(interface {
		BeginTx(context.Context, *sql.TxOptions) (dialect.Tx, error)
	})
	if !ok {
		return nil, errors.New("credent: the wrapped driver has no BeginTx")
	}
	tx, err := beginner.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &cryptTx{Tx: tx, conn: d.in(tx, opts != nil && opts.Isolation > sql.LevelReadCommitted)}, nil
}

// cryptTx is a transaction of a cryptDriver.
type cryptTx struct {
	dialect.Tx // for Rollback
	conn
}

// Commit commits the transaction. If the trail lacks a change, it rolls the
// transaction back instead.
func (t *cryptTx) Commit() error {
	if err := t.pending.Failed(); err != nil {
		return errors.Join(fmt.Errorf("credent: the transaction is rolled back: %w", err), t.Rollback())
	}
	err := t.Tx.Commit()
	t.pending.End(err == nil)
	return err
}

// Rollback rolls the transaction back.
func (t *cryptTx) Rollback() error {
	err := t.Tx.Rollback()
	t.pending.End(false)
	return err
}

// Exec calls conn's Exec: both embedded values have one.
func (t *cryptTx) Exec(ctx context.Context, query string, args, v any) error {
	return t.conn.Exec(ctx, query, args, v)
}

// Query calls conn's Query.
func (t *cryptTx) Query(ctx context.Context, query string, args, v any) error {
	return t.conn.Query(ctx, query, args, v)
}
