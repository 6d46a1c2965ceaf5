package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/internal/dburl"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	dbopen "github.com/credent-go/credent/open"
	"github.com/credent-go/credent/open/libpq"
	"github.com/credent-go/credent/open/sqlite"
	"github.com/credent-go/credent/rotate"
)

const (
	envDatabase     = "DATABASE_URL"
	envDriver       = "CREDENT_DRIVER"
	defaultDatabase = "sqlite:credent.db"

	// maxIdle is the number of idle connections to keep: two per worker, and a
	// few more.
	maxIdle = 40
	// connectTimeout limits connecting to the server, because a firewall may
	// not answer at all.
	connectTimeout = 10 * time.Second
	// silenceTimeout is how long a server may be silent before the command
	// checks whether it is still working.
	silenceTimeout = 30 * time.Second
	// stopTime is how long an interrupted command may take to end its work on
	// the server. After that, its connections are cut.
	stopTime = 3 * time.Second
)

// pool returns the command's connection settings. Some time after the context
// ends, connections are cut, whatever they wait for: the server rolls back
// uncommitted work, and the next run continues.
func pool(ctx context.Context) (dbopen.Config, error) {
	cfg := dbopen.Config{
		Drivers: []dbopen.Driver{sqlite.Driver()},
		Dialer:  &dbopen.Dialer{ConnectTimeout: connectTimeout, SilenceTimeout: silenceTimeout},
	}
	switch os.Getenv(envDriver) {
	case "", "pgx":
	case "libpq":
		cfg.Drivers = append(cfg.Drivers, libpq.Driver())
	default:
		return cfg, messagef("%s must be pgx or libpq", envDriver)
	}
	context.AfterFunc(ctx, func() { time.AfterFunc(stopTime, cfg.Dialer.Close) })
	return cfg, nil
}

func databaseURL() string {
	if s := os.Getenv(envDatabase); s != "" {
		return s
	}
	return defaultDatabase
}

// database is a connected pool.
type database struct {
	*sql.DB
	dialect string
	file    string       // SQLite's file
	standby *standby     // nil for a primary
	opened  *audit.Trail // opened on first use
}

// open connects to a database. It creates a missing SQLite file only if create
// is set.
func open(ctx context.Context, databaseURL string, create bool) (_ *database, err error) {
	cfg, err := pool(ctx)
	if err != nil {
		return nil, err
	}
	scheme, rest, _ := strings.Cut(databaseURL, ":")
	var file string
	isSQLite := scheme == "sqlite" || scheme == "sqlite3"
	if isSQLite && dburl.Cause(databaseURL) == "" { // else open.DB says what is wrong
		if databaseURL, file, err = sqliteURL(scheme, rest, create); err != nil {
			return nil, err
		}
	}
	pool, d, err := dbopen.DB(databaseURL, cfg)
	if err != nil {
		return nil, err
	}
	// Workers take turns with connections, and each new connection costs a
	// password exchange.
	pool.SetMaxIdleConns(maxIdle)
	db := &database{DB: pool, dialect: d, file: file}
	err = db.connect(ctx)
	if err == nil {
		err = db.try(ctx, db.meetStandby)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// sqliteURL checks that the file exists, so that a wrong name is reported and
// doesn't create a new database.
func sqliteURL(scheme, rest string, create bool) (databaseURL, file string, err error) {
	file, query, _ := strings.Cut(rest, "?")
	file = strings.TrimPrefix(file, "//")
	databaseURL = scheme + ":" + rest
	if file == "" || file == ":memory:" {
		return databaseURL, file, nil
	}
	info, err := os.Stat(file)
	switch {
	case err == nil && info.IsDir():
		return "", "", messagef("%s is a folder; name a file in %s", file, envDatabase)
	case create:
		return databaseURL, file, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", "", messagef("there is no database file %s; make it with `credent migrate apply`, or correct %s",
			file, envDatabase)
	case err != nil:
		return "", "", err
	}
	params, err := url.ParseQuery(query)
	if err != nil {
		return databaseURL, file, nil //nolint:nilerr // open.DB reports it
	}
	if mode := params.Get("mode"); mode == "" || mode == "rwc" {
		params.Set("mode", "rw")
	}
	return scheme + ":" + file + "?" + params.Encode(), file, nil
}

func (db *database) connect(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if db.dialect == dialect.SQLite {
		// Ping alone doesn't read the file.
		var tables int
		return db.QueryRowContext(waiting, "SELECT count(*) FROM sqlite_master").Scan(&tables)
	}
	err := db.PingContext(waiting)
	switch {
	case err == nil:
		return nil
	case waiting.Err() != nil && ctx.Err() == nil:
		return messagef("the database did not answer within %s; correct host and port in %s",
			connectTimeout, envDatabase)
	case errors.Is(err, dbopen.ErrConnect) && errors.Is(err, context.DeadlineExceeded):
		return messagef("the database did not answer in time; correct host and port in %s", envDatabase)
	}
	return &connectError{err}
}

// checkMigrations returns an error unless the database has exactly the schema
// that this code needs.
func (db *database) checkMigrations(ctx context.Context) error {
	return db.try(ctx, func(ctx context.Context) error {
		status, err := migrate.ReadStatus(ctx, db.DB, migrate.Config{})
		if err != nil {
			return err
		}
		return status.Err()
	})
}

// withDatabase calls f with an existing database.
func withDatabase(ctx context.Context, f func(db *database) error) (err error) {
	db, err := open(ctx, databaseURL(), false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return f(db)
}

// withClient calls f with a client on a database with the required schema.
// keyring is nil for commands that neither encrypt nor decrypt.
func (a *app) withClient(ctx context.Context, ring *keyring.Keyring, f func(client *ent.Client) error) error {
	return a.withClientOf(ctx, ring, func(_ *database, client *ent.Client) error { return f(client) })
}

// withClientOf is withClient that also passes the client's database.
func (a *app) withClientOf(
	ctx context.Context, ring *keyring.Keyring, f func(db *database, client *ent.Client) error,
) error {
	return withDatabase(ctx, func(db *database) error {
		if err := db.checkMigrations(ctx); err != nil {
			return err
		}
		if ring != nil {
			if _, err := db.trail(ctx); err != nil {
				return err
			}
		}
		return a.withClientOn(ctx, db, ring, f)
	})
}

// withClientOn calls f with a client, with the audit trail if it was opened.
func (a *app) withClientOn(
	ctx context.Context, db *database, ring *keyring.Keyring, f func(db *database, client *ent.Client) error,
) error {
	cfg, err := db.clientConfig(ctx, ring)
	if err != nil {
		return err
	}
	client, err := client.New(db.DB, db.dialect, cfg)
	if err != nil {
		return err
	}
	if err := f(db, client); err != nil {
		return err
	}
	// Say so if the list lacks rows.
	if err := db.checkVisible(ctx, useraccount.Table); errors.Is(err, errHidden) {
		a.notef("credent: note: %v\n", err)
	}
	return nil
}

// inTx calls f in a transaction. It commits if f returns nil, and otherwise
// rolls back.
func inTx(ctx context.Context, client *ent.Client, f func(tx *ent.Tx) error) error {
	tx, err := client.Tx(ctx)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		// Ignore a failed rollback: the database rolls back when the connection
		// ends.
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

func (db *database) isPostgres() bool { return db.dialect == dialect.Postgres }

// errHidden means that row-level security hides rows from the role.
var errHidden = rotate.ErrHidden

// checkVisible returns errHidden if a table's row-level security applies to the
// role.
func (db *database) checkVisible(ctx context.Context, table string) error {
	if !db.isPostgres() {
		return nil
	}
	var active bool
	if err := db.QueryRowContext(ctx, "SELECT row_security_active($1::text)", table).Scan(&active); err != nil {
		return fmt.Errorf("row-level security: %w", err)
	}
	if active {
		return errHidden
	}
	return nil
}
