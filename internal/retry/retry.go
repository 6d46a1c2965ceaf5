// Package retry goes on with long work over a database that fails for a while:
// a fail-over, a lost connection, a deadlock, a lock that others hold, a server
// without a free connection. It says what happened in words, and as errors that
// callers can test, over any driver.
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

// DefaultLimit is how long the same is tried again, unless a [Policy] says
// otherwise: most fail-overs take less.
const DefaultLimit = 5 * time.Minute

// Pauses between two tries grow from the first to the last, each shorter or
// longer by up to a half, which keeps processes out of step.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Error says what happened to a database, and how often the same was tried. It
// is the error of its kind, and unwraps to the driver's.
type Error struct {
	Kind   Kind
	Tries  int           // 1 if nothing was tried again
	Waited time.Duration // in all tries
	Err    error
}

// Error names the cause, and no server, user or database.
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

// Unwrap returns the error of the driver.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether the target is the error of the kind.
func (e *Error) Is(target error) bool { return target == kinds[e.Kind].err }

// Explain returns an error as an [*Error] if it is of a kind, and otherwise as
// it is.
func Explain(err error) error {
	var known *Error
	if k := KindOf(err); k != Other && !errors.As(err, &known) {
		return &Error{Kind: k, Tries: 1, Err: err}
	}
	return err
}

// Wait is a pause before the same is tried again.
type Wait struct {
	Err   *Error // why
	Pause time.Duration
}

// Policy says how long the same is tried again. The zero value is useful.
type Policy struct {
	// Limit is how long the same is tried again, counted from its first try. It
	// doesn't cut a try short. 0 means [DefaultLimit], and less that nothing is
	// tried again.
	Limit time.Duration
	// Notify is called before each pause; nil for nothing.
	Notify func(Wait)
	// Final are the kinds that nothing is tried again for, though they are
	// transient.
	Final []Kind
	// DB is the pool. After an error of [Standby] its connections to servers
	// that take no writes are closed: such a server was the primary. Nil leaves
	// the pool alone.
	DB *sql.DB
}

// permanentError is an error that Do returns at once, whatever its kind.
type permanentError struct{ error }

func (p permanentError) Unwrap() error { return p.error }

// Permanent makes Do return an error at once.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

// Do calls try until it returns nil, or an error that isn't transient, or until
// the limit has passed or the context ends. An error of a kind is returned as
// an [*Error]. If the context ends, the error is its cause, and says what was
// waited for.
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

// unwrapped takes an earlier explanation off an error.
func unwrapped(err error) error {
	var known *Error
	if errors.As(err, &known) {
		return known.Err
	}
	return err
}

// Refresh closes the idle connections of a pool that lead to a server which
// takes no writes. It asks every connection once, and leaves alone those that
// are in use.
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
			return // the next try says why
		}
		conns = append(conns, conn) // kept, so that the next one is another
		if err := CheckWritable(ctx, conn); errors.Is(err, ErrStandby) {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // which closes it
		}
	}
}

// CheckWritable returns an [ErrStandby] if a server of Postgres takes no writes
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

// readOnlyError is what the server says about itself. It has the SQLSTATE that
// a write would get.
type readOnlyError string

func (e readOnlyError) Error() string  { return string(e) }
func (readOnlyError) SQLState() string { return "25006" }
