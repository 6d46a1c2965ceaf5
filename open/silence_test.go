package open_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/credent-go/credent/open"
)

// proxy forwards bytes until told to drop them, like a network that loses all
// packets.
type proxy struct {
	url      string
	mu       sync.Mutex
	dropNew  bool // data on new connections
	closed   bool
	previous []*passage
}

// passage is one connection through the proxy.
type passage struct {
	mu   sync.Mutex
	drop bool
}

func startProxy(t *testing.T) *proxy {
	t.Helper()
	u, err := url.Parse(server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	target := u.Host
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{}
	var all sync.WaitGroup
	var conns []io.Closer
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			back, err := new(net.Dialer).Dial("tcp4", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			way := &passage{}
			p.mu.Lock()
			if p.closed { // nobody would close these, and Postgres waits a minute for a login
				p.mu.Unlock()
				_, _ = client.Close(), back.Close()
				return
			}
			conns = append(conns, client, back)
			way.drop = p.dropNew
			p.previous = append(p.previous, way)
			p.mu.Unlock()
			all.Go(func() { way.pass(back, client) })
			all.Go(func() { way.pass(client, back) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.closed = true
		for _, c := range conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		all.Wait()
	})
	u.Host = l.Addr().String()
	p.url = u.String()
	return p
}

// pass forwards one direction. In a silence, it doesn't forward the end either.
func (w *passage) pass(to, from net.Conn) {
	buf := make([]byte, 1<<15)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		drop := w.drop
		w.mu.Unlock()
		if err != nil {
			if !drop {
				_ = to.Close()
			}
			return
		}
		if !drop {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// silence drops everything from now on, and on new connections too if later is
// set.
func (p *proxy) silence(later bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropNew = later
	for _, way := range p.previous {
		way.mu.Lock()
		way.drop = true
		way.mu.Unlock()
	}
}

// hang is the time after which a call counts as hanging.
const hang = 2 * time.Minute

// returns fails the test if f doesn't return.
func returns(t *testing.T, what string, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(hang):
		t.Fatalf("%s: it doesn't return", what)
		return nil
	}
}

// TestDeadlineHolds checks that a context's deadline ends every wait on a
// silent network, with both drivers.
func TestDeadlineHolds(t *testing.T) {
	t.Parallel()
	type work func(ctx context.Context, db *sql.DB, silence func()) error
	exec := func(query string, args ...any) work {
		return func(ctx context.Context, db *sql.DB, silence func()) error {
			silence()
			_, err := db.ExecContext(ctx, query, args...)
			return err
		}
	}
	for name, do := range map[string]work{
		"exec":           exec("SELECT 1"),
		"with arguments": exec("SELECT $1::int", 1),
		"ping": func(ctx context.Context, db *sql.DB,
			silence func(),
		) error {
			silence()
			return db.PingContext(ctx)
		},
		"query": func(ctx context.Context, db *sql.DB, silence func()) error {
			silence()
			var n int
			return db.QueryRowContext(ctx, "SELECT 1").Scan(&n)
		},
		"rows": func(ctx context.Context, db *sql.DB, silence func()) error {
			rows, err := db.QueryContext(ctx, "SELECT repeat('x', 1000) FROM generate_series(1, 1000000)")
			if err != nil {
				return err
			}
			defer func() { _ = rows.Close() }()
			silence()
			for rows.Next() {
			}
			return rows.Err()
		},
		"prepared": func(ctx context.Context, db *sql.DB, silence func()) error {
			stmt, err := db.PrepareContext(ctx, "SELECT $1::int")
			if err != nil {
				return err
			}
			defer func() { _ = stmt.Close() }()
			silence()
			_, err = stmt.ExecContext(ctx, 1)
			return err
		},
		"transaction": func(ctx context.Context, db *sql.DB, silence func()) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			silence()
			_, err = tx.ExecContext(ctx, "SELECT 1")
			_ = tx.Rollback()
			return err
		},
		"commit": func(ctx context.Context, db *sql.DB, silence func()) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			silence()
			return tx.Commit()
		},
	} {
		for driver, drivers := range forms {
			t.Run(name+"/"+driver, func(t *testing.T) {
				t.Parallel()
				p := startProxy(t)
				db := connect(t, p.url, open.Config{Drivers: drivers})
				db.SetMaxOpenConns(1)
				if err := db.PingContext(t.Context()); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				err := returns(t, name, func() error { return do(ctx, db, func() { p.silence(true) }) })
				if err == nil {
					t.Error("no error")
				}
				if ctx.Err() == nil {
					t.Error("it returned before the deadline")
				}
			})
		}
	}
}

// TestSilence checks that statements without a deadline end if the network goes
// silent, even for just one connection.
func TestSilence(t *testing.T) {
	t.Parallel()
	for driver, drivers := range forms {
		for name, later := range map[string]bool{"network": true, "one connection": false} {
			t.Run(name+"/"+driver, func(t *testing.T) {
				t.Parallel()
				p := startProxy(t)
				db := connect(t, p.url, open.Config{
					Drivers: drivers,
					Dialer:  &open.Dialer{ConnectTimeout: 5 * time.Second, SilenceTimeout: time.Second},
				})
				conn, err := db.Conn(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				p.silence(later)
				err = returns(t, name, func() error {
					_, err := conn.ExecContext(context.Background(), "SELECT 1")
					return err
				})
				if !errors.Is(err, open.ErrSilent) {
					t.Errorf("got %v, want ErrSilent", err)
				}
				if err != nil && strings.Contains(err.Error(), "127.0.0.1") {
					t.Errorf("it has an address: %v", err)
				}
			})
		}
	}
}

// A slow server isn't silent.
func TestSlowStatement(t *testing.T) {
	t.Parallel()
	for driver, drivers := range forms {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			db := connect(t, server.URL("postgres"), open.Config{
				Drivers: drivers, Dialer: &open.Dialer{SilenceTimeout: time.Second},
			})
			if _, err := db.ExecContext(t.Context(), "SELECT pg_sleep(3.5)"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestConnectLimit covers servers that accept a connection and never answer.
func TestConnectLimit(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{"nothing": "", "TLS": "S"} {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, first)
				defer func() { _ = conn.Close() }()
			}
		}()
		mode := "disable"
		if first != "" {
			mode = "require"
		}
		for driver, drivers := range forms {
			t.Run(name+"/"+driver, func(t *testing.T) {
				t.Parallel()
				db := connect(t, "postgres://u:IN-VAIN@"+l.Addr().String()+"/d?sslmode="+mode,
					open.Config{Drivers: drivers, Dialer: &open.Dialer{ConnectTimeout: time.Second}})
				err := returns(t, name, func() error { return db.PingContext(context.Background()) })
				if !errors.Is(err, open.ErrConnect) || !strings.Contains(err.Error(), "it did not answer within 1s") {
					t.Error(err)
				}
			})
		}
	}
}

// TestClose ends statements that wait for the server.
func TestClose(t *testing.T) {
	t.Parallel()
	for driver, drivers := range forms {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			dialer := new(open.Dialer)
			db := connect(t, server.URL("postgres"), open.Config{Drivers: drivers, Dialer: dialer})
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				_, err := tx.ExecContext(context.Background(), "SELECT pg_sleep(600)")
				done <- err
			}()
			dialer.Close()
			if err := returns(t, "close", func() error { return <-done }); err == nil {
				t.Error("no error")
			}
			if err := db.PingContext(t.Context()); err == nil {
				t.Error("another connection was made")
			}
		})
	}
}
