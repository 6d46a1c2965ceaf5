package credent

import (
	"database/sql"
	"fmt"
	"net/url"
	"strings"

	"entgo.io/ent/dialect"
	"github.com/jackc/pgx/v5"
	"github.com/lib/pq"

	"github.com/credent-go/credent/internal/dburl"
	"github.com/credent-go/credent/internal/pqdeadline"
)

// OpenDB returns the connection pool of a URL as for [Open], and its ent
// dialect, for [migrate.Apply], [NewClient] and SQL of one's own. It does not
// connect yet. With lib/pq it sets binary_parameters=yes, unless the URL has
// the parameter.
func OpenDB(databaseURL string, opts ...Option) (db *sql.DB, entDialect string, err error) {
	if cause := dburl.Cause(databaseURL); cause != "" {
		return nil, "", fmt.Errorf("credent: %w: %s", ErrURL, cause)
	}
	scheme, rest, _ := strings.Cut(databaseURL, ":")
	switch scheme {
	case "postgres", "postgresql":
		db, err := openPostgres(databaseURL, optionsOf(opts).pgx)
		return db, dialect.Postgres, err
	case "sqlite", "sqlite3":
		dsn, memory, err := sqliteDSN(rest)
		if err != nil {
			return nil, "", err
		}
		db, err := sql.Open("sqlite", dsn)
		if err != nil {
			return nil, "", fmt.Errorf("credent: %w: %w", ErrURL, err)
		}
		if memory {
			db.SetMaxOpenConns(1) // each connection would have a database of its own
		}
		return db, dialect.SQLite, nil
	}
	return nil, "", fmt.Errorf("credent: %w: unknown scheme", ErrURL)
}

// openPostgres returns the pool of a URL that package dburl finds no fault
// with. The drivers' own errors quote the URL.
func openPostgres(databaseURL string, viaPGX bool) (*sql.DB, error) {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("credent: %w: it does not parse; percent-encode special characters", ErrURL)
	}
	name := "lib/pq"
	if viaPGX {
		name = "pgx"
	}
	if cause := dburl.Unsupported(u.Query(), name); cause != "" {
		return nil, fmt.Errorf("credent: %w: %s", ErrURL, cause)
	}
	if viaPGX {
		if _, err := pgx.ParseConfig(databaseURL); err != nil {
			return nil, fmt.Errorf("credent: %w: pgx does not accept one of its parameters, or a variable PG…", ErrURL)
		}
		db, err := sql.Open("pgx", databaseURL)
		if err != nil {
			return nil, fmt.Errorf("credent: %w: pgx does not accept it", ErrURL)
		}
		return db, nil
	}
	if !u.Query().Has(binaryParameters) {
		// Not by u.String, which drops the slashes of a bare postgres://.
		separator := "?"
		if strings.Contains(databaseURL, "?") {
			separator = "&"
		}
		databaseURL += separator + binaryParameters + "=yes"
	}
	connector, err := pq.NewConnector(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("credent: %w: lib/pq does not accept one of its parameters, or a variable PG…", ErrURL)
	}
	return sql.OpenDB(pqdeadline.Connector(connector)), nil
}

// binaryParameters makes lib/pq send a statement and its parameters in one
// round trip, in place of two. That is faster; and behind PgBouncer in
// transaction mode, where two trips may reach two servers, another client's
// statement would be run.
const binaryParameters = "binary_parameters"

// sqliteDSN returns the driver's name of a file, with the settings that the
// client relies on. Parameters that SQLite itself knows, such as mode=ro, are
// passed on.
func sqliteDSN(rest string) (dsn string, memory bool, err error) {
	file, query, _ := strings.Cut(rest, "?")
	file = strings.TrimPrefix(file, "//")
	if file == "" {
		return "", false, fmt.Errorf("credent: %w: it has no file: write sqlite:FILE", ErrURL)
	}
	params, err := url.ParseQuery(query)
	if err != nil {
		return "", false, fmt.Errorf("credent: %w: its parameters don't parse: percent-encode special characters", ErrURL)
	}
	params.Add("_pragma", "foreign_keys(1)") // cascades, off by default
	if !params.Has("_busy_timeout") && !params.Has("_timeout") {
		params.Set("_busy_timeout", "5000") // milliseconds; a _pragma replaces it
	}
	params.Set("_txlock", "immediate")   // a transaction that reads first could not write later
	params.Set("_time_format", "sqlite") // the driver's own format is not readable by others
	escaped := strings.NewReplacer("%", "%25", "#", "%23").Replace(file)
	return "file:" + escaped + "?" + params.Encode(), file == ":memory:", nil
}
