// Package migrate brings a database to the schema that package ent needs. It
// carries the migration files of the directories postgres and sqlite and runs
// them with Atlas's library, keeping the same history table and taking the same
// lock as the stock command: what one begins, the other continues. A service
// calls [Apply] when it starts, however many instances start at once; an
// operator may run "atlas migrate apply --dir file://migrate/postgres" instead.
package migrate

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"ariga.io/atlas/sql/migrate"
	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/nilarg"
	"github.com/credent-go/credent/internal/sqldialect"
)

// Errors to be tested with errors.Is.
var (
	// ErrPending means that the database lacks migrations that this version of
	// the code needs.
	ErrPending = errors.New("the database is behind the code")

	// ErrNewer means that the database has migrations that this version of the
	// code does not know.
	ErrNewer = errors.New("the database is newer than the code")

	// ErrNotClean means that a database without migration history already has
	// tables. [Config.Baseline] takes over one whose schema is known,
	// [Config.AllowDirty] accepts one with tables of others.
	ErrNotClean = errors.New("the database has tables but no migration history")

	// ErrPartial means that a migration stopped between two statements, which
	// can happen only where a file asks to be run without a transaction.
	ErrPartial = errors.New("a migration was applied in part")

	// ErrLocked means that another process was migrating for longer than
	// [Config.MigratorTimeout] allows. On SQLite, which does not tell a
	// migrator from another writer, it is an [ErrLockTimeout] too.
	ErrLocked = errors.New("another process is migrating the database")

	// ErrChanged means that the migration files do not match their atlas.sum.
	ErrChanged = errors.New("the migration files do not match atlas.sum")

	// ErrHistoryChanged means that a file which was applied in part has other
	// statements now where it was applied.
	ErrHistoryChanged = errors.New("the file was changed where it is applied")

	// ErrOutOfOrder means that files are older than the newest applied one, and
	// were never applied.
	ErrOutOfOrder = errors.New("older migrations than the newest applied one were never applied")

	// ErrUnknownVersion means that no migration file has the version that an
	// option names.
	ErrUnknownVersion = errors.New("there is no migration of this version")

	// ErrPooled means that a file asks to be run without a transaction, and the
	// connection goes through a pooler in transaction mode.
	ErrPooled = errors.New("a file with atlas:txmode none needs a direct connection: behind a pooler in transaction " +
		"mode each statement may run in another session, which does not hold the lock that keeps other processes out")
)

//go:embed postgres/*.sql postgres/atlas.sum sqlite/*.sql sqlite/atlas.sum layouts
var files embed.FS

// Files returns the migration directory of a dialect, "postgres" or "sqlite3",
// as stock Atlas reads it.
func Files(d string) (fs.FS, error) {
	name, ok := map[string]string{dialect.Postgres: "postgres", dialect.SQLite: "sqlite"}[d]
	if !ok {
		return nil, fmt.Errorf("migrate: no migrations for dialect %q", d)
	}
	return fs.Sub(files, name)
}

// directory is the migration directory of a dialect, verified against its
// atlas.sum.
var directory = struct {
	postgres, sqlite func() (migrate.Dir, error)
}{
	postgres: sync.OnceValues(func() (migrate.Dir, error) { return load(dialect.Postgres) }),
	sqlite:   sync.OnceValues(func() (migrate.Dir, error) { return load(dialect.SQLite) }),
}

func directoryOf(d string) (migrate.Dir, error) {
	if d == dialect.SQLite {
		return directory.sqlite()
	}
	return directory.postgres()
}

func load(d string) (migrate.Dir, error) {
	fsys, err := Files(d)
	if err != nil {
		return nil, err
	}
	return loadDir(fsys)
}

// connOf takes a connection of a pool.
func connOf(ctx context.Context, db *sql.DB) (*sql.Conn, error) {
	if err := nilarg.Check("the pool", db); err != nil {
		return nil, err
	}
	return db.Conn(ctx)
}

// dialectOf asks a database what it is: dialect.Postgres or dialect.SQLite.
func dialectOf(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
},
) (string, error) {
	d, err := sqldialect.Of(ctx, db)
	if err != nil {
		return "", fmt.Errorf("migrate: %w", err)
	}
	return d, nil
}
