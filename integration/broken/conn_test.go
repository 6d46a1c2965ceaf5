package broken_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// way is how a connection breaks at a statement.
type way string

const (
	before way = "before" // the statement doesn't reach the server
	after  way = "after"  // the server runs it, and its answer is lost
	amid   way = "amid"   // the answer ends after its first row
)

// point is where a connection can break: a statement, the module's functions
// that send it, and the way.
type point struct {
	text, from string
	how        way
}

// breaker opens connections that break at points, and records the points that a
// run reaches.
type breaker struct {
	config *pgx.ConnConfig

	mu     sync.Mutex
	at     map[point]bool // points to break at, once each
	passed []point        // each once
	broken []point
}

func newBreaker(t *testing.T, url string) (*breaker, *sql.DB) {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal("not a URL") // it has a password
	}
	b := &breaker{config: config}
	db := sql.OpenDB(b)
	db.SetMaxIdleConns(8)
	t.Cleanup(func() { _ = db.Close() })
	return b, db
}

// set begins a run and sets the points where its connections break.
func (b *breaker) set(points ...point) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at, b.passed, b.broken = make(map[point]bool), nil, nil
	for _, p := range points {
		b.at[p] = true
	}
}

// result returns the points reached since set, and the points where a
// connection broke, in order.
func (b *breaker) result() (passed, broken []point) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.passed, b.broken
}

// breaks records a point and reports whether the connection breaks there.
func (b *breaker) breaks(at point, how way) bool {
	at.how = how
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Contains(b.passed, at) {
		b.passed = append(b.passed, at)
	}
	if !b.at[at] {
		return false
	}
	delete(b.at, at)
	b.broken = append(b.broken, at)
	return true
}

// sent returns a statement's point. Its functions leave out the outermost, the
// operation itself, so that operations share points.
func sent(text string) point {
	const snapshot, module = "SET TRANSACTION SNAPSHOT", "github.com/credent-go/credent/"
	if strings.HasPrefix(text, snapshot) {
		text = snapshot // each name is different
	}
	var from []string
	callers := make([]uintptr, 100)
	frames := runtime.CallersFrames(callers[:runtime.Callers(1, callers)])
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		name, own := strings.CutPrefix(frame.Function, module)
		if own && !strings.HasPrefix(name, "integration/") {
			from = append(from, name)
		}
	}
	return point{text: text, from: strings.Join(from[:len(from)-1], " ")}
}

// Driver implements driver.Connector.
func (b *breaker) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// Connect implements driver.Connector.
func (b *breaker) Connect(ctx context.Context) (driver.Conn, error) {
	config := b.config.Copy()
	var socket *cuttable
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		socket = &cuttable{Conn: conn}
		return socket, nil
	}
	opened, err := stdlib.GetConnector(*config).Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{pgxConn: opened.(pgxConn), breaker: b, socket: socket}, nil
}

// errReset is a driver's error for a connection that the peer reset.
var errReset = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}

// cuttable is a socket that can be cut: later writes are discarded.
type cuttable struct {
	net.Conn
	is atomic.Bool
}

func (c *cuttable) cut() {
	c.is.Store(true)
	_ = c.Close()
}

// Read implements net.Conn.
func (c *cuttable) Read(p []byte) (int, error) {
	if c.is.Load() {
		return 0, errReset
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn.
func (c *cuttable) Write(p []byte) (int, error) {
	if c.is.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// SetDeadline implements net.Conn.
func (c *cuttable) SetDeadline(at time.Time) error {
	if c.is.Load() {
		return nil
	}
	return c.Conn.SetDeadline(at)
}

// pgxConn is the interface of pgx's connections.
type pgxConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ExecerContext
	driver.NamedValueChecker
	driver.QueryerContext
	driver.SessionResetter
}

type conn struct {
	pgxConn
	breaker *breaker
	socket  *cuttable
	inTx    bool
}

// around calls do, unless the connection breaks before or after it.
func (c *conn) around(at point, writes bool, do func() error) error {
	if c.breaker.breaks(at, before) {
		c.socket.cut()
	}
	err := do()
	if err == nil && writes && c.breaker.breaks(at, after) {
		c.socket.cut()
		err = errReset
	}
	return err
}

// BeginTx implements driver.ConnBeginTx.
func (c *conn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	var begun driver.Tx
	err := c.around(sent("BEGIN"), false, func() (err error) {
		begun, err = c.pgxConn.BeginTx(ctx, options)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.inTx = true
	return &tx{begun, c}, nil
}

type tx struct {
	driver.Tx
	conn *conn
}

// Commit implements driver.Tx.
func (t *tx) Commit() error {
	t.conn.inTx = false
	return t.conn.around(sent("COMMIT"), true, t.Tx.Commit)
}

// Rollback implements driver.Tx.
func (t *tx) Rollback() error {
	t.conn.inTx = false
	return t.Tx.Rollback()
}

// writes reports whether a statement changes anything. For one that doesn't, a
// lost answer equals a lost statement.
func (c *conn) writes(query string) bool {
	return !c.inTx && (strings.Contains(query, "INSERT INTO ") || strings.Contains(query, "UPDATE ") ||
		strings.Contains(query, "DELETE FROM ") || strings.Contains(query, "ALTER TABLE "))
}

// ExecContext implements driver.ExecerContext.
func (c *conn) ExecContext(
	ctx context.Context, query string, args []driver.NamedValue,
) (result driver.Result, err error) {
	err = c.around(sent(query), c.writes(query), func() (err error) {
		result, err = c.pgxConn.ExecContext(ctx, query, args)
		return err
	})
	return result, err
}

// QueryContext implements driver.QueryerContext. It reads the whole answer, so
// that the server has run the whole statement.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	at := sent(query)
	r := &rows{at: at, conn: c}
	err := c.around(at, c.writes(query), func() error {
		found, err := c.pgxConn.QueryContext(ctx, query, args)
		if err != nil {
			return err
		}
		return errors.Join(r.read(found), found.Close())
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// IsValid implements driver.Validator.
func (c *conn) IsValid() bool { return !c.socket.is.Load() }

// rows are a fully read answer.
type rows struct {
	at      point
	conn    *conn
	columns []string
	all     [][]driver.Value
	next    int
}

func (r *rows) read(found driver.Rows) error {
	r.columns = found.Columns()
	for {
		values := make([]driver.Value, len(r.columns))
		if err := found.Next(values); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		for i, value := range values {
			if text, ok := value.([]byte); ok {
				values[i] = slices.Clone(text)
			}
		}
		r.all = append(r.all, values)
	}
}

// Columns implements driver.Rows.
func (r *rows) Columns() []string { return r.columns }

// Close implements driver.Rows.
func (*rows) Close() error { return nil }

// Next implements driver.Rows.
func (r *rows) Next(dest []driver.Value) error {
	if r.next == len(r.all) {
		return io.EOF
	}
	if r.next == 1 && r.conn.breaker.breaks(r.at, amid) {
		r.conn.socket.cut()
		return errReset
	}
	copy(dest, r.all[r.next])
	r.next++
	return nil
}
