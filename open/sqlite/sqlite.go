// Package sqlite opens SQLite files with modernc.org/sqlite, which needs no
// cgo:
//
//	cfg := open.Config{Drivers: []open.Driver{sqlite.Driver()}}
//	db, dialect, err := open.DB("sqlite:FILE", cfg)
//
// FILE is a path as it is: nothing in it is percent-encoded, and it ends at a
// question mark. Parameters are SQLite's and the driver's, such as mode=ro. No
// parameter turns off foreign keys, checks, or transactions that begin
// immediate.
//
// That driver registers itself with database/sql as "sqlite". A program with
// another driver of this name can't import this package; it makes its pool by
// itself, with foreign keys on and transactions that begin immediate.
package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"entgo.io/ent/dialect"
	_ "modernc.org/sqlite" // registers itself

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/wire"
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
	f, cause := parse(rest)
	if cause != "" {
		return nil, fmt.Errorf("open: %w: %s", open.ErrURL, cause)
	}
	db, err := sql.Open("sqlite", f.dsn)
	if err != nil {
		return nil, fmt.Errorf("open: %w: SQLite does not accept one of its parameters", open.ErrURL)
	}
	return connector{f, db.Driver()}, db.Close()
}

type connector struct {
	file
	driver driver.Driver
}

// Connect implements driver.Connector.
func (c connector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, fmt.Errorf("open: %w", wire.Because(c.reason(err), err))
	}
	return conn, nil
}

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

// file is a database's file.
type file struct {
	dsn, path string
	memory    bool
}

// parse returns a file with the settings that clients rely on, or what is wrong
// with it. Parameters that SQLite itself knows, such as mode=ro, are passed on.
func parse(rest string) (file, string) {
	path, query, _ := strings.Cut(rest, "?")
	f := file{path: strings.TrimPrefix(path, "//")}
	params, err := url.ParseQuery(query)
	if err != nil {
		return f, "its parameters don't parse: percent-encode special characters"
	}
	if cause := check(params); cause != "" {
		return f, cause
	}
	f.memory = f.path == ":memory:" || params.Get("mode") == "memory"
	params.Add("_pragma", "foreign_keys(1)") // cascades, off by default
	if !params.Has("_busy_timeout") && !params.Has("_timeout") {
		params.Set("_busy_timeout", "5000") // milliseconds; a _pragma replaces it
	}
	params.Set("_txlock", "immediate")   // a transaction that reads first could not write later
	params.Set("_time_format", "sqlite") // the driver's own format is not readable by others
	escaped := strings.NewReplacer("%", "%25", "#", "%23").Replace(f.path)
	f.dsn = "file:" + escaped + "?" + params.Encode()
	return f, ""
}

// fixed are parameters that clients rely on, with what they must be.
var fixed = map[string][]string{
	"_txlock":       {"immediate"},
	"_time_format":  {"sqlite"},
	"_foreign_keys": {"on", "1", "true", "yes"},
	"_fk":           {"on", "1", "true", "yes"},
	"mode":          {"ro", "rw", "rwc", "memory"},
}

var (
	// weakening are pragmas that turn off what protects the rows.
	weakening   = regexp.MustCompile(`(?i)\b(?:foreign_keys|ignore_check_constraints)\b`)
	foreignKeys = regexp.MustCompile(`(?i)^\s*foreign_keys\s*(?:=\s*(?:1|on|true|yes)|\(\s*(?:1|on|true|yes)\s*\))\s*$`)
)

// check finds parameters that can't be.
func check(params url.Values) string {
	for _, name := range slices.Sorted(maps.Keys(params)) {
		for _, value := range params[name] {
			switch allowed := fixed[name]; {
			case allowed != nil && !slices.Contains(allowed, strings.ToLower(value)):
				return "its " + name + " must be " + strings.Join(allowed, " or ")
			case name == "_pragma" && weakening.MatchString(value) && !foreignKeys.MatchString(value):
				return "its _pragma turns off foreign keys or checks, which protect the rows: remove it"
			case name == "_busy_timeout" || name == "_timeout":
				if _, err := strconv.ParseUint(value, 10, 31); err != nil {
					return "its " + name + " must be a whole number of milliseconds, without a unit"
				}
			}
		}
	}
	return ""
}

// reason says why a file can't be opened. The driver quotes parameters.
func (f file) reason(err error) string {
	switch dberror.SQLite(err) {
	case dberror.SQLiteCantOpen:
		info, err := os.Stat(f.path)
		if err == nil && info.IsDir() {
			return "it is a folder"
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "the file can't be opened"
		}
		if _, err := os.Stat(filepath.Dir(f.path)); errors.Is(err, fs.ErrNotExist) {
			return "the file's folder doesn't exist"
		}
		return "there is no such file, and it can't be made"
	case dberror.SQLiteNotADB:
		return "the file is not an SQLite database"
	case dberror.SQLiteBusy, dberror.SQLiteLocked:
		return "another process keeps the database locked"
	case dberror.SQLiteReadOnly:
		return "the file is read-only"
	}
	return "SQLite does not accept one of its parameters"
}
