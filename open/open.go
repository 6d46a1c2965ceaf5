// Package open makes a connection pool of a database URL, as psql takes it.
//
// Postgres is reached over pgx, which this package links. Other drivers are
// packages of their own, with a Driver for [Config.Drivers]: open/libpq
// (lib/pq, in place of pgx) and open/sqlite. No driver is linked, or registered
// with database/sql, that isn't imported by name.
//
// The pools keep their limits on the wire: a server that doesn't let a client
// in, a peer that is gone, and a network that has gone silent end with an
// error, and a context's deadline holds whatever the driver waits for. See
// [Dialer].
package open

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/dburl"
	"github.com/credent-go/credent/internal/nilarg"
	"github.com/credent-go/credent/internal/wire"
)

// Errors to be tested with errors.Is. No error of this package quotes a URL or
// a part of it, except for what a server itself answers.
var (
	// ErrURL means that a database URL can't be used.
	ErrURL = errors.New("bad database URL")
	// ErrNoDriver means that the URL needs a driver that [Config.Drivers]
	// lacks. It is an [ErrURL] as well.
	ErrNoDriver = fmt.Errorf("%w: no driver for it", ErrURL)
	// ErrConnect means that no connection could be made. A server's answer is
	// in the error too, as the driver's error.
	ErrConnect = wire.ErrConnect
)

// Config says how pools are made. The zero value reaches Postgres over pgx,
// with the defaults of [Dialer].
type Config struct {
	// Drivers are used in place of pgx, or for another dialect. Of two for one
	// dialect the last counts. Nil means pgx alone. A nil driver among them is
	// an [ErrNoDriver].
	Drivers []Driver
	// Dialer makes the connections to Postgres; nil means a new one.
	Dialer *Dialer
}

// Driver makes connectors. Packages open/libpq and open/sqlite have one each.
type Driver interface {
	// Dialect returns ent's name for the driver's database: "postgres" or
	// "sqlite3".
	Dialect() string
	// Connector returns a connector for a URL that [DB] finds no fault with.
	// Its errors have no part of the URL in them.
	Connector(databaseURL string, dialer *Dialer) (driver.Connector, error)
}

// DB returns the pool of a URL, and its ent dialect. It doesn't connect yet.
// The URL is one of
//
//	postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…   (or postgresql://)
//	host=HOST port=PORT dbname=DATABASE user=USER …         (psql's keywords)
//	sqlite:FILE                                             (with open/sqlite)
//
// What psql takes is taken over both drivers of Postgres: several hosts with
// ports, target_session_attrs and load_balance_hosts, a socket's folder as the
// host, also percent-encoded, sockets without a file (@NAME), the variables PG…
// and services in a service file, passwords by host in a password file, sslmode
// with its certificates, keepalives… and tcp_user_timeout. A setting that a
// driver can't hold to is refused by its name, or by the variable's.
// channel_binding holds in all values over pgx. lib/pq has no channel binding:
// disable and prefer hold, and require is refused.
//
// As with psql, the URL comes before the service file, which comes before the
// variables. Unlike psql, it takes the server's settings as parameters, such as
// statement_timeout, and ignores PGCLIENTENCODING: a pool has UTF8. A
// connect_timeout of 0 or less means the dialer's limit.
//
// Behind PgBouncer in transaction mode pgx must not prepare statements under
// names. Unless the URL has default_query_exec_mode, the first connection looks
// whether something is between, and the pool then uses the mode exec.
//
// Errors: [ErrURL], [ErrNoDriver].
func DB(databaseURL string, cfg Config) (db *sql.DB, entDialect string, err error) {
	if cause := dburl.Cause(databaseURL); cause != "" {
		return nil, "", urlError(cause)
	}
	entDialect = dialect.Postgres
	if strings.HasPrefix(databaseURL, "sqlite") && !dburl.IsKeywords(databaseURL) {
		entDialect = dialect.SQLite
	}
	var by Driver
	if entDialect == dialect.Postgres {
		by = pgxDriver{}
	}
	for i, d := range cfg.Drivers {
		if err := nilarg.Check(fmt.Sprintf("Drivers[%d]", i), d); err != nil {
			return nil, "", fmt.Errorf("open: %w: %w", ErrNoDriver, err)
		}
		if d.Dialect() == entDialect {
			by = d
		}
	}
	if by == nil {
		const add = "import github.com/credent-go/credent/open/sqlite, and add sqlite.Driver() to the drivers"
		return nil, "", fmt.Errorf("open: %w: %s", ErrNoDriver, add)
	}
	dialer := cfg.Dialer
	if dialer == nil {
		dialer = new(Dialer)
	}
	connector, err := by.Connector(databaseURL, dialer)
	if err != nil {
		return nil, "", err
	}
	db = sql.OpenDB(connector)
	if limited, ok := connector.(interface{ MaxConns() int }); ok && limited.MaxConns() > 0 {
		db.SetMaxOpenConns(limited.MaxConns())
	}
	return db, entDialect, nil
}

func urlError(cause string) error { return fmt.Errorf("open: %w: %s", ErrURL, cause) }

// connectFunc is a connector.
type connectFunc struct {
	connect func(ctx context.Context) (driver.Conn, error)
	driver  driver.Driver
}

// Connect implements driver.Connector.
func (c connectFunc) Connect(ctx context.Context) (driver.Conn, error) { return c.connect(ctx) }

// Driver implements driver.Connector.
func (c connectFunc) Driver() driver.Driver { return c.driver }
