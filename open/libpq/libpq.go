// Package libpq reaches Postgres over lib/pq instead of pgx:
//
//	open.DB(databaseURL, open.Config{Drivers: []open.Driver{libpq.Driver()}})
//
// lib/pq sends a statement with parameters in two messages, and waits for an
// answer between them. Behind PgBouncer in transaction mode the two may reach
// two servers, so that a statement outside a transaction can get the answer to
// another client's. A URL with binary_parameters=yes makes it one message; it
// is never set without being asked for, since it breaks values of the type
// jsonb. pgx, the default, needs neither.
package libpq

import (
	"context"
	"database/sql/driver"
	"fmt"
	"net"
	"sync"
	"time"

	"entgo.io/ent/dialect"
	"github.com/lib/pq"

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/dburl"
	"github.com/credent-go/credent/internal/pqdeadline"
	"github.com/credent-go/credent/internal/wire"
	"github.com/credent-go/credent/open"
)

// cancelTime is how long a statement may take after its context has ended to be
// cancelled. Then its connection is cut.
const cancelTime = 2 * time.Second

// Driver returns lib/pq for [open.Config].
func Driver() open.Driver { return libpq{} }

type libpq struct{}

// Dialect implements open.Driver.
func (libpq) Dialect() string { return dialect.Postgres }

// Connector implements open.Driver.
func (libpq) Connector(databaseURL string, dialer *open.Dialer) (driver.Connector, error) {
	settings, cause := dburl.Parse(databaseURL)
	if cause != "" {
		return nil, fmt.Errorf("open: %w: %s", open.ErrURL, cause)
	}
	target, cause := settings.For(dburl.PQ)
	if cause != "" {
		return nil, fmt.Errorf("open: %w: %s", open.ErrURL, cause)
	}
	cfg, err := pq.NewConfig(target.Settings.String())
	if err != nil {
		return nil, fmt.Errorf("open: %w: lib/pq does not accept one of its parameters, or a variable PG…", open.ErrURL)
	}
	for _, name := range target.Dropped {
		delete(cfg.Runtime, name) // of a service file
	}
	limits := dialer.Limits(target.Connect)
	cfg.ConnectTimeout = limits.Connect // for each host
	return &connector{cfg, dialer, limits, target.KeepAlive}, nil
}

// connector connects over lib/pq.
type connector struct {
	cfg    pq.Config
	dialer *open.Dialer
	limits wire.Limits
	alive  wire.KeepAlive
}

// Driver implements driver.Connector.
func (c *connector) Driver() driver.Driver { return &pq.Driver{} }

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	return c.connect(ctx, c.limits.Silence)
}

func (c *connector) connect(ctx context.Context, silence time.Duration) (driver.Conn, error) {
	if c.limits.Connect > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.limits.Connect*time.Duration(1+len(c.cfg.Multi)))
		defer cancel()
	}
	inner, err := pq.NewConnectorConfig(c.cfg)
	if err != nil {
		return nil, c.explain(err)
	}
	line := &line{dialer: c.dialer, limits: c.limits, alive: c.alive}
	line.limits.Silence = 0
	inner.Dialer(line)
	// lib/pq looks at the context only while it dials.
	stop := context.AfterFunc(ctx, line.cut)
	conn, err := inner.Connect(ctx)
	stop()
	if err != nil {
		if cause := ctx.Err(); cause != nil {
			err = cause
		}
		return nil, c.explain(err)
	}
	main := line.connected()
	if silence > 0 {
		quiet := quiet{c}
		main.LimitSilence(silence, wire.Probe(quiet, dberror.PID(conn), silence, c.limits.Connect))
	}
	return pqdeadline.Conn(conn, func() { main.CutAt(time.Now(), true) })
}

// quiet makes the connections of a probe.
type quiet struct{ *connector }

// Connect implements driver.Connector.
func (q quiet) Connect(ctx context.Context) (driver.Conn, error) { return q.connect(ctx, 0) }

func (c *connector) explain(err error) error {
	values := []string{c.cfg.Host, c.cfg.User, c.cfg.Password, c.cfg.Database}
	for _, other := range c.cfg.Multi {
		values = append(values, other.Host)
	}
	return fmt.Errorf("open: %w", wire.ConnectError(err, c.limits.Connect, values...))
}

// line dials for one connection of lib/pq: first the connection itself, and
// later, when a statement's context ends, others to cancel it. lib/pq waits for
// the statement's end whatever happens, so that is when the time of the
// connection runs out.
type line struct {
	dialer *open.Dialer
	limits wire.Limits
	alive  wire.KeepAlive

	mu    sync.Mutex
	main  *wire.Conn
	ready bool
}

// DialContext implements pq.DialerContext.
func (l *line) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	main, ready := l.main, l.ready
	l.mu.Unlock()
	if !ready {
		conn, err := l.dialer.Dial(ctx, network, address, l.limits, l.alive)
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.main = conn
		return conn, nil
	}
	end := time.Now().Add(cancelTime)
	main.CutAt(end, false)
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	conn, err := l.dialer.Dial(ctx, network, address, l.limits, l.alive)
	if err != nil {
		return nil, err
	}
	conn.CutAt(end, true)
	return conn, nil
}

// Dial implements pq.Dialer.
func (l *line) Dial(network, address string) (net.Conn, error) {
	return l.DialContext(context.Background(), network, address)
}

// DialTimeout implements pq.Dialer.
func (l *line) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.DialContext(ctx, network, address)
}

// cut ends the connection that is being made.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.main != nil && !l.ready {
		l.main.CutAt(time.Now(), true)
	}
}

// connected returns the connection when it is ready for statements.
func (l *line) connected() *wire.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready = true
	return l.main
}
