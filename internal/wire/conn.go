package wire

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// ErrSilent means that a server hasn't answered within the limit and isn't
// working on a request either.
var ErrSilent = errors.New("the database has gone silent")

// silentError is [ErrSilent] with the duration and the reason.
type silentError struct {
	after time.Duration
	cause error
}

func (e *silentError) Error() string {
	return fmt.Sprintf("%v: no answer for %v, and %v", ErrSilent, e.after, e.cause)
}
func (e *silentError) Unwrap() []error { return []error{ErrSilent, e.cause} }

// Timeout and Temporary implement net.Error. Drivers return a timeout
// unchanged; pgx replaces other errors with one that makes database/sql run the
// statement again.
func (e *silentError) Timeout() bool   { return true }
func (e *silentError) Temporary() bool { return false }

// closedError is [ErrClosed], marked as a timeout like silentError.
type closedError struct{}

func (closedError) Error() string   { return ErrClosed.Error() }
func (closedError) Unwrap() error   { return ErrClosed }
func (closedError) Timeout() bool   { return true }
func (closedError) Temporary() bool { return false }

// bare removes the addresses from an error.
func bare(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return ended(op.Op, op.Err)
	}
	return err
}

// ended returns an error that drivers recognize as the end of a connection.
func ended(op string, err error) error { return &net.OpError{Op: op, Net: "tcp", Err: err} }

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// Conn is a connection to a server. It implements net.Conn.
type Conn struct {
	inner net.Conn
	group *Group

	mu      sync.Mutex
	silence time.Duration // 0 for no limit
	probe   func() error  // checks over another connection whether the server is still working
	read    time.Time     // deadlines set by the driver
	write   time.Time
	cut     time.Time // when an abandoned statement ends
	final   bool      // the cut also applies to later statements
	cause   error     // why the connection ended
}

// LimitSilence sets how long the server may be silent (0 for no limit) and the
// probe to call then. The probe returns nil if the server is working, and an
// error if no answer will come. Without a probe, a silence ends the connection.
// The limit also applies to a read already waiting, because pgx reads in the
// background.
func (c *Conn) LimitSilence(d time.Duration, probe func() error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silence, c.probe = d, probe
	_ = c.inner.SetReadDeadline(c.earliest(c.read, d)) // fails only if it is closed
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		if err := c.arm(c.inner.SetReadDeadline, &c.read); err != nil {
			return 0, err
		}
		n, err := c.inner.Read(p)
		if n > 0 || err == nil {
			return n, err
		}
		if err := c.wait(err, &c.read); err != nil {
			return 0, err
		}
	}
}

// Write implements net.Conn. It also lifts the time limit of an abandoned
// statement, because the driver has gone on to the next one.
func (c *Conn) Write(p []byte) (written int, err error) {
	c.mu.Lock()
	if !c.final {
		c.cut = time.Time{}
	}
	c.mu.Unlock()
	for {
		if err := c.arm(c.inner.SetWriteDeadline, &c.write); err != nil {
			return written, err
		}
		n, err := c.inner.Write(p[written:])
		written += n
		if err == nil {
			return written, nil
		}
		if n > 0 && isTimeout(err) && !c.isOver(&c.write) {
			continue // there was progress
		}
		if err := c.wait(err, &c.write); err != nil {
			return written, err
		}
	}
}

// arm sets the deadline of the next read or write: the driver's deadline or the
// end of the silence limit.
func (c *Conn) arm(set func(time.Time) error, driver *time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return c.cause
	}
	return set(c.earliest(*driver, c.silence))
}

// earliest returns the earliest deadline.
func (c *Conn) earliest(driver time.Time, silence time.Duration) time.Time {
	at := driver
	if !c.cut.IsZero() && (at.IsZero() || c.cut.Before(at)) {
		at = c.cut
	}
	if silence > 0 {
		if end := time.Now().Add(silence); at.IsZero() || end.Before(at) {
			at = end
		}
	}
	return at
}

func (c *Conn) isOver(driver *time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if !c.cut.IsZero() && !now.Before(c.cut) {
		c.final = true // an answer may be half read
	}
	at := c.earliest(*driver, 0)
	return !at.IsZero() && !now.Before(at)
}

// wait returns nil if a read or write that failed with err should continue.
func (c *Conn) wait(err error, driver *time.Time) error {
	c.mu.Lock()
	cause, silence, probe := c.cause, c.silence, c.probe
	c.mu.Unlock()
	switch {
	case cause != nil:
		return cause
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return bare(err)
	case c.isOver(driver):
		return bare(err)
	case silence <= 0:
		return nil // the deadline was moved meanwhile
	case probe == nil:
		err = errors.New("it can't be asked why")
	default:
		err = probe()
	}
	if err == nil {
		return nil
	}
	silent := ended("wait", &silentError{silence, err})
	c.abort(silent)
	return silent
}

// CutAt ends any wait of the connection at a given time. Unless final is set,
// this applies until the driver starts something new.
func (c *Conn) CutAt(at time.Time, final bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut, c.final = at, c.final || final
	_ = c.inner.SetDeadline(at) // fails only if it is closed
}

// abort closes the connection, and gives waiting callers the cause.
func (c *Conn) abort(cause error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = cause
	}
	c.mu.Unlock()
	_ = c.Close()
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.group.remove(c)
	return c.inner.Close()
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.inner.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.inner.RemoteAddr() }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read, c.write = t, t
	return c.inner.SetDeadline(c.earliest(t, c.silence))
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = t
	return c.inner.SetReadDeadline(c.earliest(t, c.silence))
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = t
	return c.inner.SetWriteDeadline(c.earliest(t, c.silence))
}
