package pqdeadline_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/pqdeadline"
	dbopen "github.com/credent-go/credent/open"
	"github.com/credent-go/credent/open/libpq"
)

func open(t *testing.T, databaseURL string) *sql.DB {
	t.Helper()
	db, _, err := dbopen.DB(databaseURL, dbopen.Config{Drivers: []dbopen.Driver{libpq.Driver()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// waitForWaiting returns when a session waits for a standby, or when none does.
func waitForWaiting(t *testing.T, db *sql.DB, want bool) {
	t.Helper()
	for waiting := !want; waiting != want; {
		query := "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')"
		if err := db.QueryRowContext(t.Context(), query).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
}

// A commit isn't acknowledged if the server stored it but was told to stop
// waiting for its standby, no matter how the statement is sent.
func TestCancelledCommitIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	server := pgserver.ForTest(t, pgserver.Private(), pgserver.WithSetting("synchronous_commit", "on"))
	databaseURL, _, err := server.CreateDatabase(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	local := open(t, databaseURL+"&synchronous_commit=local")
	for _, query := range []string{
		"CREATE TABLE t (n int)", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()",
	} {
		if _, err := local.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	db := open(t, databaseURL)
	for waits := ""; waits != "nobody"; { // reloading takes the server a moment
		if err := db.QueryRowContext(t.Context(), "SHOW synchronous_standby_names").Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	// The checkpointer enables synchronous waiting after rereading its
	// settings.
	if _, err := local.ExecContext(t.Context(), "CHECKPOINT"); err != nil {
		t.Fatal(err)
	}
	writes := map[string]func(ctx context.Context) error{
		"exec": func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, "INSERT INTO t VALUES (1)")
			return err
		},
		"row": func(ctx context.Context) error {
			var n int
			return db.QueryRowContext(ctx, "INSERT INTO t VALUES ($1) RETURNING n", 2).Scan(&n)
		},
		"rows": func(ctx context.Context) error {
			rows, err := db.QueryContext(ctx, "INSERT INTO t VALUES (3) RETURNING n")
			if err != nil {
				return err
			}
			defer func() { _ = rows.Close() }()
			for rows.Next() {
			}
			return rows.Err()
		},
		"prepared": func(ctx context.Context) error {
			stmt, err := db.PrepareContext(ctx, "INSERT INTO t VALUES ($1)")
			if err != nil {
				return err
			}
			defer func() { _ = stmt.Close() }()
			_, err = stmt.ExecContext(ctx, 4)
			return err
		},
		"transaction": func(ctx context.Context) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "INSERT INTO t VALUES (5)"); err != nil {
				return err
			}
			return tx.Commit()
		},
	}
	for name, write := range writes {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- write(ctx) }()
		waitForWaiting(t, local, true)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want %v", name, err, context.Canceled)
		}
		waitForWaiting(t, local, false)
	}
	var stored []int64
	row := local.QueryRowContext(t.Context(), "SELECT array_agg(n ORDER BY n) FROM t")
	if err := row.Scan(pq.Array(&stored)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(stored, []int64{1, 2, 3, 4, 5}) {
		t.Errorf("stored are %v: a statement wasn't waiting for its standby", stored)
	}
}

// deaf is a connection that can be told to discard writes.
type deaf struct {
	net.Conn
	on *atomic.Bool
}

// Write implements net.Conn.
func (d deaf) Write(p []byte) (int, error) {
	if d.on.Load() {
		return len(p), nil
	}
	return d.Conn.Write(p)
}

// deafConnector returns lib/pq connections that can be cut.
type deafConnector struct {
	*pq.Connector
	on   atomic.Bool
	last net.Conn
}

// Connect implements driver.Connector.
func (c *deafConnector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	last := c.last
	return pqdeadline.Conn(inner, func() { _ = last.Close() })
}

// Dial implements pq.Dialer.
func (c *deafConnector) Dial(network, address string) (net.Conn, error) {
	return c.DialTimeout(network, address, time.Minute)
}

// DialTimeout implements pq.Dialer.
func (c *deafConnector) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout(network, address, timeout)
	if err != nil {
		return nil, err
	}
	c.last = deaf{conn, &c.on}
	return c.last, nil
}

// An unanswered BEGIN ends with its context.
func TestBeginEnds(t *testing.T) {
	t.Parallel()
	server := pgserver.ForTest(t)
	inner, err := pq.NewConnector(server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	connector := &deafConnector{Connector: inner}
	inner.Dialer(connector)
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	if err := db.PingContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	connector.on.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := db.BeginTx(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
	connector.on.Store(false)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
}

// A context that ends later has no effect.
func TestInTime(t *testing.T) {
	t.Parallel()
	server := pgserver.ForTest(t)
	db := open(t, server.URL("postgres"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rows, err := db.QueryContext(ctx, "SELECT n::numeric(4,1), 'x'::varchar(9) FROM generate_series(1, 2) n")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	types, err := rows.ColumnTypes()
	if err != nil {
		t.Fatal(err)
	}
	precision, scale, _ := types[0].DecimalSize()
	length, _ := types[1].Length()
	if name := types[1].DatabaseTypeName(); precision != 4 || scale != 1 || length != 9 || name != "VARCHAR" {
		t.Errorf("the types are %d, %d, %d, %s", precision, scale, length, name)
	}
	n := 0
	for rows.Next() {
		n++
	}
	if n != 2 || rows.Err() != nil {
		t.Errorf("%d rows, %v", n, rows.Err())
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
}
