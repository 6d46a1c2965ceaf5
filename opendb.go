package credent

import (
	"database/sql"

	"github.com/credent-go/credent/internal/pgxcopy"
	"github.com/credent-go/credent/open"
)

// WithOpen says how [Open] and [OpenDB] make their pool: over which drivers,
// and with which limits on the wire. Without it they reach Postgres over pgx.
// SQLite needs the driver of package open/sqlite.
func WithOpen(cfg open.Config) Option { return func(o *options) { o.open = cfg } }

// WithDriver adds drivers to the ones of [WithOpen]: libpq.Driver() of package
// open/libpq in place of pgx, sqlite.Driver() of package open/sqlite.
func WithDriver(drivers ...open.Driver) Option {
	return func(o *options) {
		o.open.Drivers = append(o.open.Drivers[:len(o.open.Drivers):len(o.open.Drivers)], drivers...)
	}
}

// OpenDB returns the connection pool of a URL as for [Open], and its ent
// dialect, for [migrate.Apply], [NewClient] and raw SQL. It does not connect
// yet. It is [open.DB] with the configuration of [WithOpen] and [WithDriver].
func OpenDB(databaseURL string, opts ...Option) (db *sql.DB, entDialect string, err error) {
	return open.DB(databaseURL, optionsOf(opts).open)
}

// copier sends the rows of [Copy] over pgx.
var copier = pgxcopy.Copier{}
