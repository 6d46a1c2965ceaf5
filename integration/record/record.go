// Package record records the statements that pass two points on their way from
// ent to a database: above Credent's driver, and at database/sql's driver.
package record

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"sync"

	"entgo.io/ent/dialect"
)

// Statement is a statement that passed.
type Statement struct {
	Text string
	Args []any // as they passed
	InTx bool
	Err  error // what came of it
}

// Log holds statements in the order in which they began. It is safe for
// concurrent use.
type Log struct {
	mu         sync.Mutex
	statements []*Statement
}

func (l *Log) add(text string, args []any, inTx bool) *Statement {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &Statement{Text: text, Args: slices.Clone(args), InTx: inTx}
	l.statements = append(l.statements, s)
	return s
}

// Take returns the statements so far, and removes them.
func (l *Log) Take() []*Statement {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.statements
	l.statements = nil
	return taken
}

// Driver wraps an ent driver that has ExecContext, QueryContext and BeginTx,
// and records its calls.
func Driver(drv dialect.Driver, to *Log) dialect.Driver {
	return &entDriver{drv, entConn{drv.(querier), to, false}}
}

// querier is the common interface of ent's drivers and transactions.
type querier interface {
	dialect.ExecQuerier
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

type entConn struct {
	next querier
	to   *Log
	inTx bool
}

// Exec implements dialect.ExecQuerier.
func (c entConn) Exec(ctx context.Context, query string, args, v any) error {
	s := c.to.add(query, args.([]any), c.inTx)
	s.Err = c.next.Exec(ctx, query, args, v)
	return s.Err
}

// Query implements dialect.ExecQuerier.
func (c entConn) Query(ctx context.Context, query string, args, v any) error {
	s := c.to.add(query, args.([]any), c.inTx)
	s.Err = c.next.Query(ctx, query, args, v)
	return s.Err
}

// ExecContext implements a client's method.
func (c entConn) ExecContext(ctx context.Context, query string, args ...any) (result sql.Result, err error) {
	s := c.to.add(query, args, c.inTx)
	result, s.Err = c.next.ExecContext(ctx, query, args...)
	return result, s.Err
}

// QueryContext implements a client's method.
func (c entConn) QueryContext(ctx context.Context, query string, args ...any) (rows *sql.Rows, err error) {
	s := c.to.add(query, args, c.inTx)
	rows, s.Err = c.next.QueryContext(ctx, query, args...)
	return rows, s.Err
}

type entDriver struct {
	dialect.Driver // for Close and Dialect
	entConn
}

// Exec calls entConn's; both embedded values have one.
func (d *entDriver) Exec(ctx context.Context, query string, args, v any) error {
	return d.entConn.Exec(ctx, query, args, v)
}

// Query calls entConn's.
func (d *entDriver) Query(ctx context.Context, query string, args, v any) error {
	return d.entConn.Query(ctx, query, args, v)
}

// Tx implements dialect.Driver.
func (d *entDriver) Tx(ctx context.Context) (dialect.Tx, error) {
	return d.wrap(d.Driver.Tx(ctx))
}

// BeginTx is Tx with options.
func (d *entDriver) BeginTx(ctx context.Context, opts *sql.TxOptions) (dialect.Tx, error) {
	return d.wrap(d.Driver.(interface {
		BeginTx(ctx context.Context, opts *sql.TxOptions) (dialect.Tx, error)
	}).BeginTx(ctx, opts))
}

func (d *entDriver) wrap(tx dialect.Tx, err error) (dialect.Tx, error) {
	if err != nil {
		return nil, err
	}
	return &entTx{tx, entConn{tx.(querier), d.to, true}}, nil
}

type entTx struct {
	dialect.Tx // for Commit and Rollback
	entConn
}

// Exec calls entConn's; both embedded values have one.
func (t *entTx) Exec(ctx context.Context, query string, args, v any) error {
	return t.entConn.Exec(ctx, query, args, v)
}

// Query calls entConn's.
func (t *entTx) Query(ctx context.Context, query string, args, v any) error {
	return t.entConn.Query(ctx, query, args, v)
}

// Open returns a pool that records the statements at database/sql's driver.
func Open(driverName, dsn string, to *Log) (*sql.DB, error) {
	db, err := sql.Open(driverName, dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector{db.Driver(), dsn, to}), db.Close()
}

type connector struct {
	driver driver.Driver
	dsn    string
	to     *Log
}

// Driver implements driver.Connector.
func (c connector) Driver() driver.Driver { return c.driver }

// Connect implements driver.Connector.
func (c connector) Connect(context.Context) (driver.Conn, error) {
	opened, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	next, ok := opened.(sqlConn)
	if !ok {
		return nil, errors.Join(errors.New("the connection accepts no statements with arguments"), opened.Close())
	}
	return &conn{sqlConn: next, to: c.to}, nil
}

// sqlConn is the interface of the tested drivers' connections.
type sqlConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
}

type conn struct {
	sqlConn
	to *Log
}

// ExecContext implements driver.ExecerContext.
func (c *conn) ExecContext(
	ctx context.Context, query string, args []driver.NamedValue,
) (result driver.Result, err error) {
	s := c.to.add(query, values(args), false)
	result, s.Err = c.sqlConn.ExecContext(ctx, query, args)
	return result, s.Err
}

// QueryContext implements driver.QueryerContext.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (rows driver.Rows, err error) {
	s := c.to.add(query, values(args), false)
	rows, s.Err = c.sqlConn.QueryContext(ctx, query, args)
	return rows, s.Err
}

// Prepare implements driver.Conn. It fails, because the arguments would go
// unrecorded.
func (c *conn) Prepare(string) (driver.Stmt, error) {
	return nil, errors.New("prepared statements are not recorded")
}

func values(args []driver.NamedValue) []any {
	all := make([]any, len(args))
	for i, arg := range args {
		all[i] = arg.Value
	}
	return all
}

// CheckNamedValue implements driver.NamedValueChecker.
func (c *conn) CheckNamedValue(v *driver.NamedValue) error {
	if next, ok := c.sqlConn.(driver.NamedValueChecker); ok {
		return next.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

// ResetSession implements driver.SessionResetter.
func (c *conn) ResetSession(ctx context.Context) error {
	if next, ok := c.sqlConn.(driver.SessionResetter); ok {
		return next.ResetSession(ctx)
	}
	return nil
}

// IsValid implements driver.Validator.
func (c *conn) IsValid() bool {
	next, ok := c.sqlConn.(driver.Validator)
	return !ok || next.IsValid()
}
