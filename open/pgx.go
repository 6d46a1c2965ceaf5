package open

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"entgo.io/ent/dialect"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/credent-go/credent/internal/dbtarget"
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
	target, cause := dbtarget.New(settings, dbtarget.PGX)
	if cause != "" {
		return nil, urlError(cause)
	}
	c := &pgxConnector{target: target, dialer: dialer, limits: dialer.Limits(target.Connect)}
	_, c.fixed = target.Settings["default_query_exec_mode"]
	var err error
	c.rounds, err = dbtarget.Rounds(target, func(host dbtarget.Host, attempt string) (*pgx.ConnConfig, error) {
		cfg, err := pgxConfig(target, host, attempt)
		if err == nil {
			cfg.ConnectTimeout = c.limits.Connect
		}
		return cfg, err
	})
	if err != nil {
		return nil, urlError(refusal(err))
	}
	return c, nil
}

// pgxConfig returns pgx's configuration of the settings for one host. It sets
// everything that this package determines itself, so that pgx doesn't look it
// up.
func pgxConfig(target *dbtarget.Target, host dbtarget.Host, attempt string) (*pgx.ConnConfig, error) {
	settings := target.For(host, attempt)
	settings["connect_timeout"], settings["passfile"] = "0", ""
	if strings.HasPrefix(host.Name, "@") {
		settings["host"] = abstract + host.Name
	}
	cfg, err := pgx.ParseConfig(settings.String())
	if err != nil {
		return nil, err
	}
	for _, name := range target.Dropped {
		delete(cfg.RuntimeParams, name) // from a service file
	}
	limitTLS(cfg, target)
	if host.Address != "" {
		cfg.LookupFunc = func(context.Context, string) ([]string, error) { return []string{host.Address}, nil }
	}
	return cfg, nil
}

// abstract is the directory given to pgx for abstract sockets, which pgx
// doesn't support. No directory has such a name.
const abstract = "/\x01"

// refusal says why pgx refused the settings. pgx's own error quotes them.
func refusal(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return "a file that its parameters or a variable PG… name can't be read: " + path.Err.Error()
	}
	for _, known := range []struct{ text, cause string }{
		{`both "sslcert" and "sslkey" are required`, "sslcert and sslkey go together: give both"},
		{"unable to find sslpassword", "its sslkey is encrypted: give sslpassword"},
		{"unable to decrypt key", "its sslpassword doesn't open its sslkey"},
		{"failed to decode sslkey", "its sslkey isn't a key in the form PEM"},
		{"unable to load cert", "its sslcert and sslkey aren't a certificate and its key"},
		{"unable to add CA", "its sslrootcert has no certificate in the form PEM"},
		{"require_auth", "its require_auth isn't a list of methods that pgx knows"},
		{"failed to read service", "the file of the service that PGSERVICE names has a line that pgx can't read"},
	} {
		if strings.Contains(err.Error(), known.text) {
			return known.cause
		}
	}
	return "pgx does not accept one of its parameters, or a variable PG…"
}

func limitTLS(cfg *pgx.ConnConfig, target *dbtarget.Target) {
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
	target *dbtarget.Target
	rounds [][]*pgx.ConnConfig // the hosts, for each of the target's attempts
	dialer *Dialer
	limits wire.Limits
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
	conn, err := wire.FirstOf(ctx, c.rounds, c.target.Random,
		func(ctx context.Context, cfg *pgx.ConnConfig) (driver.Conn, error) {
			return c.connect(ctx, cfg, c.limits.Silence)
		})
	if err != nil {
		return nil, c.explain(err)
	}
	return conn, nil
}

// connect connects to one host.
func (c *pgxConnector) connect(
	ctx context.Context, cfg *pgx.ConnConfig, silence time.Duration,
) (driver.Conn, error) {
	if c.limits.Connect > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.limits.Connect*time.Duration(1+len(cfg.Fallbacks)))
		defer cancel()
	}
	host, cfg := cfg, cfg.Copy()
	var made *wire.Conn
	var done atomic.Bool
	limits := c.limits
	limits.Silence = 0 // the connection limit still applies
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := c.dialer.Dial(ctx, network, strings.TrimPrefix(address, abstract), limits, c.target.KeepAlive)
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
		return nil, err
	}
	inner := conn.(*stdlib.Conn).Conn().PgConn()
	if !c.fixed && path == unknown {
		if path, err = behindPooler(ctx, inner); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		if c.path.Store(path); path == pooled {
			if err := conn.Close(); err != nil {
				return nil, err
			}
			return c.connect(ctx, host, silence)
		}
	}
	if silence > 0 {
		quiet := connectFunc{func(ctx context.Context) (driver.Conn, error) {
			conn, err := c.connect(ctx, host, 0)
			if err != nil {
				return nil, c.explain(err)
			}
			return conn, nil
		}, c.Driver()}
		made.LimitSilence(silence, wire.Probe(quiet, int(inner.PID()), silence, c.limits.Connect))
	}
	return conn, nil
}

func (c *pgxConnector) explain(err error) error {
	return fmt.Errorf("open: %w", c.target.Explain(err, c.limits.Connect))
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
