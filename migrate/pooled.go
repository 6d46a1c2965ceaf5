package migrate

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/credent-go/credent/internal/dberror"
)

// lockID is the stock command's advisory lock: FNV-1 of
// "atlas_migrate_execute". The stock command holds it in its session, and
// [Apply] holds it in each file's transaction, so they exclude each other.
const lockID = 2686470616

// Bounds of the pause between two attempts to get the lock.
const (
	minPause = 20 * time.Millisecond
	maxPause = time.Second
)

// transaction uses BEGIN statements, because Atlas's driver needs the
// connection itself.
type transaction struct {
	conn   *sql.Conn
	done   bool
	sqlite bool
}

func beginWith(ctx context.Context, conn *sql.Conn, stmt string) (*transaction, error) {
	if _, err := conn.ExecContext(ctx, stmt); err != nil {
		return nil, fmt.Errorf("migrate: begin: %w", err)
	}
	return &transaction{conn: conn}, nil
}

// beginReadOnly begins a transaction to read the history: through a pooler in
// transaction mode, only a transaction's statements share one server
// connection.
func beginReadOnly(ctx context.Context, conn *sql.Conn, d string) (*transaction, error) {
	if isSQLite(d) {
		return beginWith(ctx, conn, "BEGIN")
	}
	return beginWith(ctx, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
}

// beginLocked begins a transaction that holds the lock. On SQLite, that is the
// write lock.
func (a *applier) beginLocked(ctx context.Context) (tx *transaction, err error) {
	err = a.waitForLock(ctx, func() (locked bool, err error) {
		if isSQLite(a.dialect) {
			if tx, err = beginWith(ctx, a.conn, "BEGIN IMMEDIATE"); err == nil {
				tx.sqlite = true
			}
			return err == nil, ignoreBusy(err)
		}
		// READ COMMITTED, whatever the default, so that the statements after
		// the lock see what its last holder did.
		if tx, err = beginWith(ctx, a.conn, "BEGIN ISOLATION LEVEL READ COMMITTED"); err != nil {
			return false, err
		}
		locked, err = tryLock(ctx, a.conn, "pg_try_advisory_xact_lock")
		if locked {
			a.waits, err = a.locks.InTransaction(ctx, a.db, a.conn)
		}
		if !locked || err != nil {
			tx.rollback()
		}
		return locked, err
	})
	return tx, err
}

// waitForLock calls try until it gets the lock or the time is up.
func (a *applier) waitForLock(ctx context.Context, try func() (locked bool, err error)) error {
	start := time.Now()
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		locked, err := try()
		if err != nil || locked {
			return err
		}
		if time.Since(start) >= a.migratorTimeout {
			return a.lockedOut(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("migrate: wait for the lock: %w", ctx.Err())
		case <-time.After(pause/2 + rand.N(pause)): //nolint:gosec // jitter, not a secret
		}
	}
}

func tryLock(ctx context.Context, conn *sql.Conn, function string) (locked bool, err error) {
	query := "SELECT pg_catalog." + function + "(" + strconv.Itoa(lockID) + ")"
	if err := conn.QueryRowContext(ctx, query).Scan(&locked); err != nil {
		return false, fmt.Errorf("migrate: take the lock: %w", err)
	}
	return locked, nil
}

// ignoreBusy drops SQLite's error about another writer.
func ignoreBusy(err error) error {
	if dberror.SQLite(err) == dberror.SQLiteBusy {
		return nil
	}
	return err
}

func (t *transaction) commit() error {
	if t.done {
		return nil
	}
	t.done = true
	// Don't interrupt it: the outcome of a sent COMMIT must be awaited.
	if _, err := t.conn.ExecContext(context.Background(), "COMMIT"); err != nil {
		if t.sqlite && ignoreBusy(err) == nil { // readers keep the file; the transaction is still open
			t.done = false
			t.rollback()
		} else {
			discard(t.conn)
		}
		return fmt.Errorf("migrate: commit: %w", err)
	}
	return nil
}

// rollback does nothing after a commit.
func (t *transaction) rollback() {
	if t.done {
		return
	}
	t.done = true
	if _, err := t.conn.ExecContext(context.Background(), "ROLLBACK"); err != nil {
		discard(t.conn) // the server rolls back when the session ends
	}
}

// discard removes a connection in an unknown state from the pool.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return sqldriver.ErrBadConn })
}

// session is a connection that holds the lock outside transactions.
type session struct {
	conn   *sql.Conn
	sqlite bool
	pid    int // server process
}

// lockSession takes the lock for a session. It returns [ErrPooled] if it
// detects a pooler in transaction mode.
func (a *applier) lockSession(ctx context.Context) (*session, error) {
	s := &session{conn: a.conn, sqlite: isSQLite(a.dialect)}
	if s.sqlite {
		return s, a.lockFile(ctx)
	}
	if err := a.checkDirect(ctx); err != nil {
		return nil, err
	}
	err := a.waitForLock(ctx, func() (bool, error) { return tryLock(ctx, a.conn, "pg_try_advisory_lock") })
	if err != nil {
		return nil, err
	}
	if s.pid, err = backendPID(ctx, a.conn); err != nil {
		discard(a.conn)
		return nil, err
	}
	return s, nil
}

// lockFile makes the connection take SQLite's file lock and keep it between
// transactions.
func (a *applier) lockFile(ctx context.Context) error {
	if _, err := a.conn.ExecContext(ctx, "PRAGMA locking_mode = EXCLUSIVE"); err != nil {
		return fmt.Errorf("migrate: take the lock: %w", err)
	}
	err := a.waitForLock(ctx, func() (bool, error) {
		tx, err := beginWith(ctx, a.conn, "BEGIN EXCLUSIVE")
		if err != nil {
			return false, ignoreBusy(err)
		}
		return true, tx.commit()
	})
	if err != nil {
		(&session{conn: a.conn, sqlite: true}).unlock()
	}
	return err
}

// unlock releases the lock, if necessary by closing the session.
func (s *session) unlock() {
	ctx := context.Background()
	if s.sqlite {
		var tables int
		_, err := s.conn.ExecContext(ctx, "PRAGMA locking_mode = NORMAL")
		// The next access releases the lock.
		if err == nil {
			err = s.conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&tables)
		}
		if err != nil {
			discard(s.conn)
		}
		return
	}
	if released, err := tryLock(ctx, s.conn, "pg_advisory_unlock"); err != nil || !released {
		discard(s.conn) // the server releases the lock when the session ends
	}
}

// check returns [ErrPooled] if another process than the lock's holder serves
// the connection.
func (s *session) check(ctx context.Context) error {
	if s.sqlite {
		return nil
	}
	pid, err := backendPID(ctx, s.conn)
	if err == nil && pid != s.pid {
		err = ErrPooled
	}
	return err
}

func backendPID(ctx context.Context, conn *sql.Conn) (pid int, err error) {
	if err := conn.QueryRowContext(ctx, "SELECT pg_catalog.pg_backend_pid()").Scan(&pid); err != nil {
		return 0, fmt.Errorf("migrate: ask for the server process: %w", err)
	}
	return pid, nil
}

// checkDirect returns [ErrPooled] if the connection is known to go through a
// pooler in transaction mode. The drivers know the process that they connected
// to, which proves a direct connection. Otherwise a second connection begins a
// transaction: a pooler in transaction mode serves it with the process that the
// first one left idle, unless others are quicker. With one connection in the
// pool, nothing can be detected.
func (a *applier) checkDirect(ctx context.Context) error {
	const rounds = 3
	pid, err := backendPID(ctx, a.conn)
	if err != nil || connectedTo(a.conn, pid) || a.db.Stats().MaxOpenConnections == 1 {
		return err
	}
	// The wait for a second connection is limited, because the pool may be in
	// use.
	waiting, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for range rounds {
		pooled, err := a.isShared(ctx, waiting, pid)
		if err != nil {
			return err
		}
		if pooled {
			return fmt.Errorf("migrate: %w", ErrPooled)
		}
	}
	return nil
}

// connectedTo reports whether the driver is known to be connected to a server
// process.
func connectedTo(conn *sql.Conn, pid int) (same bool) {
	_ = conn.Raw(func(c any) error {
		same = dberror.PID(c) == pid
		return nil
	})
	return same
}

// isShared reports whether the first connection's process serves a second
// connection.
func (a *applier) isShared(ctx, waiting context.Context, pid int) (shared bool, err error) {
	other, err := a.db.Conn(waiting)
	if err != nil {
		return false, nil // the pool or the server has no second connection
	}
	defer func() { err = errors.Join(err, other.Close()) }()
	tx, err := beginWith(ctx, other, "BEGIN")
	if err != nil {
		return false, err
	}
	defer tx.rollback()
	otherPID, err := backendPID(ctx, other)
	if err != nil {
		return false, err
	}
	again, err := backendPID(ctx, a.conn)
	return otherPID == pid || again != pid, err
}
