// Package lockwait keeps DDL from stalling a service. While a statement waits
// for a lock, every later statement on the table queues behind it, even a plain
// SELECT. So Postgres ends the wait after a timeout (lock_timeout), the
// transaction is rolled back, and it is retried after a pause until a limit.
// The error names the sessions that held the lock.
package lockwait

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/credent-go/credent/internal/dberror"
)

// Defaults of a [Policy].
const (
	DefaultTimeout = 5 * time.Second
	DefaultLimit   = time.Minute
)

// Bounds of the pause between two tries.
const (
	minPause = 200 * time.Millisecond
	maxPause = 5 * time.Second
)

// ErrTimeout means that other transactions held a lock for too long.
var ErrTimeout = errors.New("other transactions hold a lock that is needed")

// Policy says how long to wait for locks.
type Policy struct {
	Timeout time.Duration // per statement; zero means no limit
	Limit   time.Duration // over all tries; zero means one try
}

// Error says which lock was waited for, how long, and who held it. It is an
// [ErrTimeout], and unwraps to Err.
type Error struct {
	Package string        // the package that returns the error
	File    string        // the running migration file; "" if none
	Line    int           // the line of its statement, from 1; 0 if unknown
	Table   string        // the locked table; "" if unknown
	Waited  time.Duration // over all tries
	Tries   int
	Holders []Holder // as last seen; none if unknown
	Note    string   // the outcome; may be ""
	Err     error
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Package != "" {
		b.WriteString(e.Package + ": ")
	}
	switch {
	case e.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", e.File, e.Line)
	case e.File != "":
		b.WriteString(e.File + ": ")
	}
	b.WriteString(ErrTimeout.Error())
	if e.Table != "" {
		b.WriteString(", on table " + e.Table)
	}
	fmt.Fprintf(&b, "; waited %s", e.Waited.Round(10*time.Millisecond))
	if e.Tries > 1 {
		fmt.Fprintf(&b, " in %d tries", e.Tries)
	}
	separator := "; held by "
	for _, h := range e.Holders {
		b.WriteString(separator + h.String())
		separator = ", "
	}
	if e.Note != "" {
		b.WriteString("; " + e.Note)
	}
	return b.String()
}

// Unwrap returns the database's error.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether the target is [ErrTimeout].
func (e *Error) Is(target error) bool { return target == ErrTimeout }

// Happened reports whether Postgres ended a statement because of others' locks:
// after the timeout, or in a deadlock.
func Happened(err error) bool {
	state := dberror.State(err)
	return state == "55P03" || state == "40P01"
}

// Retry calls try until it returns nil or an error that isn't an [*Error], or
// until the limit has passed. The *Error must not be wrapped, because Retry
// sets its fields. try must release all locks before it returns. The pauses
// grow and are random, so that processes don't retry in step.
func (p Policy) Retry(ctx context.Context, try func() error) error {
	start := time.Now()
	var table string
	var holders []Holder
	for tries, pause := 1, minPause; ; tries, pause = tries+1, min(2*pause, maxPause) {
		err := try()
		blocked, ok := err.(*Error) //nolint:errorlint // see above
		if !ok {
			return err
		}
		if len(blocked.Holders) > 0 || blocked.Table != "" {
			table, holders = blocked.Table, blocked.Holders
		}
		blocked.Table, blocked.Holders = table, holders
		blocked.Tries, blocked.Waited = tries, time.Since(start)
		wait := pause/2 + rand.N(pause) //nolint:gosec // jitter, not a secret
		if blocked.Waited+wait >= p.Limit {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, ctx.Err())
		case <-time.After(wait):
		}
	}
}
