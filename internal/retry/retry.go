// Package retry continues long work on a database that fails for a while: a
// failover, a lost connection, a deadlock, a lock, a server without a free
// connection. It explains what happened in words, and in errors that callers
// can test, with any driver.
package retry

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// DefaultLimit is how long to retry, unless a [Policy] says otherwise: most
// failovers take less.
const DefaultLimit = 5 * time.Minute

// Pauses between tries grow from firstPause to lastPause, each shorter or
// longer by up to a half, to keep processes out of step.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Error says what happened to a database, and how often the work was tried. It
// matches its kind's error, and unwraps to the driver's.
type Error struct {
	Kind   Kind
	Tries  int           // 1 means no retry
	Waited time.Duration // total time
	Err    error
}

// Error returns the cause, without naming a server, user or database.
func (e *Error) Error() string {
	text := kinds[e.Kind].err.Error()
	if why := cause(e.Err); why != "" {
		text += ": " + why
	}
	if e.Tries > 1 {
		text += fmt.Sprintf("; tried %d times in %s", e.Tries, e.Waited.Round(10*time.Millisecond))
	}
	return text
}

// Unwrap returns the driver's error.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the kind's error.
func (e *Error) Is(target error) bool { return target == kinds[e.Kind].err }

// Explain returns err as an [*Error] if it has a kind, and otherwise unchanged.
func Explain(err error) error {
	var known *Error
	if k := KindOf(err); k != Other && !errors.As(err, &known) {
		return &Error{Kind: k, Tries: 1, Err: err}
	}
	return err
}

// Wait is a pause before a retry.
type Wait struct {
	Err   *Error // the reason
	Pause time.Duration
}

// Policy says how long to retry. The zero value is useful.
type Policy struct {
	// Limit is how long to retry, counted from the first try. It doesn't cut a
	// try short. 0 means [DefaultLimit], and a negative limit no retry.
	Limit time.Duration
	// Notify, if not nil, is called before each pause.
	Notify func(Wait)
	// Final lists transient kinds that aren't retried.
	Final []Kind
	// DB, if not nil, is the pool. After a [Standby] error, its connections to
	// servers that accept no writes are closed, since such a server was the
	// primary.
	DB *sql.DB
}

// permanentError is an error of any kind that Do returns at once.
type permanentError struct{ error }

func (p permanentError) Unwrap() error { return p.error }

// Permanent makes Do return an error at once.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

// Do calls try until it returns nil or an error that isn't transient, or until
// the limit has passed or the context ends. It returns an error with a kind as
// an [*Error]. If the context ends, it returns the context's cause, with the
// last error.
func (p Policy) Do(ctx context.Context, try func() error) error {
	limit := p.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	var (
		start = time.Now()
		tries int
		last  *Error
	)
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.Multiplier, pauses.MaxInterval = firstPause, 2, lastPause
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		if last != nil && last.Kind == Standby && p.DB != nil {
			Refresh(ctx, p.DB)
		}
		err := try()
		tries++
		var end permanentError
		switch k := KindOf(err); {
		case err == nil:
			return struct{}{}, nil
		case errors.As(err, &end):
			return struct{}{}, backoff.Permanent(end.error)
		case k == Other || ctx.Err() != nil:
			return struct{}{}, backoff.Permanent(err)
		default:
			last = &Error{Kind: k, Tries: tries, Waited: time.Since(start), Err: unwrapped(err)}
			if !k.IsTransient() || p.isFinal(k) || limit < 0 {
				return struct{}{}, backoff.Permanent(last)
			}
			return struct{}{}, last
		}
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(max(limit, 0)), backoff.WithNotify(func(_ error,
		pause time.Duration,
	) {
		if p.Notify != nil {
			p.Notify(Wait{Err: last, Pause: pause})
		}
	}))
	if err != nil && ctx.Err() != nil && last != nil && !errors.Is(err, last) {
		return fmt.Errorf("%w; before that: %w", err, last)
	}
	return err
}

func (p Policy) isFinal(k Kind) bool {
	for _, final := range p.Final {
		if final == k {
			return true
		}
	}
	return false
}

// unwrapped removes an earlier [*Error] from an error.
func unwrapped(err error) error {
	var known *Error
	if errors.As(err, &known) {
		return known.Err
	}
	return err
}

// Refresh closes a pool's idle connections to servers that accept no writes. It
// checks every idle connection once, and leaves busy ones alone.
func Refresh(ctx context.Context, db *sql.DB) {
	var conns []*sql.Conn
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	for range db.Stats().Idle {
		conn, err := db.Conn(ctx)
		if err != nil {
			return // the next try returns the error
		}
		conns = append(conns, conn) // kept, so that the pool returns another one next
		if err := CheckWritable(ctx, conn); errors.Is(err, ErrStandby) {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // closes it
		}
	}
}

// CheckWritable returns an [ErrStandby] if a Postgres server accepts no writes
// in this session.
func CheckWritable(ctx context.Context, on interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
},
) error {
	var standby, readOnly bool
	err := on.QueryRowContext(ctx, "SELECT pg_catalog.pg_is_in_recovery(), "+
		"pg_catalog.current_setting('transaction_read_only') = 'on'").
		Scan(&standby, &readOnly)
	switch {
	case err != nil:
		return err
	case standby:
		return &Error{Kind: Standby, Tries: 1, Err: readOnlyError("pg_is_in_recovery() is true")}
	case readOnly:
		return &Error{Kind: Standby, Tries: 1, Err: readOnlyError("transaction_read_only is on")}
	}
	return nil
}

// readOnlyError says why a server accepts no writes. It has the SQLSTATE that a
// write would get.
type readOnlyError string

func (e readOnlyError) Error() string  { return string(e) }
func (readOnlyError) SQLState() string { return "25006" }
