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
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"entgo.io/ent/dialect"
	"github.com/lib/pq"

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/dbtarget"
	"github.com/credent-go/credent/internal/dburl"
	"github.com/credent-go/credent/internal/pqdeadline"
	"github.com/credent-go/credent/internal/wire"
	"github.com/credent-go/credent/open"
)

// cancelTime is how long cancelling a statement may take after its context has
// ended, before its connection is cut.
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
	target, cause := dbtarget.New(settings, dbtarget.PQ)
	if cause != "" {
		return nil, fmt.Errorf("open: %w: %s", open.ErrURL, cause)
	}
	c := &connector{target: target, dialer: dialer, limits: dialer.Limits(target.Connect)}
	var err error
	c.rounds, err = dbtarget.Rounds(target, func(host dbtarget.Host, attempt string) (pq.Config, error) {
		cfg, err := config(target, host, attempt)
		cfg.ConnectTimeout = c.limits.Connect
		return cfg, err
	})
	if err != nil {
		return nil, fmt.Errorf("open: %w: lib/pq does not accept one of its parameters, or a variable PG…", open.ErrURL)
	}
	return c, nil
}

// config returns lib/pq's configuration of the settings for one host. Each host
// needs its own, because lib/pq turns TLS off for all hosts if the first one is
// a socket. lib/pq doesn't look up settings in variables or files if they are
// already set.
func config(target *dbtarget.Target, host dbtarget.Host, attempt string) (pq.Config, error) {
	settings := target.For(host, attempt)
	if attempt == readOnly {
		settings["target_session_attrs"] = "any" // see checkReadOnly
	}
	if host.Name == "" {
		settings["host"] = "localhost"
	}
	if host.Address != "" {
		settings["hostaddr"] = host.Address
	}
	settings["passfile"] = filepath.Join(os.DevNull, "none")
	settings["service"], settings["client_encoding"], settings["datestyle"] = "", "UTF8", "ISO, MDY"
	geqo, hasGeqo := settings["geqo"]
	cfg, err := pq.NewConfig(settings.String())
	if err != nil {
		return cfg, err
	}
	for _, name := range target.Dropped {
		delete(cfg.Runtime, name) // from a service file
	}
	if hasGeqo { // lib/pq knows it but doesn't send it
		cfg.Runtime["geqo"] = geqo
	}
	return cfg, nil
}

// readOnly is a value of target_session_attrs.
const readOnly = "read-only"

// connector connects with lib/pq.
type connector struct {
	target *dbtarget.Target
	rounds [][]pq.Config // the hosts, for each of the target's attempts
	dialer *open.Dialer
	limits wire.Limits
}

// Driver implements driver.Connector.
func (c *connector) Driver() driver.Driver { return &pq.Driver{} }

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := wire.FirstOf(ctx, c.rounds, c.target.Random,
		func(ctx context.Context, cfg pq.Config) (driver.Conn, error) {
			return c.connect(ctx, cfg, c.limits.Silence)
		})
	if err != nil {
		return nil, c.explain(err)
	}
	return conn, nil
}

// connect connects to one host.
func (c *connector) connect(ctx context.Context, cfg pq.Config, silence time.Duration) (driver.Conn, error) {
	if c.limits.Connect > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.limits.Connect)
		defer cancel()
	}
	inner, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return nil, err
	}
	line := &line{dialer: c.dialer, limits: c.limits, alive: c.target.KeepAlive}
	line.limits.Silence = 0
	inner.Dialer(line)
	// lib/pq honors the context only while it dials.
	stop := context.AfterFunc(ctx, line.cut)
	conn, err := inner.Connect(ctx)
	if err == nil && slices.Contains(c.target.Attempts, readOnly) {
		if err = checkReadOnly(ctx, conn); err != nil {
			err = errors.Join(err, conn.Close())
		}
	}
	stop()
	if err != nil {
		if cause := ctx.Err(); cause != nil {
			err = cause
		}
		return nil, err
	}
	main := line.connected()
	if silence > 0 {
		main.LimitSilence(silence, wire.Probe(quiet{c, cfg}, dberror.PID(conn), silence, c.limits.Connect))
	}
	return pqdeadline.Conn(conn, func() { main.CutAt(time.Now(), true) })
}

// checkReadOnly implements target_session_attrs=read-only. lib/pq checks only
// the server's setting, which is off on a standby.
func checkReadOnly(ctx context.Context, conn driver.Conn) error {
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, "SHOW transaction_read_only", nil)
	if err != nil {
		return err
	}
	values := make([]driver.Value, 1)
	if err := errors.Join(rows.Next(values), rows.Close()); err != nil {
		return err
	}
	if fmt.Sprintf("%s", values[0]) != "on" {
		return errors.New("session is not read-only")
	}
	return nil
}

// quiet makes connections for a probe.
type quiet struct {
	*connector
	cfg pq.Config
}

// Connect implements driver.Connector.
func (q quiet) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := q.connect(ctx, q.cfg, 0)
	if err != nil {
		return nil, q.explain(err)
	}
	return conn, nil
}

func (c *connector) explain(err error) error {
	return fmt.Errorf("open: %w", c.target.Explain(err, c.limits.Connect))
}

// line dials for one lib/pq connection: first the connection itself, and later,
// when a statement's context ends, connections to cancel it. lib/pq always
// waits for the statement to end, so the connection's time limit starts then.
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

// cut closes the connection that is being made.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.main != nil && !l.ready {
		l.main.CutAt(time.Now(), true)
	}
}

// connected returns the connection once it is ready for statements.
func (l *line) connected() *wire.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready = true
	return l.main
}
