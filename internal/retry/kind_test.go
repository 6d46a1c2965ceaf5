package retry_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
	_ "modernc.org/sqlite" // the driver sqlite

	"github.com/credent-go/credent/internal/retry"
)

// TestKindOf checks the kinds of the drivers' errors, bare and wrapped.
func TestKindOf(t *testing.T) {
	t.Parallel()
	answers := []struct {
		state, text string
		want        retry.Kind
	}{
		{"57P01", "terminating connection due to administrator command", retry.Lost},
		{"57P02", "terminating connection because of crash of another server process", retry.Down},
		{"57P03", "the database system is starting up", retry.Down},
		{"57P03", "the database system is not accepting connections", retry.Down},
		{"57P04", "database was dropped", retry.Other},
		{"57P05", "terminating connection due to idle-session timeout", retry.Idle},
		{"57014", "canceling statement due to statement timeout", retry.Timeout},
		{"57014", "Anweisung wird abgebrochen", retry.Timeout},
		{"25P03", "terminating connection due to idle-in-transaction timeout", retry.Idle},
		{"25P04", "terminating connection due to transaction timeout", retry.Timeout},
		{"25P02", "current transaction is aborted", retry.Other},
		{"25006", "cannot execute UPDATE in a read-only transaction", retry.Standby},
		{"25006", "cannot execute LISTEN during recovery", retry.Standby},
		{"55000", "recovery is in progress", retry.Standby},
		{
			"55000", "cannot acquire lock mode RowExclusiveLock on database objects while recovery is in progress",
			retry.Standby,
		},
		{"XX000", "cannot assign TransactionIds during recovery", retry.Standby},
		{"0A000", "cannot use serializable mode in a hot standby", retry.Standby},
		{"55000", "object is not in the required state", retry.Other},
		{"XX000", "cache lookup failed for type 1", retry.Other},
		{"40001", "canceling statement due to conflict with recovery", retry.Conflict},
		{"40001", "could not serialize access due to concurrent update", retry.Conflict},
		{"40P01", "deadlock detected", retry.Conflict},
		{"40002", "integrity constraint violation", retry.Other},
		{"40003", "statement completion unknown", retry.Lost},
		{"55P03", "canceling statement due to lock timeout", retry.Locked},
		{"55006", "object in use", retry.Other},
		{"53300", "sorry, too many clients already", retry.Crowded},
		{"53300", `too many connections for role "app"`, retry.Crowded},
		{"53100", "could not extend file: No space left on device", retry.NoSpace},
		{"53200", "out of memory", retry.NoSpace},
		{"53400", "temporary file size exceeds temp_file_limit (64kB)", retry.NoSpace},
		{"08006", "connection failure", retry.Lost},
		{"08003", "connection does not exist", retry.Lost},
		{"08001", "unable to establish a connection", retry.Lost},
		{"08P01", "query_wait_timeout", retry.Crowded},
		{"08P01", "no more connections allowed (max_client_conn)", retry.Crowded},
		{"08P01", "server login has been failing, try again later (server_login_retry)", retry.Down},
		{"08P01", "server conn crashed?", retry.Lost},
		{"08P01", "idle transaction timeout", retry.Idle},
		{"08P01", "client_idle_timeout", retry.Idle},
		{"08P01", "query timeout", retry.Timeout},
		{"08P01", "unsupported startup parameter: options", retry.Other},
		{"08P01", "no such database: app", retry.Other},
		{"08P01", "bind message supplies 1 parameters, but prepared statement requires 2", retry.Other},
		{"XX000", "MaxClientsInSessionMode: max clients reached", retry.Crowded},
		{"28P01", `password authentication failed for user "app"`, retry.Other},
		{"3D000", `database "app" does not exist`, retry.Other},
		{"23505", "duplicate key value violates unique constraint", retry.Other},
		{"22001", "value too long", retry.Other},
		{"42501", "permission denied for table t", retry.Other},
		{"42P01", `relation "t" does not exist`, retry.Other},
	}
	for _, a := range answers {
		for _, err := range []error{
			&pq.Error{Code: pqerror.Code(a.state), Message: a.text},
			&pgconn.PgError{Severity: "FATAL", Code: a.state, Message: a.text},
			fmt.Errorf("rotate: t: %w", errors.Join(&pgconn.PgError{Code: a.state, Message: a.text}, io.EOF)),
		} {
			if got := retry.KindOf(err); got != a.want {
				t.Errorf("%T %s %q: got %s, want %s", err, a.state, a.text, got, a.want)
			}
		}
	}
	for text, c := range map[string]struct {
		err  error
		want retry.Kind
	}{
		"nil":        {nil, retry.Other},
		"bad":        {driver.ErrBadConn, retry.Lost},
		"eof":        {io.EOF, retry.Lost},
		"unexpected": {io.ErrUnexpectedEOF, retry.Lost},
		"closed":     {net.ErrClosed, retry.Lost},
		"refused": {
			&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
			retry.Down,
		},
		"reset":       {&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, retry.Lost},
		"broken pipe": {&net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.EPIPE)}, retry.Lost},
		"unreachable": {
			&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)},
			retry.Down,
		},
		"read timeout": {&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, retry.Lost},
		"dns":          {&net.DNSError{Err: "no such host", Name: "db.invalid", IsNotFound: true}, retry.Down},
		"deadline":     {context.DeadlineExceeded, retry.Lost},
		"canceled":     {context.Canceled, retry.Other},
		"no rows":      {sql.ErrNoRows, retry.Other},
		"a full disk":  {&os.PathError{Op: "write", Path: "out.csv", Err: syscall.ENOSPC}, retry.Other},
		"a pipe":       {&os.PathError{Op: "write", Path: "out.csv", Err: syscall.EPIPE}, retry.Other},
		"no primary":   {fmt.Errorf("connect: %w", pgconn.ErrReadOnlyConnection), retry.Standby},
		"pq's text":    {errors.New("server is in hot standby mode"), retry.Standby},
		"mattn":        {errors.New("database is locked"), retry.Locked},
	} {
		if got := retry.KindOf(c.err); got != c.want {
			t.Errorf("%s: got %s, want %s", text, got, c.want)
		}
	}
}

// TestKindOfSQLite makes modernc's driver return its errors.
func TestKindOfSQLite(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/a.db"
	holder, waiter := openSQLite(t, path), openSQLite(t, path)
	exec(t, holder, "CREATE TABLE t (id integer primary key, text text)")
	tx, err := holder.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "INSERT INTO t VALUES (1, 'a')"); err != nil {
		t.Fatal(err)
	}
	_, err = waiter.ExecContext(t.Context(), "INSERT INTO t VALUES (2, 'a')")
	if got := retry.KindOf(err); got != retry.Locked {
		t.Errorf("a locked file: got %s for %v", got, err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	exec(t, waiter, "INSERT INTO t VALUES (1, 'a')")
	_, err = waiter.ExecContext(t.Context(), "INSERT INTO t VALUES (1, 'a')")
	if got := retry.KindOf(err); err == nil || got != retry.Other {
		t.Errorf("a constraint: got %s for %v", got, err)
	}
	exec(t, waiter, "PRAGMA max_page_count = 2")
	_, err = waiter.ExecContext(t.Context(), "INSERT INTO t VALUES (3, ?)", strings.Repeat("a", 100_000))
	if got := retry.KindOf(err); got != retry.NoSpace {
		t.Errorf("a full disk: got %s for %v", got, err)
	}
}

func openSQLite(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec(t *testing.T, db *sql.DB, query string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

// TestErrorTexts checks that an error says what happened without naming a
// server, user or database.
func TestErrorTexts(t *testing.T) {
	t.Parallel()
	_, err := pgconn.Connect(t.Context(), "postgres://ada:lovelace@127.0.0.1:1/notes?sslmode=disable")
	for _, c := range []struct {
		err  error
		want string
	}{
		{err, "the database server is down, or restarts: connection refused"},
		{
			&pq.Error{Code: "57P01", Message: "terminating connection"},
			"the connection to the database was lost: terminating connection (57P01)",
		},
		{
			&net.OpError{Op: "read", Err: errors.New("10.0.0.7: odd")},
			"the connection to the database was lost: read failed",
		},
		{&net.DNSError{Err: "no such host", Name: "db.invalid"}, "the database server is down, or restarts"},
	} {
		got := retry.Explain(c.err)
		if got.Error() != c.want || !errors.Is(got, c.err) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	other := errors.New("other")
	if got := retry.Explain(other); got != other { //nolint:errorlint // the same
		t.Errorf("got %v", got)
	}
}
