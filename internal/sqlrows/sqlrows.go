// Package sqlrows returns a statement's rows, and calls a function at their
// end.
package sqlrows

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
)

// Source is the rows to return.
type Source interface {
	Columns() ([]string, error)
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close() error
}

// Then returns rows with the values of source. It calls end once with the
// number of rows, after the last row or when the rows are closed early. The
// rows return end's error. each, if not nil, is called with the values of every
// row, even unread ones, and must not keep them.
func Then(source Source, each func(values []any), end func(n int64, err error) error) (*sql.Rows, error) {
	names, err := source.Columns()
	if err != nil {
		return nil, end(0, errors.Join(err, source.Close()))
	}
	r := &rows{source: source, names: names, each: each, end: end}
	db := sql.OpenDB(server{r})
	again, err := db.Query("")
	if err != nil {
		return nil, errors.Join(err, r.Close(), db.Close())
	}
	return again, db.Close() // the connection is in use, and is closed with the rows
}

// server is the connector, driver and connection that serve rows.
type server struct{ rows *rows }

func (s server) Connect(context.Context) (driver.Conn, error) { return s, nil }
func (s server) Driver() driver.Driver                        { return s }
func (s server) Open(string) (driver.Conn, error)             { return s, nil }
func (server) Prepare(string) (driver.Stmt, error)            { return nil, driver.ErrSkip }
func (server) Begin() (driver.Tx, error)                      { return nil, driver.ErrSkip }
func (server) Close() error                                   { return nil }

// QueryContext implements driver.QueryerContext.
func (s server) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return s.rows, nil
}

type rows struct {
	source Source
	names  []string
	n      int64
	each   func(values []any)
	end    func(n int64, err error) error
	ended  bool
	err    error
}

// Columns implements driver.Rows.
func (r *rows) Columns() []string { return r.names }

// Next implements driver.Rows.
func (r *rows) Next(dest []driver.Value) error {
	if r.ended || !r.source.Next() {
		if err := r.Close(); err != nil {
			return err
		}
		return io.EOF
	}
	values, err := r.scan()
	if err != nil {
		return err
	}
	for i, value := range values {
		dest[i] = value
	}
	return nil
}

// scan returns the values of the row.
func (r *rows) scan() ([]any, error) {
	r.n++
	values, targets := make([]any, len(r.names)), make([]any, len(r.names))
	for i := range values {
		targets[i] = &values[i]
	}
	if err := r.source.Scan(targets...); err != nil {
		return nil, err
	}
	if r.each != nil {
		r.each(values)
	}
	return values, nil
}

// Close implements driver.Rows. It counts the unread rows.
func (r *rows) Close() error {
	if r.ended {
		return r.err
	}
	r.ended = true
	var unread error
	for unread == nil && r.source.Next() {
		if r.each == nil {
			r.n++
			continue
		}
		_, unread = r.scan()
	}
	r.err = r.end(r.n, errors.Join(unread, r.source.Err(), r.source.Close()))
	return r.err
}

// NoRows is the result of a statement that didn't run, since its row doesn't
// exist.
type NoRows struct{}

// LastInsertId implements sql.Result.
func (NoRows) LastInsertId() (int64, error) { return 0, nil }

// RowsAffected implements sql.Result.
func (NoRows) RowsAffected() (int64, error) { return 0, nil }
