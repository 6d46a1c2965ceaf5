// Package wire makes connections to a database server that end when the network
// does: with keep-alives, with deadlines, and with a limit to silence.
package wire

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Defaults of [Limits].
const (
	// DefaultConnect is for how long a server may take to let a client in.
	DefaultConnect = 10 * time.Second
	// DefaultDead is after what time without a sign of life from the peer's
	// system a connection is dead.
	DefaultDead = 30 * time.Second
)

// Limits are how long things may take on a network.
type Limits struct {
	// Connect bounds the making of a connection to one host: its name, TCP,
	// TLS and the log-in. 0 means DefaultConnect, negative no limit.
	Connect time.Duration
	// Dead ends a connection if the peer's system doesn't acknowledge data
	// (TCP_USER_TIMEOUT, on Linux) or keep-alives for that long. 0 means
	// DefaultDead, negative leaves both to the system.
	Dead time.Duration
	// Silence is after what time without a word from the server it is asked
	// over a second connection whether it is still at work. 0 and less mean
	// never.
	Silence time.Duration
}

// WithDefaults returns the limits with zeros replaced: 0 then means no limit.
func (l Limits) WithDefaults() Limits {
	fill := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
		*d = max(*d, 0)
	}
	fill(&l.Connect, DefaultConnect)
	fill(&l.Dead, DefaultDead)
	fill(&l.Silence, 0)
	return l
}

// KeepAlive is how a URL wants keep-alives, instead of the ones that follow
// from Limits.Dead. The zero value wants nothing.
type KeepAlive struct {
	Off            bool
	Idle, Interval time.Duration // 0 for what follows from Dead
	Count          int
	UserTimeout    time.Duration
}

// Group makes connections, and can end all of them. The zero value is ready
// for use, also by several goroutines.
type Group struct {
	mu     sync.Mutex
	closed bool
	conns  map[*Conn]struct{}
}

// ErrClosed is the error of a connection in a closed group.
var ErrClosed = errors.New("the connection was ended from this side")

// Close ends all connections of the group, and lets nobody make another.
func (g *Group) Close() {
	g.mu.Lock()
	g.closed = true
	conns := g.conns
	g.conns = nil
	g.mu.Unlock()
	for c := range conns {
		c.abort(ended("wait", closedError{}))
	}
}

func (g *Group) add(c *Conn) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	if g.conns == nil {
		g.conns = make(map[*Conn]struct{})
	}
	g.conns[c] = struct{}{}
	return nil
}

func (g *Group) remove(c *Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}

// Dial makes a connection. Its error has no address in it.
func (g *Group) Dial(ctx context.Context, network, address string, limits Limits, alive KeepAlive) (*Conn, error) {
	d := net.Dialer{KeepAlive: -1, KeepAliveConfig: keepAlive(limits, alive)}
	if timeout := userTimeout(limits, alive); timeout > 0 && network != "unix" {
		d.Control = controlUserTimeout(timeout)
	}
	inner, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, bare(err)
	}
	c := &Conn{inner: inner, group: g, silence: max(limits.Silence, 0)}
	if err := g.add(c); err != nil {
		return nil, errors.Join(err, inner.Close())
	}
	return c, nil
}

func keepAlive(limits Limits, alive KeepAlive) net.KeepAliveConfig {
	if alive.Off || limits.Dead <= 0 && alive == (KeepAlive{}) {
		return net.KeepAliveConfig{}
	}
	cfg := net.KeepAliveConfig{Enable: true, Idle: limits.Dead / 2, Interval: limits.Dead / 6, Count: 3}
	if alive.Idle > 0 {
		cfg.Idle = alive.Idle
	}
	if alive.Interval > 0 {
		cfg.Interval = alive.Interval
	}
	if alive.Count > 0 {
		cfg.Count = alive.Count
	}
	cfg.Idle, cfg.Interval = max(cfg.Idle, time.Second), max(cfg.Interval, time.Second) // what systems can count
	return cfg
}

func userTimeout(limits Limits, alive KeepAlive) time.Duration {
	if alive.UserTimeout > 0 {
		return alive.UserTimeout
	}
	return max(limits.Dead, 0)
}
