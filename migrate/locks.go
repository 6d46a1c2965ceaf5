package migrate

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"ariga.io/atlas/sql/migrate"

	"github.com/credent-go/credent/internal/lockwait"
)

// ErrLockTimeout means that other transactions held a lock that a migration
// needs for longer than [Config.LockTimeout] and [Config.LockRetry] allow.
var ErrLockTimeout = lockwait.ErrTimeout

// LockError is an [ErrLockTimeout]: it says which statement waited, for which
// table and how long, and which sessions held the lock. The file is rolled
// back. A file without a transaction keeps the earlier statements, and the
// error is then also an [ErrPartial].
//
// It unwraps to the [*StatementError], and to the driver's error.
//
//   - Package string: "migrate"
//   - File string, Line int: of the statement
//   - Table string: that it waited for
//   - Waited time.Duration, Tries int: in all
//   - Holders []LockHolder: who held the lock
//   - Note string: what happened to the work, or ""
//   - Err error: the cause
type LockError = lockwait.Error

// LockHolder is a session that holds a lock.
//
//   - PID int: of its server process
//   - Application, State string: as pg_stat_activity has them
//   - Age time.Duration: of its transaction
type LockHolder = lockwait.Holder

// retry calls try again while others hold locks that it needs.
func (a *applier) retry(ctx context.Context, try func() error) error {
	return a.locks.Retry(ctx, func() error {
		a.waits = nil
		return a.blocked(try())
	})
}

// look runs a function that waits for locks, and watches who holds them.
func (a *applier) look(ctx context.Context, run func() error) error {
	if a.waits == nil {
		return run()
	}
	return a.waits.Do(ctx, false, run)
}

// blocked returns an error as a [*LockError] if a lock is the cause.
func (a *applier) blocked(err error) error {
	var blocked *LockError
	switch {
	case err == nil:
		return nil
	case isSQLite(a.dialect):
		if ignoreBusy(err) != nil {
			return err
		}
		blocked = &LockError{Tries: 1, Err: err, Note: a.holderHint(context.Background())}
	case a.waits == nil:
		return err
	default:
		var ok bool
		if blocked, ok = a.waits.Blocked(err); !ok {
			return err
		}
	}
	note := "the file was rolled back"
	var failed *StatementError
	var in *fileError
	switch {
	case errors.As(err, &failed):
		blocked.File, blocked.Line = failed.File, failed.Line
		if failed.Partial {
			note = "the statements before it stay, and the next run goes on with it"
		}
		if failed.Invalid != "" {
			note += "; the index " + failed.Invalid + " is invalid, and the next run drops it and builds it again"
		}
	case errors.As(err, &in):
		blocked.File = in.file
	default:
		note = "nothing was changed"
	}
	if blocked.Note != "" {
		note += "; " + blocked.Note
	}
	blocked.Note = note
	blocked.Package = "migrate"
	return blocked
}

// fileError is an error in a file that isn't about a statement.
type fileError struct {
	file string
	err  error
}

func inFile(file migrate.File, err error) error { return &fileError{file.Name(), err} }

func (e *fileError) Error() string { return e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// limitSession sets the lock timeout of the session, as beginLocked does for a
// transaction.
func (a *applier) limitSession(ctx context.Context) (err error) {
	a.waits = &lockwait.Session{} // unused on SQLite
	if !isSQLite(a.dialect) {
		a.waits, err = a.locks.InSession(ctx, a.db, a.conn)
	}
	return err
}

// lockedOut is the error after waiting too long for other migrators.
func (a *applier) lockedOut(ctx context.Context) error {
	if !isSQLite(a.dialect) {
		return fmt.Errorf("migrate: %w: waited %s for it", ErrLocked, a.migratorTimeout)
	}
	return fmt.Errorf("migrate: %w: waited %s: %s", errBusy, a.migratorTimeout, a.holderHint(ctx))
}

// errBusy is both an ErrLocked and an ErrLockTimeout.
var errBusy error = busyError{}

type busyError struct{}

func (busyError) Error() string {
	return "another process migrates or writes to the database, or keeps it locked"
}

func (busyError) Is(target error) bool { return target == ErrLocked || target == ErrLockTimeout }

// holderHint says how to find the process that keeps an SQLite file locked,
// because SQLite doesn't tell.
func (a *applier) holderHint(ctx context.Context) string {
	var file string
	if err := a.conn.QueryRowContext(ctx, "SELECT file FROM pragma_database_list WHERE name = 'main'").
		Scan(&file); err != nil || file == "" {
		return "SQLite does not say which process it is"
	}
	return "SQLite does not say which process it is: fuser " + strconv.Quote(file) +
		" lists those that have the file open"
}

// limitBusy sets an SQLite connection's busy_timeout to the lock timeout, and
// returns a function that restores it. While a commit waits for readers to end,
// new readers wait behind it.
func (a *applier) limitBusy(ctx context.Context) (restore func(), err error) {
	if !isSQLite(a.dialect) || a.locks.Timeout <= 0 {
		return func() {}, nil
	}
	set := func(ms int64) (before int64, err error) {
		if err := a.conn.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&before); err != nil {
			return 0, fmt.Errorf("migrate: read busy_timeout: %w", err)
		}
		var now int64
		if err := a.conn.QueryRowContext(ctx, "PRAGMA busy_timeout = "+strconv.FormatInt(ms, 10)).
			Scan(&now); err != nil {
			return 0, fmt.Errorf("migrate: set busy_timeout: %w", err)
		}
		return before, nil
	}
	before, err := set(max(1, a.locks.Timeout.Milliseconds()))
	if err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	return func() {
		if _, err := set(before); err != nil {
			discard(a.conn)
		}
	}, nil
}
