// Package tenancy tells Postgres which user a statement is for, so that
// row-level security shows only that user's rows.
//
// The user travels in the context; see package principal. The driver that
// [NewDriver] returns sets the parameter app.user_id for the statement's
// transaction only, by the migrations' function credent_set_user. The next
// request with the pooled connection, from database/sql or from PgBouncer in
// transaction mode, finds no trace of it. A [Guard] refuses roles that
// row-level security doesn't restrict.
package tenancy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/principal"
)

// Errors to be tested with errors.Is.
var (
	// ErrUnsupported means that a user was set for a database without row-level
	// security.
	ErrUnsupported = errors.New("WithUser needs Postgres: this database has no row-level security")

	// ErrNeedsTx means that the client's QueryContext was called for a user
	// outside a transaction. Nothing would end the transaction that it needs.
	ErrNeedsTx = errors.New("QueryContext for a user, or with RequireRowSecurity, needs a transaction: " +
		"begin one with the same context")

	// ErrNoSetUser means that the database's function credent_set_user is
	// missing, or the role may not call it.
	ErrNoSetUser = errors.New("the function credent_set_user, which WithUser needs, is missing or not granted: " +
		"run credent migrate apply as the owner of the tables, and then GRANT credent_app TO the role")
)

// NewDriver wraps an ent driver so that statements run as their context's user.
// If guard is nil, statements without a user run as before. Otherwise they run
// as the user "", who sees nothing, and a transaction with a role that
// row-level security doesn't restrict is refused with [ErrRowSecurity]. The
// driver is safe for concurrent use if drv is.
func NewDriver(drv dialect.Driver, guard *Guard) dialect.Driver { return &driver{drv, guard, false} }

// NewReader is like NewDriver, for a standby: its transactions are read-only.
func NewReader(drv dialect.Driver, guard *Guard) dialect.Driver { return &driver{drv, guard, true} }

// user returns the user that a context's statements run as, if any.
func (g *Guard) user(ctx context.Context) (userID string, ok bool) {
	userID, ok = principal.User(ctx)
	return userID, ok || g != nil
}

// setUser sets the user until the transaction ends. Citus propagates the
// function's setting to its nodes, but not set_config's.
const setUser = "SELECT credent_set_user($1)"

// SetUser makes a transaction begun outside [NewDriver]'s driver run as the
// context's user, as a driver with the guard would.
func SetUser(ctx context.Context, tx *sql.Tx, entDialect string, guard *Guard) error {
	user, ok := guard.user(ctx)
	switch {
	case !ok:
		return nil
	case entDialect != dialect.Postgres:
		return fmt.Errorf("credent: %w", ErrUnsupported)
	}
	return guard.become(ctx, entsql.Conn{ExecQuerier: tx}, user)
}

type driver struct {
	dialect.Driver
	guard *Guard // nil for none
	reads bool   // its transactions are read-only
}

// Exec runs a statement, for a user in its own transaction.
func (d *driver) Exec(ctx context.Context, query string, args, v any) error {
	if _, ok := d.guard.user(ctx); !ok {
		return d.Driver.Exec(ctx, query, args, v)
	}
	tx, err := d.Tx(ctx)
	if err != nil {
		return err
	}
	if err := tx.Exec(ctx, query, args, v); err != nil {
		return rollback(tx, err)
	}
	return tx.Commit()
}

// Query runs a query, for a user in a transaction that ends with the rows.
func (d *driver) Query(ctx context.Context, query string, args, v any) error {
	if _, ok := d.guard.user(ctx); !ok {
		return d.Driver.Query(ctx, query, args, v)
	}
	target, ok := v.(*entsql.Rows)
	if !ok {
		return fmt.Errorf("credent: query into a %T, want *sql.Rows", v)
	}
	tx, err := d.Tx(ctx)
	if err != nil {
		return err
	}
	if err := tx.Query(ctx, query, args, target); err != nil {
		return rollback(tx, err)
	}
	target.ColumnScanner = &rows{ColumnScanner: target.ColumnScanner, tx: tx}
	return nil
}

// ExecContext is like Exec, and returns database/sql's result.
func (d *driver) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if _, ok := d.guard.user(ctx); !ok {
		next, err := execQuerierOf(d.Driver)
		if err != nil {
			return nil, err
		}
		return next.ExecContext(ctx, query, args...)
	}
	var result sql.Result
	err := d.Exec(ctx, query, args, &result)
	return result, err
}

// QueryContext returns database/sql's rows, which can't end a transaction: for
// a user it returns [ErrNeedsTx].
func (d *driver) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if _, ok := d.guard.user(ctx); ok {
		if d.Dialect() != dialect.Postgres {
			return nil, fmt.Errorf("credent: %w", ErrUnsupported)
		}
		return nil, fmt.Errorf("credent: %w", ErrNeedsTx)
	}
	next, err := execQuerierOf(d.Driver)
	if err != nil {
		return nil, err
	}
	return next.QueryContext(ctx, query, args...)
}

// Tx begins a transaction for the context's user. Statements in it with another
// context run as that context's user.
func (d *driver) Tx(ctx context.Context) (dialect.Tx, error) { return d.BeginTx(ctx, nil) }

// BeginTx is like Tx, with options.
func (d *driver) BeginTx(ctx context.Context, opts *sql.TxOptions) (dialect.Tx, error) {
	_, hasUser := d.guard.user(ctx)
	if hasUser && d.Dialect() != dialect.Postgres {
		return nil, fmt.Errorf("credent: %w", ErrUnsupported)
	}
	next, err := d.begin(ctx, opts)
	if err != nil {
		return nil, err
	}
	t := &tx{Tx: next, postgres: d.Dialect() == dialect.Postgres, guard: d.guard}
	if err := t.become(ctx); err != nil {
		return nil, rollback(next, err)
	}
	return t, nil
}

// rollback rolls back a transaction because of err, which it returns. It
// ignores that the transaction has ended already, as after its context was
// canceled.
func rollback(tx dialect.Tx, err error) error {
	if rollbackErr := tx.Rollback(); rollbackErr != nil && !errors.Is(rollbackErr, sql.ErrTxDone) {
		return errors.Join(err, rollbackErr)
	}
	return err
}

func (d *driver) begin(ctx context.Context, opts *sql.TxOptions) (dialect.Tx, error) {
	switch {
	case d.reads:
		opts = &sql.TxOptions{ReadOnly: true}
	case opts == nil:
		return d.Driver.Tx(ctx)
	}
	beginner, ok := d.Driver.(interface {
		BeginTx(context.Context, *sql.TxOptions) (dialect.Tx, error)
	})
	if !ok {
		return nil, fmt.Errorf("credent: %T has no BeginTx", d.Driver)
	}
	return beginner.BeginTx(ctx, opts)
}

// tx is a transaction that knows which user the server has set.
type tx struct {
	dialect.Tx
	postgres bool
	guard    *Guard // nil for none

	// mu is held from setting the user until the statement was sent, so that
	// another goroutine can't set its user in between.
	mu    sync.Mutex
	ours  bool   // a user was set, so a statement without one must not run as that user
	known bool   // user is the server's
	user  string // "" for none
}

// become makes the next statement run as the context's user, or as none. Call
// it with the lock held.
func (t *tx) become(ctx context.Context) error {
	user, ok := t.guard.user(ctx)
	if ok && !t.postgres {
		return fmt.Errorf("credent: %w", ErrUnsupported)
	}
	if !ok && !t.ours || t.known && user == t.user {
		return nil
	}
	t.known = false
	if err := t.guard.become(ctx, t.Tx, user); err != nil {
		return err
	}
	t.ours, t.known, t.user = true, true, user
	return nil
}

// Exec runs a statement as the context's user.
func (t *tx) Exec(ctx context.Context, query string, args, v any) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.become(ctx); err != nil {
		return err
	}
	return t.Tx.Exec(ctx, query, args, v)
}

// Query runs a query as the context's user.
func (t *tx) Query(ctx context.Context, query string, args, v any) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.become(ctx); err != nil {
		return err
	}
	return t.Tx.Query(ctx, query, args, v)
}

// ExecContext runs a statement as the context's user.
func (t *tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	next, err := execQuerierOf(t.Tx)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.becomeForSQL(ctx, query); err != nil {
		return nil, err
	}
	return next.ExecContext(ctx, query, args...)
}

// QueryContext runs a query as the context's user.
func (t *tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	next, err := execQuerierOf(t.Tx)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.becomeForSQL(ctx, query); err != nil {
		return nil, err
	}
	return next.QueryContext(ctx, query, args...) //nolint:sqlclosecheck // the caller closes them
}

// becomeForSQL is become for raw SQL, after which the user is unknown: it may
// set the parameter, and a rollback to a savepoint undoes later settings. A
// savepoint statement runs as no user: a failed transaction accepts nothing
// else.
func (t *tx) becomeForSQL(ctx context.Context, query string) error {
	if !t.ours || !aboutSavepoints(query) {
		if err := t.become(ctx); err != nil {
			return err
		}
	}
	t.known = false
	return nil
}

func aboutSavepoints(query string) bool {
	query = strings.TrimRight(query, "; \t\r\n")
	words := strings.Fields(query)
	if len(words) == 0 || strings.Contains(query, ";") { // several statements
		return false
	}
	switch strings.ToUpper(words[0]) {
	case "SAVEPOINT", "ROLLBACK", "RELEASE":
		return true
	}
	return false
}

type execQuerier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func execQuerierOf(v any) (execQuerier, error) {
	next, ok := v.(execQuerier)
	if !ok {
		return nil, fmt.Errorf("credent: %T has no ExecContext and QueryContext", v)
	}
	return next, nil
}

// rows ends the query's transaction when the rows end.
type rows struct {
	entsql.ColumnScanner
	tx   dialect.Tx
	done bool
	err  error // from ending the transaction
}

// Next ends the transaction after the last row, so that Err reports if that
// failed.
func (r *rows) Next() bool {
	if r.ColumnScanner.Next() {
		return true
	}
	r.end()
	return false
}

// NextResultSet returns false: a query has one result.
func (r *rows) NextResultSet() bool { return false }

// Err returns the first error of reading the rows or of ending the transaction.
func (r *rows) Err() error {
	if err := r.ColumnScanner.Err(); err != nil {
		return err
	}
	return r.err
}

// Close ends the transaction, unless reading the last row did.
func (r *rows) Close() error {
	r.end()
	return r.err
}

func (r *rows) end() {
	if r.done {
		return
	}
	r.done = true
	failed := r.ColumnScanner.Err()
	if err := r.ColumnScanner.Close(); failed == nil {
		failed = err
	}
	if failed != nil {
		r.err = rollback(r.tx, failed)
		return
	}
	r.err = r.tx.Commit()
}
