package lockwait

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Session is a connection to Postgres with a lock timeout. It is not safe for
// concurrent use.
type Session struct {
	policy Policy
	db     *sql.DB // for a second connection, which watches while the first one waits
	conn   *sql.Conn
	pid    int
	before string // the lock_timeout to restore; "" within a transaction
	set    time.Duration

	seen Error // what the last wait showed
}

// InTransaction sets the timeout for the connection's current transaction,
// which also works through a pooler in transaction mode. db provides a second
// connection to find out who holds a lock.
func (p Policy) InTransaction(ctx context.Context, db *sql.DB, conn *sql.Conn) (*Session, error) {
	s := &Session{policy: p, db: db, conn: conn, set: p.Timeout}
	if p.Timeout <= 0 {
		return s, nil
	}
	var set string
	err := conn.QueryRowContext(ctx, "SELECT pg_catalog.pg_backend_pid(), pg_catalog.set_config('lock_timeout', '"+
		milliseconds(p.Timeout)+"', true)").Scan(&s.pid, &set)
	if err != nil {
		return nil, fmt.Errorf("set lock_timeout: %w", err)
	}
	return s, nil
}

// InSession sets the timeout for a connection outside transactions, until
// Reset.
func (p Policy) InSession(ctx context.Context, db *sql.DB, conn *sql.Conn) (*Session, error) {
	s := &Session{policy: p, db: db, conn: conn}
	if p.Timeout <= 0 {
		return s, nil
	}
	err := conn.QueryRowContext(ctx, "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('lock_timeout')").
		Scan(&s.pid, &s.before)
	if err == nil {
		err = s.setTimeout(ctx, p.Timeout)
	}
	if err != nil {
		return nil, fmt.Errorf("set lock_timeout: %w", err)
	}
	return s, nil
}

// Reset restores the connection's previous timeout, or closes the connection.
func (s *Session) Reset() {
	if s.before == "" {
		return
	}
	var set string
	if err := s.conn.QueryRowContext(context.Background(),
		"SELECT pg_catalog.set_config('lock_timeout', '"+s.before+"', false)").Scan(&set); err != nil {
		_ = s.conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}

func (s *Session) setTimeout(ctx context.Context, timeout time.Duration) error {
	if s.set == timeout {
		return nil
	}
	var set string
	err := s.conn.QueryRowContext(ctx, "SELECT pg_catalog.set_config('lock_timeout', '"+milliseconds(timeout)+
		"', false)").Scan(&set)
	if err == nil {
		s.set = timeout
	}
	return err
}

// milliseconds never gives 0, which would mean no timeout.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10) + "ms"
}

// Do runs a statement and watches what it waits for. patient is for statements
// outside transactions that let readers and writers pass while they wait and
// would have to start over, such as CREATE INDEX CONCURRENTLY: such a statement
// may wait as long as all tries together.
func (s *Session) Do(ctx context.Context, patient bool, run func() error) error {
	if s.policy.Timeout <= 0 {
		return run()
	}
	timeout := s.policy.Timeout
	if patient {
		timeout = max(timeout, s.policy.Limit)
	}
	if s.before != "" {
		if err := s.setTimeout(ctx, timeout); err != nil {
			return fmt.Errorf("set lock_timeout: %w", err)
		}
	}
	stop := s.watch(ctx, timeout)
	defer stop()
	return run()
}

// Blocked returns err as an [*Error] with the observed holders, if a lock
// caused it.
func (s *Session) Blocked(err error) (*Error, bool) {
	if !Happened(err) {
		return nil, false
	}
	return &Error{Table: s.seen.Table, Holders: s.seen.Holders, Tries: 1, Err: err}, true
}

// watch observes what the session waits for until stop is called. stop waits
// for the last look to finish.
func (s *Session) watch(ctx context.Context, timeout time.Duration) (stop func()) {
	s.seen = Error{}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.look(ctx, min(max(timeout/5, 10*time.Millisecond), 200*time.Millisecond))
	}()
	return func() {
		cancel()
		<-done
	}
}

// look keeps the latest observation. If it fails, the error merely says less.
func (s *Session) look(ctx context.Context, every time.Duration) {
	var conn *sql.Conn
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		if conn == nil {
			var err error
			if conn, err = s.db.Conn(ctx); err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
		}
		s.inspect(ctx, conn)
	}
}

// inspect ignores the end of the wait: cancelling it would cost the pool a
// connection.
func (s *Session) inspect(ctx context.Context, conn *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	table, holders, err := inspect(ctx, conn, s.pid)
	if err != nil || len(holders) == 0 {
		return
	}
	s.seen.Holders = holders
	if table != "" { // the wait may have ended between the two queries
		s.seen.Table = table
	}
}

// Holder is a session that holds a lock.
type Holder struct {
	PID         int           // 0 for a prepared transaction
	Application string        // its application_name; may be ""
	State       string        // "active", "idle in transaction"; "" if the role may not see it
	Age         time.Duration // age of its transaction; 0 if the role may not see it
}

// String describes the holder for an error.
func (h Holder) String() string {
	if h.PID == 0 {
		return "a prepared transaction (pg_prepared_xacts)"
	}
	var about []string
	if h.Application != "" {
		about = append(about, strconv.Quote(h.Application))
	}
	if h.State != "" {
		about = append(about, h.State)
	}
	if h.Age > 0 {
		about = append(about, "its transaction is "+h.Age.Round(time.Second).String()+" old")
	}
	text := "pid " + strconv.Itoa(h.PID)
	if len(about) > 0 {
		text += " (" + strings.Join(about, ", ") + ")"
	}
	return text
}

// inspect returns the table that a server process waits for, and the sessions
// that block it. It omits query texts, which may contain secrets.
func inspect(ctx context.Context, conn *sql.Conn, pid int) (table string, holders []Holder, err error) {
	of := strconv.Itoa(pid)
	rows, err := conn.QueryContext(ctx, `SELECT
  COALESCE((SELECT l.relation::pg_catalog.regclass::text FROM pg_catalog.pg_locks AS l
    WHERE l.pid = `+of+` AND NOT l.granted AND l.relation IS NOT NULL LIMIT 1), ''),
  b.pid, COALESCE(a.application_name, ''), COALESCE(a.state, a.backend_type, ''),
  COALESCE(EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - a.xact_start), 0)::float8
FROM (SELECT DISTINCT pid FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(`+of+`)) AS u (pid)) AS b
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = b.pid
ORDER BY a.xact_start, b.pid`)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var h Holder
		var seconds float64
		if err := rows.Scan(&table, &h.PID, &h.Application, &h.State, &seconds); err != nil {
			return "", nil, err
		}
		h.Age = time.Duration(seconds * float64(time.Second))
		holders = append(holders, h)
	}
	return table, holders, rows.Err()
}

// Exec runs a statement in its own transaction with the timeout, until it
// succeeds or the limit has passed.
func (p Policy) Exec(ctx context.Context, db *sql.DB, statement string) error {
	return p.Retry(ctx, func() error { return p.execOnce(ctx, db, statement) })
}

func (p Policy) execOnce(ctx context.Context, db *sql.DB, statement string) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	s, err := p.InTransaction(ctx, db, conn)
	if err != nil {
		return err
	}
	err = s.Do(ctx, false, func() error {
		_, err := tx.ExecContext(ctx, statement)
		return err
	})
	if blocked, ok := s.Blocked(err); ok {
		_ = tx.Rollback() // before the pause
		return blocked
	}
	if err != nil {
		return err
	}
	return tx.Commit()
}
