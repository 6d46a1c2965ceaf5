package retry

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/wire"
)

// Errors to be tested with errors.Is: what happened to a statement or a
// connection. An [*Error] matches one of them.
var (
	ErrConnectionLost = errors.New("the connection to the database was lost")
	ErrServerDown     = errors.New("the database server is down, or restarts")
	ErrStandby        = errors.New("the database server takes no writes: it is a standby, or the session is " +
		"read-only")
	ErrConflict           = errors.New("another transaction was given precedence")
	ErrLocked             = errors.New("another transaction holds a lock for too long")
	ErrTooManyConnections = errors.New("the database server or its pooler has no free connection")
	ErrTimeout            = errors.New("the database ended a statement that took too long")
	ErrIdle               = errors.New("the database ended a session that was idle for too long")
	ErrNoSpace            = errors.New("the database server has no space or memory left, or a limit set for it is " +
		"reached")
)

// Kind says what happened. The zero value is for everything else.
type Kind int

// The kinds. All but Other have their own error.
const (
	Other Kind = iota
	Lost
	Down
	Standby
	Conflict
	Locked
	Crowded
	Timeout
	Idle
	NoSpace
)

var kinds = [...]struct {
	name string
	err  error
}{
	Other:    {"failed", nil},
	Lost:     {"connection_lost", ErrConnectionLost},
	Down:     {"server_down", ErrServerDown},
	Standby:  {"standby", ErrStandby},
	Conflict: {"conflict", ErrConflict},
	Locked:   {"locked", ErrLocked},
	Crowded:  {"too_many_connections", ErrTooManyConnections},
	Timeout:  {"statement_timeout", ErrTimeout},
	Idle:     {"idle_timeout", ErrIdle},
	NoSpace:  {"no_space", ErrNoSpace},
}

// String returns a name that doesn't change between versions.
func (k Kind) String() string { return kinds[k].name }

// IsTransient reports whether a retry may succeed.
func (k Kind) IsTransient() bool { return k != Other && k != NoSpace }

// KindOf returns the kind of a database's or network's error. It needs no
// driver: Postgres' errors have a method SQLState, and SQLite's have a method
// Code or a known text.
func KindOf(err error) Kind {
	var known *Error
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return Other
	case errors.As(err, &known):
		return known.Kind
	}
	if answer, ok := dberror.Of(err); ok {
		return kindOfState(answer.State, answer.Message)
	}
	if k := kindOfSQLite(err); k != Other {
		return k
	}
	return kindOfNetwork(err)
}

// states maps SQLSTATEs, and classes for all others in them, to kinds.
var states = map[string]Kind{
	"08":    Lost,
	"08P01": Other, // protocol violation; a pooler's error is in its text
	"25006": Standby,
	"25P03": Idle,    // idle_in_transaction_session_timeout
	"25P04": Timeout, // transaction_timeout
	"40":    Conflict,
	"40002": Other, // violated constraint, checked at the end
	"40003": Lost,  // the server can't tell whether it is committed
	"53":    NoSpace,
	"53300": Crowded,
	"55P03": Locked,
	"57014": Timeout, // or the statement was canceled
	"57P01": Lost,    // an administrator ended the session, or the server
	"57P02": Down,
	"57P03": Down,
	"57P05": Idle, // idle_session_timeout
}

// phrases are messages of poolers and standbys with an ambiguous SQLSTATE. No
// server translates them.
var phrases = []struct {
	text string
	kind Kind
}{
	{"query_wait_timeout", Crowded}, // PgBouncer
	{"no more connections allowed", Crowded},
	{"too many servers in the pool", Crowded},
	{"max clients reached", Crowded}, // Supavisor
	{"could not get connection from the pool", Crowded},
	{"query timeout", Timeout},
	{"query_timeout", Timeout},
	{"idle transaction timeout", Idle},
	{"idle_transaction_timeout", Idle},
	{"client_idle_timeout", Idle},
	{"server login has been failing", Down},
	{"server login failed", Down},
	{"client_login_timeout", Down},
	{"server_login_retry", Down},
	{"server conn crashed", Lost},
	{"server connection closed", Lost},
	{"server connections dropped", Lost},
	{"server lifetime over", Lost},
	{"shutting down", Down},
	{"suspend_timeout", Lost},
	{"connect timeout", Down},
	{"cannot connect", Down},
	{"pause mode", Down},
	{"database configuration changed", Lost},
	{"during recovery", Standby},
	{"recovery is in progress", Standby},
	{"hot standby", Standby},
}

// vague reports whether a SQLSTATE is ambiguous without its text.
func vague(state string) bool {
	switch state {
	case "08P01", "0A000", "55000", "58000", "XX000":
		return true
	}
	return false
}

func kindOfState(state, text string) Kind {
	if vague(state) {
		for _, p := range phrases {
			if strings.Contains(text, p.text) {
				return p.kind
			}
		}
	}
	if k, ok := states[state]; ok || len(state) < 2 {
		return k
	}
	return states[state[:2]]
}

// kindOfSQLite recognizes modernc's driver by its codes, and others by SQLite's
// messages.
func kindOfSQLite(err error) Kind {
	text := err.Error()
	var coded interface {
		error
		Code() int
	}
	if errors.As(err, &coded) && strings.Contains(coded.Error(), "SQLITE_") {
		switch coded.Code() & 0xff { // the other bits distinguish cases of one kind
		case 5, 6, 15: // SQLITE_BUSY, SQLITE_LOCKED, SQLITE_PROTOCOL
			return Locked
		case 7, 13: // SQLITE_NOMEM, SQLITE_FULL
			return NoSpace
		}
		return Other
	}
	switch {
	case strings.Contains(text, "database is locked"), strings.Contains(text, "database table is locked"):
		return Locked
	case strings.Contains(text, "database or disk is full"):
		return NoSpace
	}
	return Other
}

// signs are connection errors and their kinds.
var signs = []struct {
	err  error
	kind Kind
}{
	{wire.ErrSilent, Lost},
	{driver.ErrBadConn, Lost},
	{io.EOF, Lost},
	{io.ErrUnexpectedEOF, Lost},
	{net.ErrClosed, Lost},
	{os.ErrDeadlineExceeded, Lost},
	{context.DeadlineExceeded, Lost},
	{syscall.ECONNREFUSED, Down},
	{syscall.ECONNRESET, Lost},
	{syscall.ECONNABORTED, Lost},
	{syscall.ETIMEDOUT, Lost},
	{syscall.EHOSTUNREACH, Down},
	{syscall.EHOSTDOWN, Down},
	{syscall.ENETUNREACH, Down},
}

func kindOfNetwork(err error) Kind {
	for _, s := range signs {
		if errors.Is(err, s.err) {
			return s.kind
		}
	}
	var (
		operation *net.OpError
		name      *net.DNSError
		unsent    interface{ SafeToRetry() bool } // pgx's error for a closed connection
	)
	switch {
	case errors.As(err, &operation):
		return Lost
	case errors.As(err, &name):
		return Down
	case errors.As(err, &unsent) && unsent.SafeToRetry():
		return Lost
	}
	// Both drivers' errors for a server that target_session_attrs excludes.
	for _, text := range []string{"read only connection", "in hot standby mode", "server is in standby mode"} {
		if strings.Contains(err.Error(), text) {
			return Standby
		}
	}
	return Other
}

// cause returns the part of an error that says why without naming a server,
// user or database, or "".
func cause(err error) string {
	if a, ok := dberror.Of(err); ok {
		return a.Message + " (" + a.State + ")"
	}
	if kindOfSQLite(err) != Other {
		return err.Error()
	}
	if text := wire.ConnectCause(err); text != "" {
		return text
	}
	for _, s := range signs {
		if errors.Is(err, s.err) {
			if s.err == driver.ErrBadConn { //nolint:errorlint // the sign itself
				return "" // its text says nothing
			}
			return s.err.Error()
		}
	}
	var operation *net.OpError
	if errors.As(err, &operation) {
		return operation.Op + " failed"
	}
	return ""
}
