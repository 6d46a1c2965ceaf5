// Package wire makes connections to a database server that end when the network
// fails: with keep-alives, deadlines and a limit on silence.
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
	// DefaultConnect is how long connecting to a server may take.
	DefaultConnect = 10 * time.Second
	// DefaultDead is how long a connection survives without a sign of life from
	// the peer's system.
	DefaultDead = 30 * time.Second
)

// Limits are time limits of connections.
type Limits struct {
	// Connect limits connecting to one host: name lookup, TCP, TLS and login. 0
	// means DefaultConnect, and a negative value means no limit.
	Connect time.Duration
	// Dead ends a connection if the peer's system doesn't acknowledge data
	// (TCP_USER_TIMEOUT, on Linux) or keep-alives for that long. 0 means
	// DefaultDead, and a negative value leaves both to the system.
	Dead time.Duration
	// Silence is how long the server may be silent before a second connection
	// is used to check whether it is still working. 0 or less means no limit.
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

// KeepAlive holds a URL's keep-alive settings, which override the ones derived
// from Limits.Dead. The zero value overrides nothing.
type KeepAlive struct {
	Off            bool
	Idle, Interval time.Duration // 0 to derive it from Dead
	Count          int
	UserTimeout    time.Duration
}

// Group makes connections and can close all of them. The zero value is ready to
// use. It is safe for concurrent use.
type Group struct {
	mu     sync.Mutex
	closed bool
	conns  map[*Conn]struct{}
}

// ErrClosed is the error of a connection in a closed group.
var ErrClosed = errors.New("the connection was ended from this side")

// Close closes all connections of the group, and prevents new ones.
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

// Dial makes a connection. Its errors contain no address.
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
	cfg.Idle, cfg.Interval = max(cfg.Idle, time.Second), max(cfg.Interval, time.Second) // systems need at least 1 s
	return cfg
}

func userTimeout(limits Limits, alive KeepAlive) time.Duration {
	if alive.UserTimeout > 0 {
		return alive.UserTimeout
	}
	return max(limits.Dead, 0)
}
