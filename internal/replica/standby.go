package replica

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/tenancy"
)

// ErrReader means that a standby failed. The error is an [Error].
var ErrReader = errors.New("the reader failed")

// Error says why a standby failed. It is an [ErrReader], and unwraps to the
// driver's error.
type Error struct{ Err error }

// Error returns "credent: the reader failed: cause".
func (e *Error) Error() string { return "credent: " + ErrReader.Error() + ": " + e.Err.Error() }

// Is makes it an [ErrReader].
func (e *Error) Is(target error) bool { return target == ErrReader }

// Unwrap returns the driver's error.
func (e *Error) Unwrap() error { return e.Err }

// errWrites means that a read needs to write, such as a lookup that finds rows
// without a digest. The primary runs it.
var errWrites = errors.New("credent: a standby accepts no writes")

// failed returns a standby's error as an [Error], except if the context ended
// or row-level security refused.
func failed(ctx context.Context, err error) error {
	var known *Error
	if err == nil || ctx.Err() != nil || errors.As(err, &known) {
		return err
	}
	for _, refusal := range []error{tenancy.ErrRowSecurity, tenancy.ErrUnsupported, tenancy.ErrNeedsTx} {
		if errors.Is(err, refusal) {
			return err
		}
	}
	return &Error{err}
}

// Standby is a standby's driver that runs only queries. It returns the server's
// errors as an [Error].
type Standby struct{ dialect.Driver }

// Query runs a query.
func (s Standby) Query(ctx context.Context, query string, args, v any) error {
	if err := s.Driver.Query(ctx, query, args, v); err != nil {
		return failed(ctx, err)
	}
	if target, ok := v.(*entsql.Rows); ok {
		target.ColumnScanner = rows{target.ColumnScanner, ctx}
	}
	return nil
}

// QueryContext runs raw SQL that only reads.
func (s Standby) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	next, ok := s.Driver.(querier)
	if !ok {
		return nil, fmt.Errorf("credent: %T has no QueryContext", s.Driver)
	}
	found, err := next.QueryContext(ctx, query, args...)
	return found, failed(ctx, err)
}

// Exec returns an error that sends the statement to the primary.
func (Standby) Exec(context.Context, string, any, any) error { return errWrites }

// ExecContext returns an error that sends the statement to the primary.
func (Standby) ExecContext(context.Context, string, ...any) (sql.Result, error) {
	return nil, errWrites
}

// Tx returns an error that sends the statement to the primary.
func (Standby) Tx(context.Context) (dialect.Tx, error) { return nil, errWrites }

// rows is a standby's result.
type rows struct {
	entsql.ColumnScanner
	ctx context.Context //nolint:containedctx // the query's, for as long as its rows are read
}

// Err returns the error that ended the rows.
func (r rows) Err() error { return failed(r.ctx, r.ColumnScanner.Err()) }

// Close closes the rows.
func (r rows) Close() error { return failed(r.ctx, r.ColumnScanner.Close()) }
