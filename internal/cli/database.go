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

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

const (
	envDatabase     = "DATABASE_URL"
	defaultDatabase = "sqlite:credent.db"

	// connectTimeout is how long to wait for the server; a firewall may not
	// answer at all.
	connectTimeout = 10 * time.Second
)

func databaseURL() string {
	if s := os.Getenv(envDatabase); s != "" {
		return s
	}
	return defaultDatabase
}

// database is a pool that has been connected.
type database struct {
	*sql.DB
	dialect string
	file    string // of SQLite
}

// open connects to a database. An SQLite file that does not exist is made only
// if create is set.
func open(ctx context.Context, databaseURL string, create bool, opts ...credent.Option) (_ *database, err error) {
	scheme, rest, _ := strings.Cut(databaseURL, ":")
	var file string
	if scheme == "sqlite" || scheme == "sqlite3" {
		if databaseURL, file, err = sqliteURL(scheme, rest, create); err != nil {
			return nil, err
		}
	}
	pool, d, err := credent.OpenDB(databaseURL, opts...)
	if err != nil {
		return nil, err
	}
	db := &database{DB: pool, dialect: d, file: file}
	if err := db.connect(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// sqliteURL looks for the file, so that a wrong name is found out and not made
// a new database of.
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
		return databaseURL, file, nil //nolint:nilerr // credent.OpenDB reports it
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
		// A ping does not read the file.
		var tables int
		return db.QueryRowContext(waiting, "SELECT count(*) FROM sqlite_master").Scan(&tables)
	}
	err := db.PingContext(waiting)
	switch {
	case err == nil:
		return nil
	case waiting.Err() != nil && ctx.Err() == nil:
		return messagef("the database did not answer within %s; correct host and port in %s", connectTimeout, envDatabase)
	}
	return &connectError{err}
}

// checkMigrations returns an error unless the database is just what this code
// needs.
func (db *database) checkMigrations(ctx context.Context) error {
	status, err := migrate.ReadStatus(ctx, db.DB, migrate.Config{})
	if err != nil {
		return err
	}
	return status.Err()
}

// withDatabase calls f with a database that is there already.
func withDatabase(ctx context.Context, f func(db *database) error, opts ...credent.Option) (err error) {
	db, err := open(ctx, databaseURL(), false, opts...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return f(db)
}

// withClient calls f with a client of a database that has the schema it needs.
// A nil keyring is for commands that neither encrypt nor decrypt.
func (a *app) withClient(ctx context.Context, ring *keyring.Keyring, f func(client *ent.Client) error) error {
	return a.withClientOf(ctx, ring, func(_ *database, client *ent.Client) error { return f(client) })
}

// withClientOf is withClient with the client's database.
func (a *app) withClientOf(ctx context.Context, ring *keyring.Keyring, f func(db *database, client *ent.Client) error) error {
	return withDatabase(ctx, func(db *database) error {
		if err := db.checkMigrations(ctx); err != nil {
			return err
		}
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
		// A list that lacks rows should not pass for the whole.
		if err := db.checkVisible(ctx, useraccount.Table); errors.Is(err, errHidden) {
			a.notef("credent: note: %v\n", err)
		}
		return nil
	})
}

// inTx calls f in a transaction, which is committed if f returns nil and else
// rolled back.
func inTx(ctx context.Context, client *ent.Client, f func(tx *ent.Tx) error) error {
	tx, err := client.Tx(ctx)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		// A rollback that fails has nothing to add: the database does it when
		// the connection ends.
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

func (db *database) isPostgres() bool { return db.dialect == dialect.Postgres }

// errHidden is for roles that a policy keeps rows from.
var errHidden = rotate.ErrHidden

// checkVisible returns errHidden if row-level security of a table applies to
// this role.
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
