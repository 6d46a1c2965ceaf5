package replica

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/states"
)

// Rest is how long a standby that didn't answer isn't used, if the primary
// takes over: otherwise each query would wait for it.
const Rest = 5 * time.Second

// readOnly is the SQLSTATE of a write on a standby.
const readOnly = "25006"

// Driver sends each statement to the primary or the standby. It is safe for
// concurrent use if its drivers are.
type Driver struct {
	dialect.Driver // the primary's
	standby        dialect.Driver
	tell           func(context.Context, error) // nil if the query fails with the standby

	epoch     time.Time
	unclaimed atomic.Int64 // end of the last write without a request, after the epoch
	resting   atomic.Pointer[rest]
}

// rest is why a standby isn't used, and until when.
type rest struct {
	err   error
	until time.Time
}

// New returns a driver for a primary and a standby, a [Standby] wrapped like
// the primary's driver. tell is called for each query that the standby failed
// to answer, and then the primary answers. If tell is nil, the query fails with
// an [ErrReader].
func New(primary, standby dialect.Driver, tell func(context.Context, error)) *Driver {
	d := &Driver{Driver: primary, standby: standby, tell: tell, epoch: time.Now()}
	d.unclaimed.Store(math.MinInt64)
	return d
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

type beginner interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (dialect.Tx, error)
}

// Primary returns the primary's driver.
func (d *Driver) Primary() dialect.Driver { return d.Driver }

// Keyed asks the primary's driver; see condition.Keyer.
func (d *Driver) Keyed(c *column.Column) bool {
	k, ok := d.Driver.(interface{ Keyed(c *column.Column) bool })
	return ok && k.Keyed(c)
}

// Close closes both drivers.
func (d *Driver) Close() error { return errors.Join(d.Driver.Close(), d.standby.Close()) }

// isRead reports whether a statement is a query of ent's query builder. A
// mutation in such a query's context, by an interceptor for instance, begins
// with another word. A standby refuses anything else that begins with SELECT
// and writes.
func isRead(ctx context.Context, query string) bool {
	return ent.QueryFromContext(ctx) != nil && strings.HasPrefix(query, "SELECT ")
}

// mayLag reports whether a standby may answer a read with this context.
func (d *Driver) mayLag(ctx context.Context) bool {
	s := scopeOf(ctx)
	switch s.to {
	case primary:
		return false
	case anywhere:
		return true
	case byRequest:
	}
	r := s.request
	return r != nil && !r.wrote.Load() && time.Duration(d.unclaimed.Load()) < r.start.Sub(d.epoch)
}

// wrote notes a write with this context. Call it before and after the write.
func (d *Driver) wrote(ctx context.Context) {
	if r := scopeOf(ctx).request; r != nil {
		r.wrote.Store(true)
		return
	}
	at := int64(time.Since(d.epoch))
	for {
		last := d.unclaimed.Load()
		if last >= at || d.unclaimed.CompareAndSwap(last, at) {
			return
		}
	}
}

// read runs a query on the standby, or on the primary if the standby fails.
func (d *Driver) read(ctx context.Context, on func(dialect.Driver) error) error {
	if r := d.resting.Load(); r != nil && time.Now().Before(r.until) {
		d.tell(ctx, r.err)
		return on(d.Driver)
	}
	err := on(d.standby)
	lags := errors.Is(err, states.ErrStateMismatch) || errors.Is(err, states.ErrInvalidStates) ||
		errors.Is(err, states.ErrHidden)
	if lags { // its states are older, or missing
		err = &Error{err}
	}
	var fault *Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errWrites), errors.As(err, &fault) && dberror.State(err) == readOnly:
		defer d.wrote(ctx)
		return on(d.Driver)
	case fault == nil || ctx.Err() != nil:
		return err
	case d.tell == nil:
		return fmt.Errorf("%w; Config.OnReaderError lets the primary answer", err)
	}
	if !lags && dberror.State(err) == "" { // the server didn't answer
		d.resting.Store(&rest{err, time.Now().Add(Rest)})
	}
	d.tell(ctx, err)
	return on(d.Driver)
}

// Query runs a query, on the standby if the query may lag.
func (d *Driver) Query(ctx context.Context, query string, args, v any) error {
	switch {
	case !isRead(ctx, query):
		return d.write(ctx, query, args, v)
	case !d.mayLag(ctx):
		return d.Driver.Query(ctx, query, args, v)
	}
	return d.read(ctx, func(on dialect.Driver) error { return on.Query(ctx, query, args, v) })
}

// write runs a statement with a result, which may write until its rows end.
func (d *Driver) write(ctx context.Context, query string, args, v any) error {
	d.wrote(ctx)
	defer d.wrote(ctx)
	err := d.Driver.Query(ctx, query, args, v)
	if target, ok := v.(*entsql.Rows); ok && err == nil && scopeOf(ctx).request == nil {
		target.ColumnScanner = written{target.ColumnScanner, func() { d.wrote(ctx) }}
	}
	return err
}

// written is the rows of a statement that writes.
type written struct {
	entsql.ColumnScanner
	note func()
}

// Close closes the rows, and notes the write.
func (w written) Close() error {
	defer w.note()
	return w.ColumnScanner.Close()
}

// Exec runs a statement on the primary.
func (d *Driver) Exec(ctx context.Context, query string, args, v any) error {
	d.wrote(ctx)
	defer d.wrote(ctx)
	return d.Driver.Exec(ctx, query, args, v)
}

// ExecContext runs raw SQL on the primary.
func (d *Driver) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	d.wrote(ctx)
	defer d.wrote(ctx)
	return execContext(ctx, d.Driver, query, args)
}

// QueryContext runs raw SQL on the primary, or on the standby if the context
// says that it only reads and it may lag.
func (d *Driver) QueryContext(ctx context.Context, query string, args ...any) (found *sql.Rows, err error) {
	if !scopeOf(ctx).sql {
		d.wrote(ctx)
		defer d.wrote(ctx)
		return queryContext(ctx, d.Driver, query, args) //nolint:sqlclosecheck // the caller closes them
	}
	if !d.mayLag(ctx) {
		return queryContext(ctx, d.Driver, query, args) //nolint:sqlclosecheck // the caller closes them
	}
	err = d.read(ctx, func(on dialect.Driver) (err error) {
		found, err = queryContext(ctx, on, query, args) //nolint:rowserrcheck,sqlclosecheck // the caller looks, and closes them
		return err
	})
	return found, err
}

// Tx begins a transaction on the primary.
func (d *Driver) Tx(ctx context.Context) (dialect.Tx, error) {
	d.wrote(ctx)
	next, err := d.Driver.Tx(ctx)
	if err != nil {
		return nil, err
	}
	return d.in(ctx, next, true), nil
}

// BeginTx is like Tx, with options. A read-only transaction isn't a write,
// unless it runs more than ent's queries.
func (d *Driver) BeginTx(ctx context.Context, opts *sql.TxOptions) (dialect.Tx, error) {
	on, ok := d.Driver.(beginner)
	if !ok {
		return nil, fmt.Errorf("credent: %T has no BeginTx", d.Driver)
	}
	writes := opts == nil || !opts.ReadOnly
	if writes {
		d.wrote(ctx)
	}
	next, err := on.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return d.in(ctx, next, writes), nil
}

func (d *Driver) in(ctx context.Context, next dialect.Tx, writes bool) dialect.Tx {
	t := &tx{Tx: next, of: d, ctx: ctx}
	t.writes.Store(writes)
	return t
}

// tx is a transaction on the primary.
type tx struct {
	dialect.Tx
	of     *Driver
	ctx    context.Context //nolint:containedctx // has the transaction's request
	writes atomic.Bool
}

// write notes a statement. Its request may differ from the transaction's.
func (t *tx) write(ctx context.Context) {
	t.writes.Store(true)
	for _, ctx := range []context.Context{ctx, t.ctx} {
		if r := scopeOf(ctx).request; r != nil {
			r.wrote.Store(true)
		}
	}
}

// Commit commits the transaction, and notes a write: others see its changes
// now.
func (t *tx) Commit() error {
	if t.writes.Load() {
		defer t.of.wrote(t.ctx)
	}
	return t.Tx.Commit()
}

// Exec runs a statement.
func (t *tx) Exec(ctx context.Context, query string, args, v any) error {
	t.write(ctx)
	return t.Tx.Exec(ctx, query, args, v)
}

// Query runs a query.
func (t *tx) Query(ctx context.Context, query string, args, v any) error {
	if !isRead(ctx, query) {
		t.write(ctx)
	}
	return t.Tx.Query(ctx, query, args, v)
}

// ExecContext runs raw SQL.
func (t *tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	t.write(ctx)
	return execContext(ctx, t.Tx, query, args)
}

// QueryContext runs raw SQL.
func (t *tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if !scopeOf(ctx).sql {
		t.write(ctx)
	}
	return queryContext(ctx, t.Tx, query, args)
}

func execContext(ctx context.Context, on any, query string, args []any) (sql.Result, error) {
	next, ok := on.(execer)
	if !ok {
		return nil, fmt.Errorf("credent: %T has no ExecContext", on)
	}
	return next.ExecContext(ctx, query, args...)
}

func queryContext(ctx context.Context, on any, query string, args []any) (*sql.Rows, error) {
	next, ok := on.(querier)
	if !ok {
		return nil, fmt.Errorf("credent: %T has no QueryContext", on)
	}
	return next.QueryContext(ctx, query, args...)
}
