package audit_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/keyring"
)

// TestAdd stores entries of each kind and reads them back.
func TestAdd(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db database) {
		ring := newRing(t)
		trail := newTrail(t, db, audit.Config{Keyring: ring, Writer: "test"})
		at := time.Date(2026, 11, 27, 10, 20, 30, 123456000, time.UTC)
		want := audit.Entry{
			ID: uuid.New(), At: at, Action: audit.ActionUpdate, Actor: "ada", Tenant: "user-1",
			Table:  "user_credentials",
			Column: "api_key", Row: "a\nb", Rows: 2, KeyID: "01234567", Outcome: audit.OutcomeRefused, Request: "r-1",
			Note: `"é' \ {} ` + "\t",
		}
		long := strings.Repeat("é", audit.MaxText)
		do(t, trail.Add(t.Context(), want, audit.Entry{Action: audit.ActionExport, Rows: -1, Actor: "\xff\x00" + long}))
		for i := range 600 {
			do(t, trail.Add(t.Context(), reveal(fmt.Sprint(i))))
		}
		do(t, trail.Flush(t.Context()))
		got := list(t, db, audit.Filter{Action: audit.ActionUpdate})
		if len(got) != 1 || got[0].Entry != want || got[0].Seq == 0 {
			t.Errorf("got %+v, want %+v", got, want)
		}
		exported := list(t, db, audit.Filter{Action: audit.ActionExport})[0]
		if exported.Rows != 0 || !strings.HasPrefix(exported.Actor, "\uFFFD\uFFFDé") ||
			!strings.HasSuffix(exported.Actor, "é…") || len(exported.Actor) > audit.MaxText ||
			exported.Outcome != audit.OutcomeOK || time.Since(exported.At) > time.Hour {
			t.Errorf("got %+v", exported)
		}
		got = list(t, db, audit.Filter{Action: audit.ActionReveal})
		if len(got) != 600 || db.number(t, "SELECT count(*) FROM credent_audit WHERE action = 'reveal'") > 60 {
			t.Errorf("%d reveals are in %d rows", len(got), db.number(t,
				"SELECT count(*) FROM credent_audit WHERE action = 'reveal'"))
		}
		for i, s := range got {
			if s.Row != fmt.Sprint(i) || s.Rows != 1 || s.Request != "r-1" {
				t.Fatalf("reveal %d is %+v", i, s)
			}
		}
		do(t, trail.Close(t.Context()))
		if err := trail.Add(t.Context(), reveal("1")); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if _, err := trail.AddTx(t.Context(), db.DB, reveal("1")); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if report := sound(t, db, ring); report.Open != 0 || report.Writers != 1 {
			t.Errorf("got %+v", report)
		}
	})
}

// TestAddTx commits one transaction and rolls back another.
func TestAddTx(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db database) {
		ring := newRing(t)
		trail := newTrail(t, db, audit.Config{Keyring: ring, Queue: 8})
		for i := range 10 { // would exceed the queue's room if each kept its share
			tx, err := db.BeginTx(t.Context(), nil)
			do(t, err)
			done, err := trail.AddTx(t.Context(), tx, audit.Entry{Action: audit.ActionCreate, Row: fmt.Sprint(i)})
			do(t, err)
			if i%2 == 0 {
				do(t, tx.Commit())
			} else {
				do(t, tx.Rollback())
			}
			done(i%2 == 0)
			done(true) // has no effect
			do(t, trail.Flush(t.Context()))
		}
		if got := list(t, db, audit.Filter{Action: audit.ActionCreate}); len(got) != 5 || got[0].Seq != 0 {
			t.Errorf("got %+v", got)
		}
		if report := sound(t, db, ring); report.Unlinked != 0 || report.Entries != 11 {
			t.Errorf("got %+v", report)
		}
		if db.dialect != dialect.Postgres {
			return
		}
		tx, err := db.BeginTx(t.Context(), nil)
		do(t, err)
		defer func() { _ = tx.Rollback() }()
		_, _ = tx.ExecContext(t.Context(), "fail")
		if _, err := trail.AddTx(t.Context(), tx, reveal("1")); err == nil {
			t.Error("a transaction that failed took an entry")
		}
	})
}

// TestSync checks that each entry is in the table when Add returns.
func TestSync(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db database) {
		ring := newRing(t)
		trail := newTrail(t, db, audit.Config{Keyring: ring, Mode: audit.Sync, Flush: time.Hour})
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				for i := range 10 {
					row := rowName(worker, i)
					if err := trail.Add(t.Context(), reveal(row)); err != nil {
						t.Error(err)
						return
					}
					if err := audit.List(t.Context(), db.DB, db.dialect, audit.Filter{Row: row},
						func(audit.Stored) error {
							return errFound
						}); !errors.Is(err, errFound) {
						t.Errorf("%s is not in the table: %v", row, err)
					}
				}
			})
		}
		wg.Wait()
		sound(t, db, ring)
	})
}

var errFound = errors.New("found")

// TestOpenRefuses opens trails that can't write.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	db := engines["modernc"](t)
	if _, err := audit.Open(t.Context(), db.DB, db.dialect, audit.Config{}); !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("without a keyring: %v", err)
	}
	if _, err := audit.Open(t.Context(), db.DB, "mysql", audit.Config{Keyring: newRing(t)}); err == nil {
		t.Error("it opened on mysql")
	}
	for _, bare := range []database{
		open(t, "sqlite", "file:"+t.TempDir()+"/x.db", dialect.SQLite),
		open(t, "pgx", pgserver.DatabaseForTest(t, pgserver.Shared()), dialect.Postgres),
	} {
		_, err := audit.Open(t.Context(), bare.DB, bare.dialect, audit.Config{Keyring: newRing(t)})
		if !errors.Is(err, audit.ErrNoTable) {
			t.Errorf("without the table: %v", err)
		}
		_, err = audit.Verify(t.Context(), bare.DB, bare.dialect, newRing(t), audit.VerifyOptions{})
		if !errors.Is(err, audit.ErrNoTable) {
			t.Errorf("verify without the table: %v", err)
		}
	}
}

// switched is a driver with connections that can be made to fail.
type switched struct {
	driver.Connector
	mode *atomic.Int32
}

const (
	works     = iota
	away      // nothing is executed
	uncertain // statements are executed but reported as failed
)

var errAway = errors.New("the server is away")

type switchedConn struct {
	driver.Conn
	mode *atomic.Int32
}

func (s switched) Connect(ctx context.Context) (driver.Conn, error) {
	if s.mode.Load() == away {
		return nil, errAway
	}
	conn, err := s.Connector.Connect(ctx)
	return &switchedConn{conn, s.mode}, err
}

func (c *switchedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if c.mode.Load() == away {
		return nil, errAway
	}
	result, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	if c.mode.Load() == uncertain {
		return nil, errAway
	}
	return result, err
}

type connector struct {
	of   driver.Driver
	name string
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.of.Open(c.name) }

func (c connector) Driver() driver.Driver { return c.of }

// TestAway makes the database fail for a while, first before commits and then
// after them, while the queue fills.
func TestAway(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db database) {
		ring := newRing(t)
		var mode atomic.Int32
		var of driver.Driver = &sqlite.Driver{}
		if db.dialect == dialect.Postgres {
			of = stdlib.GetDefaultDriver()
		}
		flaky := db
		flaky.DB = sql.OpenDB(switched{connector{of, db.name}, &mode})
		t.Cleanup(func() { _ = flaky.Close() })
		failed := make(chan error, 1000)
		for _, when := range []audit.WhenFull{audit.Block, audit.Refuse} {
			mode.Store(works)
			trail := newTrail(t, flaky, audit.Config{
				Keyring: ring, Queue: 100, Flush: time.Millisecond, WhenFull: when,
				OnError: func(err error) { failed <- err },
			})
			for _, fault := range []int32{away, uncertain} {
				for len(failed) > 0 {
					t.Log(<-failed)
				}
				mode.Store(fault)
				for i := range 100 {
					do(t, trail.Add(t.Context(), reveal(fmt.Sprintf("%d %d %d", when, fault, i))))
				}
				for err := range failed {
					if errors.Is(err, errAway) {
						break
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				blocked := make(chan error)
				go func() { blocked <- trail.Add(ctx, reveal(fmt.Sprintf("%d %d blocked", when, fault))) }()
				if when == audit.Refuse {
					if err := <-blocked; !errors.Is(err, audit.ErrFull) || !errors.Is(err, errAway) {
						t.Errorf("a full queue: %v", err)
					}
				}
				short, stop := context.WithTimeout(t.Context(), time.Millisecond)
				if err := trail.Flush(short); !errors.Is(err, audit.ErrNotWritten) || !errors.Is(err,
					context.DeadlineExceeded) {
					t.Errorf("flush: %v", err)
				}
				stop()
				mode.Store(works)
				if when == audit.Block {
					do(t, <-blocked)
				}
				do(t, trail.Flush(t.Context()))
				cancel()
			}
			mode.Store(away)
			do(t, trail.Add(t.Context(), reveal("lost")))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			if err := trail.Close(ctx); !errors.Is(err, audit.ErrNotWritten) || !oneOf(err.Error(), "2 wait") {
				t.Errorf("close: %v", err)
			}
			cancel()
		}
		mode.Store(works)
		want := 2 * 2 * 100
		want += 2 // blocked
		if got := len(list(t, db, audit.Filter{})); got != want {
			t.Errorf("got %d entries, want %d", got, want)
		}
		if report := sound(t, db, ring); report.Open != 2 {
			t.Errorf("got %+v", report)
		}
	})
}

// TestBounded fills the queue while another transaction locks the table.
func TestBounded(t *testing.T) {
	t.Parallel()
	db := engines["pgx"](t)
	ring := newRing(t)
	trail := newTrail(t, db, audit.Config{Keyring: ring, Queue: 500, Flush: time.Millisecond})
	tx, err := db.BeginTx(t.Context(), nil)
	do(t, err)
	_, err = tx.ExecContext(t.Context(), "LOCK TABLE credent_audit IN ACCESS EXCLUSIVE MODE")
	do(t, err)
	var added, running atomic.Int64
	full := make(chan struct{})
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := range 100 {
				if err := trail.Add(t.Context(), reveal(rowName(worker, i))); err != nil {
					t.Error(err)
				}
				if added.Add(1) == 500 {
					close(full)
				}
				running.Store(added.Load())
			}
		})
	}
	<-full
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	if err := trail.Add(ctx, reveal("too much")); !errors.Is(err, audit.ErrNotWritten) {
		t.Errorf("a full queue: %v", err)
	}
	cancel()
	if n := running.Load(); n > 500 {
		t.Errorf("%d entries are in a queue of 500", n)
	}
	do(t, tx.Commit())
	wg.Wait()
	do(t, trail.Flush(t.Context()))
	if got := len(list(t, db, audit.Filter{})); got != 1600 {
		t.Errorf("got %d of 1600 entries", got)
	}
	sound(t, db, ring)
}

// TestOnCheckpoint checks that Close passes on the head.
func TestOnCheckpoint(t *testing.T) {
	t.Parallel()
	db := engines["modernc"](t)
	ring := newRing(t)
	var heads []audit.Checkpoint
	trail := newTrail(t, db, audit.Config{
		Keyring: ring, OnCheckpoint: func(c audit.Checkpoint) { heads = append(heads, c) },
	})
	do(t, trail.Add(t.Context(), reveal("1")))
	do(t, trail.Close(t.Context()))
	if len(heads) != 1 || heads[0].Seq != 3 {
		t.Fatalf("got %+v", heads)
	}
	if report := verify(t, db, ring, audit.VerifyOptions{Checkpoints: heads}); report.Err() != nil {
		t.Error(report.Err())
	}
	heads[0].Seq++
	report := verify(t, db, ring, audit.VerifyOptions{Checkpoints: heads})
	if len(report.Findings) != 1 || report.Findings[0].Kind != audit.BadCheckpoint {
		t.Errorf("got %+v", report)
	}
}

// TestFollow reads entries as they arrive.
func TestFollow(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db database) {
		trail := newTrail(t, db, audit.Config{Keyring: newRing(t), Mode: audit.Sync})
		do(t, trail.Add(t.Context(), reveal("1")))
		ctx, cancel := context.WithCancel(t.Context())
		var (
			rows  []string
			added sync.WaitGroup
		)
		defer added.Wait()
		filter := audit.Filter{Tenant: "user-1"}
		err := audit.Follow(ctx, db.DB, db.dialect, filter, time.Millisecond, func(s audit.Stored) error {
			if rows = append(rows, s.Row); len(rows) < 5 {
				next := reveal(fmt.Sprint(len(rows) + 1))
				added.Go(func() { _ = trail.Add(context.WithoutCancel(ctx), next) })
			} else {
				cancel()
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) || !slices.Equal(rows, []string{"1", "2", "3", "4", "5"}) {
			t.Errorf("got %q, %v", rows, err)
		}
		// The context may also end while entries are being read.
		reason := errors.New("enough")
		ended, end := context.WithCancelCause(t.Context())
		end(reason)
		if err := audit.Follow(ended, db.DB, db.dialect, filter, time.Hour, nil); !errors.Is(err, reason) {
			t.Errorf("once the context has ended: %v", err)
		}
	})
}

// TestList filters by each field.
func TestList(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db database) {
		trail := newTrail(t, db, audit.Config{Keyring: newRing(t)})
		at := time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)
		one := audit.Entry{
			ID: uuid.New(), At: at, Action: audit.ActionDelete, Actor: "ada", Tenant: "t1", Table: "a", Column: "x",
			Row: "1", Outcome: audit.OutcomeFailed, Request: "r1",
		}
		other := audit.Entry{
			At: at.Add(time.Hour), Action: audit.ActionCreate, Actor: "bob", Tenant: "t2", Table: "b", Column: "y",
			Row: "2", Request: "r2",
		}
		do(t, trail.Add(t.Context(), one, other))
		for row := range 20 {
			r := reveal(fmt.Sprint(row + 10))
			r.At = at.Add(2 * time.Hour)
			do(t, trail.Add(t.Context(), r))
		}
		do(t, trail.Flush(t.Context()))
		for name, f := range map[string]audit.Filter{
			"to": {To: at.Add(time.Hour)}, "actor": {Actor: "ada", Table: "a"}, "tenant": {Tenant: "t1"},
			"table":  {Table: "a"},
			"column": {Column: "x"}, "row": {Row: "1"}, "request": {Request: "r1"}, "id": {ID: one.ID.String()},
			"action": {Action: audit.ActionDelete}, "outcome": {Outcome: audit.OutcomeFailed}, "limit": {Limit: 1},
		} {
			if got := list(t, db, f); len(got) != 1 || got[0].ID != one.ID {
				t.Errorf("%s: got %+v", name, got)
			}
		}
		if got := list(t, db, audit.Filter{Row: "15"}); len(got) != 1 || got[0].Row != "15" || got[0].Rows != 1 {
			t.Errorf("a row among others: got %+v", got)
		}
		if got := list(t, db, audit.Filter{From: at.Add(time.Hour)}); len(got) != 21 {
			t.Errorf("from: got %d", len(got))
		}
		if got := list(t, db, audit.Filter{Action: audit.ActionOpen}); len(got) != 1 {
			t.Errorf("open: got %+v", got)
		}
		for _, f := range []audit.Filter{{After: "x"}, {ID: "x"}} {
			if err := audit.List(t.Context(), db.DB, db.dialect, f, nil); err == nil {
				t.Errorf("%+v is not an error", f)
			}
		}
	})
}
