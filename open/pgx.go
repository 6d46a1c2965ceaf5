package open

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"entgo.io/ent/dialect"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/credent-go/credent/internal/dburl"
	"github.com/credent-go/credent/internal/wire"
)

// pgxDriver is the default for Postgres.
type pgxDriver struct{}

// Dialect implements Driver.
func (pgxDriver) Dialect() string { return dialect.Postgres }

// Connector implements Driver.
func (pgxDriver) Connector(databaseURL string, dialer *Dialer) (driver.Connector, error) {
	settings, cause := dburl.Parse(databaseURL)
	if cause != "" {
		return nil, urlError(cause)
	}
	target, cause := settings.For(dburl.PGX)
	if cause != "" {
		return nil, urlError(cause)
	}
	cfg, err := pgx.ParseConfig(target.Settings.String())
	if err != nil {
		return nil, urlError(refusal(err))
	}
	for _, name := range target.Dropped {
		delete(cfg.RuntimeParams, name) // from a service file
	}
	limitTLS(cfg, target)
	if len(target.HostAddr) > 0 {
		cfg.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
			if address, ok := target.HostAddr[host]; ok {
				return []string{address}, nil
			}
			return net.DefaultResolver.LookupHost(ctx, host)
		}
	}
	limits := dialer.Limits(target.Connect)
	cfg.ConnectTimeout = limits.Connect
	c := &pgxConnector{cfg: cfg, dialer: dialer, limits: limits, alive: target.KeepAlive}
	c.silent = limits.Silence
	_, c.fixed = target.Settings["default_query_exec_mode"]
	return c, nil
}

// refusal says why pgx refused the settings. pgx's own error quotes them.
func refusal(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return "a file that its parameters or a variable PG… name can't be read: " + path.Err.Error()
	}
	return "pgx does not accept one of its parameters, or a variable PG…"
}

func limitTLS(cfg *pgx.ConnConfig, target *dburl.Target) {
	configs := []*pgconn.FallbackConfig{{TLSConfig: cfg.TLSConfig}}
	for _, fallback := range append(configs, cfg.Fallbacks...) {
		if fallback.TLSConfig == nil {
			continue
		}
		if target.MinTLS != "" {
			fallback.TLSConfig.MinVersion = tlsVersions[target.MinTLS]
		}
		if target.MaxTLS != "" {
			fallback.TLSConfig.MaxVersion = tlsVersions[target.MaxTLS]
		}
	}
}

// tlsVersions are keyed by libpq's names.
var tlsVersions = map[string]uint16{"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}

// pgxConnector connects with pgx.
type pgxConnector struct {
	cfg    *pgx.ConnConfig
	dialer *Dialer
	limits wire.Limits
	alive  wire.KeepAlive
	silent time.Duration
	fixed  bool // the URL sets the query execution mode
	path   atomic.Int32
}

// Values of pgxConnector.path: what is between the client and the server.
const (
	unknown int32 = iota
	direct
	pooled
)

// Driver implements driver.Connector.
func (c *pgxConnector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// Connect implements driver.Connector.
func (c *pgxConnector) Connect(ctx context.Context) (driver.Conn, error) {
	return c.connect(ctx, c.silent)
}

func (c *pgxConnector) connect(ctx context.Context, silence time.Duration) (driver.Conn, error) {
	if c.limits.Connect > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.limits.Connect*time.Duration(1+len(c.cfg.Fallbacks)))
		defer cancel()
	}
	cfg := c.cfg.Copy()
	var made *wire.Conn
	var done atomic.Bool
	limits := c.limits
	limits.Silence = 0 // the connection limit still applies
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := c.dialer.Dial(ctx, network, address, limits, c.alive)
		if err != nil {
			return nil, err
		}
		if !done.Load() { // later dials cancel a statement
			made = conn
		}
		return conn, nil
	}
	path := c.path.Load()
	if !c.fixed && path == pooled {
		cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	conn, err := stdlib.GetConnector(*cfg).Connect(ctx)
	done.Store(true)
	if err != nil {
		return nil, c.explain(err)
	}
	inner := conn.(*stdlib.Conn).Conn().PgConn()
	if !c.fixed && path == unknown {
		if path, err = behindPooler(ctx, inner); err != nil {
			return nil, errors.Join(c.explain(err), conn.Close())
		}
		if c.path.Store(path); path == pooled {
			if err := conn.Close(); err != nil {
				return nil, c.explain(err)
			}
			return c.connect(ctx, silence)
		}
	}
	if silence > 0 {
		quiet := connectFunc{func(ctx context.Context) (driver.Conn, error) { return c.connect(ctx, 0) }, c.Driver()}
		made.LimitSilence(silence, wire.Probe(quiet, int(inner.PID()), silence, c.limits.Connect))
	}
	return conn, nil
}

func (c *pgxConnector) explain(err error) error {
	values := []string{c.cfg.Host, c.cfg.User, c.cfg.Password, c.cfg.Database}
	for _, fallback := range c.cfg.Fallbacks {
		values = append(values, fallback.Host)
	}
	return fmt.Errorf("open: %w", wire.ConnectError(err, c.limits.Connect, values...))
}

// behindPooler returns pooled if the process that answers differs from the one
// that the client was told, which shows a pooler.
func behindPooler(ctx context.Context, conn *pgconn.PgConn) (int32, error) {
	results, err := conn.Exec(ctx, "SELECT pg_catalog.pg_backend_pid()").ReadAll()
	if err != nil {
		return unknown, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return pooled, nil
	}
	pid, err := strconv.ParseUint(string(results[0].Rows[0][0]), 10, 32)
	if err != nil || uint32(pid) != conn.PID() {
		return pooled, nil //nolint:nilerr // not a process ID
	}
	return direct, nil
}
