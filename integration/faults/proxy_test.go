//go:build linux

package faults

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"time"
)

// proxy stands between clients and a server and simulates network faults.
type proxy struct {
	listener net.Listener
	done     sync.WaitGroup

	mu      sync.Mutex
	target  string
	links   map[*link]bool
	delay   time.Duration // of each piece
	resumed chan struct{} // closed when pieces are forwarded again; nil if they are
	pieces  int           // from clients, so far
	at      int           // the piece before which hook is called; 0 for none
	hook    func()
}

// link is a client's connection with its server connection.
type link struct {
	client, server net.Conn
	halve          bool // forward half of the server's next piece, then cut
}

func (l *link) cut() {
	_ = l.client.Close()
	_ = l.server.Close()
}

// newProxy listens, and forwards to the server of a URL.
func newProxy(tr *trial, databaseURL string) *proxy {
	tr.Helper()
	listener, err := new(net.ListenConfig).Listen(tr.ctx, "tcp4", "127.0.0.1:0")
	tr.must(err)
	p := &proxy{listener: listener, target: hostOf(tr, databaseURL), links: make(map[*link]bool)}
	p.done.Go(p.accept)
	tr.Cleanup(p.close)
	return p
}

func hostOf(tr *trial, databaseURL string) string {
	tr.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		tr.Fatal("a server's URL does not parse")
	}
	return u.Host
}

// url returns a database's URL through the proxy.
func (p *proxy) url(databaseURL string) string {
	u, _ := url.Parse(databaseURL) // hostOf has parsed it
	u.Host = p.listener.Addr().String()
	return u.String()
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.resume()
	p.cut()
	p.done.Wait()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.mu.Lock()
		target := p.target
		p.mu.Unlock()
		dialer := net.Dialer{Timeout: 5 * time.Second}
		server, err := dialer.DialContext(context.Background(), "tcp4", target)
		if err != nil {
			_ = client.Close() // as the server's machine would
			continue
		}
		l := &link{client: client, server: server}
		p.mu.Lock()
		p.links[l] = true
		p.mu.Unlock()
		p.done.Go(func() { p.forward(l, l.client, l.server, true) })
		p.done.Go(func() { p.forward(l, l.server, l.client, false) })
	}
}

var errCut = errors.New("cut")

// forward copies one direction of a link.
func (p *proxy) forward(l *link, from, to net.Conn, fromClient bool) {
	defer func() {
		l.cut()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.links, l)
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			err = errors.Join(err, p.pass(l, to, buffer[:n], fromClient))
		}
		if err != nil {
			return
		}
	}
}

// pass forwards a piece.
func (p *proxy) pass(l *link, to net.Conn, piece []byte, fromClient bool) error {
	p.mu.Lock()
	delay, resumed, halve, hook := p.delay, p.resumed, l.halve && !fromClient, func() {}
	if fromClient {
		if p.pieces++; p.pieces == p.at {
			hook, p.hook = p.hook, nil
		}
	}
	p.mu.Unlock()
	hook()
	if delay > 0 {
		time.Sleep(delay)
	}
	if resumed != nil {
		<-resumed
	}
	if halve {
		_, err := to.Write(piece[:len(piece)/2])
		return errors.Join(err, errCut)
	}
	_, err := to.Write(piece)
	return err
}

// switchTo cuts every connection, and forwards later ones to another server.
func (p *proxy) switchTo(target string) {
	p.mu.Lock()
	p.target = target
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) each(do func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		do(l)
	}
}

// cut ends every connection.
func (p *proxy) cut() { p.each((*link).cut) }

// halve ends every connection in the middle of the server's next answer.
func (p *proxy) halve() { p.each(func(l *link) { l.halve = true }) }

// slow delays each piece from now on.
func (p *proxy) slow(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

// swallow holds back every piece from now on, and accepts connections without
// answering, until resume.
func (p *proxy) swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resumed == nil {
		p.resumed = make(chan struct{})
	}
}

// resume forwards again.
func (p *proxy) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.resumed != nil {
		close(p.resumed)
		p.resumed = nil
	}
}

// before calls a function before the nth piece from a client, counted from now,
// is forwarded.
func (p *proxy) before(n int, hook func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pieces, p.at, p.hook = 0, n, hook
}

// count starts counting pieces, and returns a function that returns the count.
func (p *proxy) count() func() int {
	p.before(0, nil)
	return func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.pieces
	}
}
