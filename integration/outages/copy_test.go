//go:build linux || darwin

package outages_test

import (
	"bytes"
	"errors"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/rotate"
)

// TestCopyGoesOn ends sessions beside a Copy.
func TestCopyGoesOn(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		const n = 2000
		cutter := w.cut(t)
		cfg := credent.CopyConfig{Batch: 50, Progress: func(int64) { <-cutter.first }}
		stored, err := testopt.Copy(t.Context(), w.db, rows(n), cfg, testopt.WithKeyring(w.new))
		cutter.close()
		if err != nil || stored != n {
			t.Errorf("%d rows are stored: %v", stored, err)
		}
		w.check(t, n, w.new)
	})
}

// commit is what a proxy does with a COMMIT.
type commit int

const (
	passes  commit = iota
	lost           // it doesn't reach the server
	unheard        // its answer doesn't reach the client
	late           // it reaches the server after the client has resent the rows
)

// proxy leads to the server, and tampers with the first COMMITs.
type proxy struct {
	to      string
	addr    string
	mu      sync.Mutex
	next    []commit
	release func() // sends a late COMMIT
}

func newProxy(t *testing.T, target string, next ...commit) (p *proxy, through string) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal("not a URL") // it has a password
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	p = &proxy{to: u.Host, addr: listener.Addr().String(), next: next}
	u.Host = p.addr
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	return p, u.String()
}

// lead makes new connections lead to another server.
func (p *proxy) lead(t *testing.T, target string) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Error("not a URL") // it has a password
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = u.Host
}

func (p *proxy) serve(client net.Conn) {
	p.mu.Lock()
	to := p.to
	p.mu.Unlock()
	server, err := net.Dial("tcp", to)
	if err != nil {
		_ = client.Close()
		return
	}
	var silent sync.Once
	deaf := make(chan struct{}) // closed when the client should hear nothing more
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			n, err := server.Read(buffer)
			select {
			case <-deaf:
			default:
				_, _ = client.Write(buffer[:n])
			}
			if err != nil {
				_ = client.Close()
				return
			}
		}
	}()
	defer func() { _ = client.Close() }()
	buffer := make([]byte, 1<<16)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			_ = server.Close()
			return
		}
		data := bytes.Clone(buffer[:n])
		switch p.of(data) {
		case passes:
		case lost:
			_ = server.Close()
			return
		case unheard:
			silent.Do(func() { close(deaf) })
			_, _ = server.Write(data)
			// The server closes the connection once it has processed
			// everything.
			_ = server.(*net.TCPConn).CloseWrite()
			return
		case late:
			silent.Do(func() { close(deaf) })
			p.mu.Lock()
			p.release = func() {
				_, _ = server.Write(data)
				_ = server.(*net.TCPConn).CloseWrite()
			}
			p.mu.Unlock()
			return
		}
		if _, err := server.Write(data); err != nil {
			return
		}
		if bytes.Contains(data, []byte("INSERT INTO")) || bytes.Contains(bytes.ToLower(data), []byte("copy ")) {
			p.mu.Lock()
			if p.release != nil {
				time.AfterFunc(50*time.Millisecond, p.release) // the rows come after it
				p.release = nil
			}
			p.mu.Unlock()
		}
	}
}

// of returns what to do with a client's data.
func (p *proxy) of(data []byte) commit {
	if !bytes.Contains(bytes.ToLower(data), []byte("commit\x00")) {
		return passes
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.next) == 0 {
		return passes
	}
	c := p.next[0]
	p.next = p.next[1:]
	return c
}

// TestCopyAfterBrokenCommit cuts the connection at a COMMIT: before it reaches
// the server, before its answer reaches the client, and so that it reaches the
// server only after the rows were resent.
func TestCopyAfterBrokenCommit(t *testing.T) {
	t.Parallel()
	for name, next := range map[string][]commit{
		"before":        {lost},
		"after":         {unheard},
		"late":          {late},
		"several times": {passes, lost, unheard, unheard, passes, lost, lost, late, unheard},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachDriver(t, func(t *testing.T, w *world) {
				const n = 95
				_, through := newProxy(t, w.url, next...)
				db := openPool(t, w.driver, through)
				var told []error
				var last int64
				var ids int
				cfg := credent.CopyConfig{
					Batch:    10,
					Waiting:  func(err error, _ time.Duration) { told = append(told, err) },
					Progress: func(rows int64) { last = rows },
				}
				cfg.Stored = func(stored []uuid.UUID) { ids += len(stored) }
				stored, err := testopt.Copy(t.Context(), db, rows(n), cfg, testopt.WithKeyring(w.new))
				if err != nil || stored != n || last != n || ids != n {
					t.Errorf("%d rows are stored, %d told, %d IDs: %v", stored, last, ids, err)
				}
				if len(told) == 0 || !errors.Is(told[0], rotate.ErrConnectionLost) {
					t.Errorf("it waited for %v", told)
				}
				w.check(t, n, w.new)
			})
		})
	}
}

// TestCopyUncertain has no time to find out about a COMMIT.
func TestCopyUncertain(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		_, through := newProxy(t, w.url, passes, unheard)
		db := openPool(t, w.driver, through)
		stored, err := testopt.Copy(t.Context(), db, rows(30), credent.CopyConfig{Batch: 10, RetryFor: -1},
			testopt.WithKeyring(w.new))
		if !errors.Is(err, credent.ErrUncertain) || !errors.Is(err, rotate.ErrConnectionLost) || stored != 10 {
			t.Errorf("%d rows are stored: %v", stored, err)
		}
	})
}

// TestCopyReachesLimit reaches a server limit at a row that isn't at fault.
func TestCopyReachesLimit(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		for _, state := range []string{"53100", "53200", "53400", "57014"} {
			w.exec(t, `CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
				'BEGIN RAISE EXCEPTION ''no room'' USING ERRCODE = ''`+state+`''; END'`)
			w.exec(t, "DROP TRIGGER IF EXISTS full_disk ON user_credentials")
			w.exec(t, "CREATE TRIGGER full_disk BEFORE INSERT ON user_credentials FOR EACH ROW EXECUTE FUNCTION "+
				"full_disk()")
			stored, err := testopt.Copy(t.Context(), w.db, rows(10), credent.CopyConfig{RetryFor: -1},
				testopt.WithKeyring(w.new))
			var failed *credent.CopyError
			if !errors.As(err, &failed) || failed.Row != 0 || stored != 0 {
				t.Errorf("%s: %d rows are stored: %v", state, stored, err)
			}
			if state != "57014" && !errors.Is(err, rotate.ErrNoSpace) {
				t.Errorf("%s: %v", state, err)
			}
		}
	})
}
