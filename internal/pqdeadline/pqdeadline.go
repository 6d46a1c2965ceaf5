// Package pqdeadline makes lib/pq return the context's error if the context
// ended while the server worked, whatever the server answers.
//
// When a context ends, lib/pq asks the server to cancel. If the server is
// waiting for a synchronous standby at that moment, it stops waiting, warns
// that the transaction may not be replicated, and reports success: a fail-over
// may lose a commit that the caller saw acknowledged. So success after the
// context's end becomes the context's error, as with pgx, which closes the
// connection. The caller can't know then whether the statement was executed.
//
// lib/pq ignores the context while it sends BEGIN, so the end of the context
// closes the connection.
package pqdeadline

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"reflect"
)

// Conn wraps a lib/pq connection. cut ends whatever lib/pq is waiting for on
// it.
func Conn(c driver.Conn, cut func()) (driver.Conn, error) {
	inner, ok := c.(pqConn)
	if !ok {
		return nil, errUnknown
	}
	return &conn{inner, cut}, nil
}

// errUnknown means that lib/pq has changed and this package must follow.
var errUnknown = errors.New("credent: not a connection of lib/pq 1.12")

// pqConn lists the interfaces of lib/pq's connection that database/sql uses.
type pqConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

type conn struct {
	pqConn
	cut func()
}

// ExecContext implements driver.ExecerContext.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return answered(ctx)(c.pqConn.ExecContext(ctx, query, args))
}

// QueryContext implements driver.QueryerContext.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return read(ctx)(c.pqConn.QueryContext(ctx, query, args))
}

// PrepareContext implements driver.ConnPrepareContext. A COPY statement doesn't
// take contexts, but its transaction has one.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	inner, err := c.pqConn.PrepareContext(ctx, query)
	if s, ok := inner.(pqStmt); ok && err == nil {
		return &stmt{s}, nil
	}
	return inner, err
}

// BeginTx implements driver.ConnBeginTx.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	stop := context.AfterFunc(ctx, c.cut)
	inner, err := c.pqConn.BeginTx(ctx, opts)
	if !stop() && err == nil { // it may be cut at any moment
		_ = inner.Rollback()
		err = ctx.Err()
	}
	if err != nil {
		if late := ctx.Err(); late != nil {
			err = late
		}
		return nil, err
	}
	return &tx{inner, ctx}, nil
}

// pqStmt is lib/pq's prepared statement.
type pqStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type stmt struct{ pqStmt }

// ExecContext implements driver.StmtExecContext.
func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return answered(ctx)(s.pqStmt.ExecContext(ctx, args))
}

// QueryContext implements driver.StmtQueryContext.
func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return read(ctx)(s.pqStmt.QueryContext(ctx, args))
}

// tx is a transaction that is cancelled when BeginTx's context ends.
type tx struct {
	driver.Tx
	ctx context.Context //nolint:containedctx // of BeginTx
}

// Commit implements driver.Tx.
func (t *tx) Commit() error { return errors.Join(t.Tx.Commit(), t.ctx.Err()) }

// answered replaces success with the error of an ended context.
func answered(ctx context.Context) func(driver.Result, error) (driver.Result, error) {
	return func(result driver.Result, err error) (driver.Result, error) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		return result, nil
	}
}

// pqRows is lib/pq's result.
type pqRows interface {
	driver.RowsNextResultSet
	ColumnTypeScanType(index int) reflect.Type
	ColumnTypeDatabaseTypeName(index int) string
	ColumnTypeLength(index int) (length int64, ok bool)
	ColumnTypePrecisionScale(index int) (precision, scale int64, ok bool)
}

// rows is a result that ends with its statement, since that is when it commits.
type rows struct {
	pqRows
	ctx   context.Context //nolint:containedctx // of the query
	ended bool
}

func read(ctx context.Context) func(driver.Rows, error) (driver.Rows, error) {
	return func(result driver.Rows, err error) (driver.Rows, error) {
		if err != nil {
			return nil, err
		}
		inner, ok := result.(pqRows)
		if !ok {
			return nil, errors.Join(errUnknown, result.Close())
		}
		return &rows{pqRows: inner, ctx: ctx}, nil
	}
}

// Next implements driver.Rows.
func (r *rows) Next(dest []driver.Value) error {
	err := r.pqRows.Next(dest)
	if !errors.Is(err, io.EOF) {
		return err
	}
	r.ended = !r.HasNextResultSet()
	if late := r.ctx.Err(); late != nil {
		return late
	}
	return err
}

// Close implements driver.Rows. It reads the remaining rows.
func (r *rows) Close() error {
	err := r.pqRows.Close()
	if err == nil && !r.ended {
		err = r.ctx.Err()
	}
	r.ended = true
	return err
}
