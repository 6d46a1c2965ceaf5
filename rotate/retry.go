package rotate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/credent-go/credent/internal/retry"
)

// DefaultRetryFor is how long an operation is retried when the database fails
// for a while.
const DefaultRetryFor = retry.DefaultLimit

// DatabaseError says what happened to the database, and how often the operation
// was tried. It is one of the errors below, and unwraps to the driver's error.
//
//   - Kind: which of the errors below; its String is a name for programs
//   - Tries int: 1 if nothing was tried again
//   - Waited time.Duration: in all tries
//   - Err error: the driver's
type DatabaseError = retry.Error

// Kinds of a [DatabaseError], to be tested with errors.Is. All but [ErrNoSpace]
// may go away on a retry.
var (
	// ErrConnectionLost means that the connection broke, or the server ended
	// it.
	ErrConnectionLost = retry.ErrConnectionLost
	// ErrServerDown means that the server takes no connections.
	ErrServerDown = retry.ErrServerDown
	// ErrStandby means that the server takes no writes. At the beginning of a
	// run it ends the run at once.
	ErrStandby = retry.ErrStandby
	// ErrConflict means a deadlock, or a serialization failure.
	ErrConflict = retry.ErrConflict
	// ErrLocked means that others held a lock for longer than lock_timeout, or
	// than the pool of SQLite waits.
	ErrLocked = retry.ErrLocked
	// ErrTooManyConnections means that the server, its pooler or the role has
	// no free connection.
	ErrTooManyConnections = retry.ErrTooManyConnections
	// ErrTimeout means that a statement took longer than statement_timeout,
	// even for one row.
	ErrTimeout = retry.ErrTimeout
	// ErrIdle means that a session was idle for longer than the server allows.
	ErrIdle = retry.ErrIdle
	// ErrNoSpace means that the server's disk is full, or that a limit such as
	// temp_file_limit is reached.
	ErrNoSpace = retry.ErrNoSpace
)

// teller reports what is waited for.
type teller func(waiting error, pause time.Duration)

func (r *run) policy(tell teller) retry.Policy {
	return retry.Policy{Limit: r.cfg.RetryFor, DB: r.db, Notify: func(w retry.Wait) { tell(w.Err, w.Pause) }}
}

// retry retries within the configured limit.
func (r *run) retry(ctx context.Context, tell teller, try func() error) error {
	return r.policy(tell).Do(ctx, try)
}

// retrySetup is retry before anything was written. It doesn't wait for a
// standby's promotion, because the server may never have been the primary.
func (r *run) retrySetup(ctx context.Context, try func() error) error {
	p := r.policy(r.tellTable(table{}))
	p.Final = []retry.Kind{retry.Standby}
	err := p.Do(ctx, try)
	var known *DatabaseError
	if errors.As(err, &known) && !strings.HasPrefix(err.Error(), "rotate: ") {
		return fmt.Errorf("rotate: %w", err)
	}
	return err
}

// retryTable is retry outside the passes over a table.
func (r *run) retryTable(ctx context.Context, t table, try func() error) error {
	return r.retry(ctx, r.tellTable(t), try)
}

func (r *run) tellTable(t table) teller {
	return func(waiting error, pause time.Duration) {
		if r.cfg.Progress == nil {
			return
		}
		r.telling.Lock()
		defer r.telling.Unlock()
		p := Progress{Elapsed: time.Since(r.start), Batch: r.pace.rows(), Waiting: waiting, Pause: pause}
		if t.name != "" {
			p.Table = t.label()
		}
		r.cfg.Progress(p)
	}
}

// readPage returns the first rows of a span, the rest of the span, and whether
// that may contain more rows. It reads fewer rows at a time if the database
// takes too long.
func (r *run) readPage(
	ctx context.Context, tell teller, t table, s span,
) (page []row, rest span, more bool, err error) {
	err = r.retry(ctx, tell, func() error {
		for {
			n := r.pace.rows()
			page, rest, more, err = r.store.page(ctx, t, s, n)
			if retry.KindOf(err) != retry.Timeout || ctx.Err() != nil || !r.pace.slower(n) {
				return err
			}
		}
	})
	if err == nil {
		r.pace.passed(len(page))
	}
	return page, rest, more, err
}

// writing writes the changes of a page.
type writing struct {
	*pass
	rest    []change // not written yet
	doubt   []change // changes that an error left in doubt
	written int64
	refused []refusal
	stuck   int64
	own     []int64
}

func (w *writing) do(ctx context.Context) error {
	for len(w.rest)+len(w.doubt) > 0 {
		err := w.retry(ctx, w.tell, func() error {
			for {
				n, err := w.part(ctx)
				switch retry.KindOf(err) { //nolint:exhaustive // other kinds don't depend on the size
				case retry.Timeout:
					if ctx.Err() == nil && w.pace.slower(n) {
						continue // a pause wouldn't help
					}
				case retry.Locked, retry.Conflict:
					w.pace.slower(n)
				}
				return err
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// part writes some of the remaining changes, or resolves those in doubt, and
// returns the number of rows tried.
func (w *writing) part(ctx context.Context) (n int, err error) {
	if n = w.pace.rows(); len(w.doubt) > 0 {
		return n, w.resolve(ctx, n)
	}
	n = min(n, len(w.rest))
	some := w.rest[:n]
	w.rest = w.rest[n:]
	done, err := w.store.write(ctx, w.table, some)
	if err != nil {
		w.doubt = some
		return n, err
	}
	w.written += done.rows
	w.refused = append(w.refused, done.refused...)
	w.stuck += done.stuck
	if done.own != 0 {
		w.own = append(w.own, done.own)
	}
	w.pace.passed(n)
	return n, nil
}

// resolve counts the changes in doubt that are stored, n at a time. The others
// will be written again.
func (w *writing) resolve(ctx context.Context, n int) error {
	for len(w.doubt) > 0 {
		some := w.doubt[:min(n, len(w.doubt))]
		found, err := w.store.stored(ctx, w.table, some)
		if err != nil {
			return err
		}
		w.written += int64(len(found))
		w.doubt = w.doubt[len(some):]
		for _, c := range some {
			if !found[w.table.place(c.row)] {
				w.rest = append(w.rest, c)
			}
		}
	}
	return nil
}

// pace is the number of rows to read and write at a time. It is halved after
// the database took too long, and grows again later. It is safe for concurrent
// use.
type pace struct {
	mu   sync.Mutex
	most int
	now  int // 0 means most
	done int // rows since the last change of size
}

// passesToGrow is the number of successful pages before the size grows by a
// quarter.
const passesToGrow = 8

func (p *pace) rows() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.size()
}

func (p *pace) size() int {
	if p.now == 0 {
		return p.most
	}
	return p.now
}

// slower halves the size after n rows took too long, and reports whether that
// makes it smaller.
func (p *pace) slower(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n <= 1 {
		return false
	}
	p.now, p.done = min(p.size(), n/2), 0
	return true
}

// passed counts rows that were processed in time.
func (p *pace) passed(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.size() >= p.most {
		return
	}
	if p.done += n; p.done >= passesToGrow*p.size() {
		p.now, p.done = min(p.most, p.size()+max(1, p.size()/4)), 0
	}
}
