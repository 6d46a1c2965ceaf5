// Package sqlite opens SQLite files with modernc.org/sqlite, which needs no
// cgo:
//
//	cfg := open.Config{Drivers: []open.Driver{sqlite.Driver()}}
//	db, dialect, err := open.DB("sqlite:FILE", cfg)
//
// That driver registers itself with database/sql as "sqlite". A program with
// another driver of this name can't import this package; it makes its pool by
// itself, with foreign keys on and transactions that begin immediate.
package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"net/url"
	"strings"

	"entgo.io/ent/dialect"
	_ "modernc.org/sqlite" // registers itself

	"github.com/credent-go/credent/open"
)

// Driver returns the driver for [open.Config].
func Driver() open.Driver { return modernc{} }

type modernc struct{}

// Dialect implements open.Driver.
func (modernc) Dialect() string { return dialect.SQLite }

// Connector implements open.Driver. The dialer has nothing to do.
func (modernc) Connector(databaseURL string, _ *open.Dialer) (driver.Connector, error) {
	_, rest, _ := strings.Cut(databaseURL, ":")
	dsn, memory, err := dsnOf(rest)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open: %w: %w", open.ErrURL, err)
	}
	return connector{dsn, memory, db.Driver()}, db.Close()
}

type connector struct {
	dsn    string
	memory bool
	driver driver.Driver
}

// Connect implements driver.Connector.
func (c connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }

// Driver implements driver.Connector.
func (c connector) Driver() driver.Driver { return c.driver }

// MaxConns is 1 in memory, where each connection would have a database of its
// own.
func (c connector) MaxConns() int {
	if c.memory {
		return 1
	}
	return 0
}

// dsnOf returns the driver's DSN for a file, with the settings that clients
// rely on. It passes on parameters of SQLite itself, such as mode=ro.
func dsnOf(rest string) (dsn string, memory bool, err error) {
	file, query, _ := strings.Cut(rest, "?")
	file = strings.TrimPrefix(file, "//")
	if file == "" {
		return "", false, fmt.Errorf("open: %w: it has no file: write sqlite:FILE", open.ErrURL)
	}
	params, err := url.ParseQuery(query)
	if err != nil {
		const cause = "its parameters don't parse: percent-encode special characters"
		return "", false, fmt.Errorf("open: %w: %s", open.ErrURL, cause)
	}
	params.Add("_pragma", "foreign_keys(1)") // for cascades; off by default
	if !params.Has("_busy_timeout") && !params.Has("_timeout") {
		params.Set("_busy_timeout", "5000") // milliseconds; a _pragma replaces it
	}
	params.Set("_txlock", "immediate")   // otherwise a transaction that reads first can't write later
	params.Set("_time_format", "sqlite") // other programs can't parse the driver's own format
	escaped := strings.NewReplacer("%", "%25", "#", "%23").Replace(file)
	return "file:" + escaped + "?" + params.Encode(), file == ":memory:", nil
}
