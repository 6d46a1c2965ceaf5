package credent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/internal/pgxcopy"
	"github.com/credent-go/credent/open"
)

// WithOpen says how [Open] and [OpenDB] make their pool: over which drivers,
// and with which limits on the wire. Without it they reach Postgres over pgx.
// SQLite needs the driver of package open/sqlite.
func WithOpen(cfg open.Config) Option { return func(o *options) { o.open = cfg } }

// WithDriver adds drivers to the ones of [WithOpen]: libpq.Driver() from
// package open/libpq instead of pgx, sqlite.Driver() from package open/sqlite.
func WithDriver(drivers ...open.Driver) Option {
	return func(o *options) {
		o.open.Drivers = append(o.open.Drivers[:len(o.open.Drivers):len(o.open.Drivers)], drivers...)
	}
}

// WithReader gives [Open] the URL of a standby, for reads that may be older
// than the primary's: Config.Reader with a pool like the primary's. Several
// hosts with target_session_attrs=prefer-standby fall back to the primary if
// there is no standby. Open refuses it together with a Config.Reader, with
// [ErrConfig], and [OpenDB] always does, since its pool has one URL.
func WithReader(databaseURL string) Option { return func(o *options) { o.reader = &databaseURL } }

// openReader opens the pool for [WithReader], or returns nil.
func (o options) openReader(cfg *Config) (*sql.DB, error) {
	if o.reader == nil {
		return nil, nil
	}
	if cfg.Reader != nil {
		return nil, fmt.Errorf("credent: %w: WithReader is given, and Config.Reader is set", ErrConfig)
	}
	db, d, err := open.DB(*o.reader, o.open)
	if err != nil {
		return nil, fmt.Errorf("credent: the URL of WithReader: %w", err)
	}
	cfg.Reader = entsql.OpenDB(d, db)
	return db, nil
}

func closeReader(db *sql.DB) error {
	if db == nil {
		return nil
	}
	return db.Close()
}

// checkReader checks the standby as Open checks the primary.
func checkReader(ctx context.Context, db *sql.DB, entDialect string, cfg Config) error {
	if db == nil {
		return nil
	}
	err := db.PingContext(ctx)
	if err == nil {
		if err = client.CheckRowSecurity(ctx, db, entDialect, cfg); err == nil || errors.Is(err, ErrRowSecurity) {
			return err
		}
	}
	if err = fmt.Errorf("credent: %w: %w", ErrReader, err); cfg.OnReaderError == nil || ctx.Err() != nil {
		return err
	}
	cfg.OnReaderError(ctx, err)
	return nil
}

// OpenDB returns the connection pool of a URL as for [Open], and its ent
// dialect, for [migrate.Apply], [NewClient] and raw SQL. It doesn't connect
// yet. It is [open.DB] with the configuration of [WithOpen] and [WithDriver].
func OpenDB(databaseURL string, opts ...Option) (db *sql.DB, entDialect string, err error) {
	o := optionsOf(opts)
	if o.reader != nil {
		return nil, "", fmt.Errorf("credent: %w: OpenDB makes one pool: make another of the URL of WithReader",
			ErrConfig)
	}
	return open.DB(databaseURL, o.open)
}

// copier sends [Copy]'s rows with pgx.
var copier = pgxcopy.Copier{}
