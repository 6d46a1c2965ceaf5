// Package lockwait keeps DDL from stalling a service. A statement that waits
// for a lock makes every later statement on the table wait behind it, a plain
// SELECT too. So Postgres ends the wait after a while (lock_timeout), the
// transaction is rolled back, and the same is tried again after a pause, until
// a limit. The error says which sessions held the lock.
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
	Timeout time.Duration // of one statement; zero means no limit
	Limit   time.Duration // of all tries; zero means one try
}

// Error says what was waited for, how long, and who held it. It is an
// [ErrTimeout], and unwraps to Err.
type Error struct {
	Package string        // that returns it
	File    string        // a migration file; "" if none is being run
	Line    int           // where its statement begins, from 1; 0 if unknown
	Table   string        // that the lock is on; "" if unknown
	Waited  time.Duration // in all tries
	Tries   int
	Holders []Holder // at the last look; none if unknown
	Note    string   // what became of the work; may be ""
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

// Unwrap returns the error of the database.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether the target is [ErrTimeout].
func (e *Error) Is(target error) bool { return target == ErrTimeout }

// Happened reports whether Postgres ended a statement for the locks of others:
// after the timeout, or in a deadlock.
func Happened(err error) bool {
	state := dberror.State(err)
	return state == "55P03" || state == "40P01"
}

// Retry calls try until it returns nil or an error that is no [*Error], or
// until the limit has passed. The *Error must not be wrapped, since its fields
// are set here. try must give back all locks before it returns.
// The pauses grow and are random, which keeps processes out of step.
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
		wait := pause/2 + rand.N(pause) //nolint:gosec // keeps processes out of step, no secret
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
