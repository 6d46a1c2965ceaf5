//go:build linux || darwin

package pgreplica_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	_ "github.com/lib/pq"

	"github.com/credent-go/credent/internal/pgreplica"
)

// within limits each step of a test, which normally takes milliseconds.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func primary(t *testing.T) *pgreplica.Server {
	t.Helper()
	return started(t)(pgreplica.Start(within(t)))
}

func started(t *testing.T) func(*pgreplica.Server, error) *pgreplica.Server {
	t.Helper()
	return func(s *pgreplica.Server, err error) *pgreplica.Server {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("postgres", url)
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec(t *testing.T, db *sql.DB, query string) {
	t.Helper()
	_, err := db.ExecContext(within(t), query)
	must(t, err)
}

func sum(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	must(t, db.QueryRowContext(within(t), "SELECT coalesce(sum(n), 0) FROM t").Scan(&n))
	return n
}

// A fail-over loses what a standby hasn't received, but not what it has merely
// not replayed. The other standby follows the promoted one, and one URL always
// leads to the primary.
func TestFailOver(t *testing.T) {
	t.Parallel()
	first := primary(t)
	second := started(t)(first.AddStandby(within(t)))
	third := started(t)(first.AddStandby(within(t)))
	url, err := pgreplica.URL("postgres", first, second)
	must(t, err)
	db := open(t, url)
	exec(t, db, "CREATE TABLE t (n int)")
	exec(t, db, "INSERT INTO t VALUES (1)")
	must(t, second.WaitFor(within(t), first))
	must(t, third.WaitFor(within(t), first))

	must(t, second.PauseReplay(within(t)))
	exec(t, db, "INSERT INTO t VALUES (10)") // third has it, and second will
	must(t, third.WaitFor(within(t), first))
	if got := sum(t, open(t, second.URL("postgres"))); got != 1 {
		t.Errorf("a standby that is paused shows %d", got)
	}
	must(t, second.ResumeReplay(within(t)))
	must(t, second.WaitFor(within(t), first))
	must(t, second.StopReceiving(within(t)))
	must(t, third.StopReceiving(within(t)))
	exec(t, db, "INSERT INTO t VALUES (100)") // no standby has it
	if got := sum(t, db); got != 111 {
		t.Errorf("the primary has %d", got)
	}

	must(t, first.Kill())
	must(t, second.Promote(within(t)))
	var got int
	for { // the pool's broken connection fails once or twice
		if err = db.QueryRowContext(within(t), "SELECT sum(n) FROM t").Scan(&got); err == nil ||
			within(t).Err() != nil {
			break
		}
	}
	if got != 11 || err != nil {
		t.Errorf("the promoted server has %d, %v", got, err)
	}
	must(t, third.Follow(within(t), second))
	exec(t, db, "INSERT INTO t VALUES (1000)")
	must(t, third.WaitFor(within(t), second))
	if got := sum(t, open(t, third.URL("postgres"))); got != 1011 {
		t.Errorf("the other standby has %d", got)
	}
}

// A commit that waits for a standby survives the primary's end, and keeps
// waiting while there is no standby.
func TestSynchronous(t *testing.T) {
	t.Parallel()
	first := primary(t)
	second := started(t)(first.AddStandby(within(t)))
	must(t, first.Synchronous(within(t), 1))
	db := open(t, first.URL("postgres"))
	exec(t, db, "CREATE TABLE t (n int)")
	exec(t, db, "INSERT INTO t VALUES (1)")
	must(t, second.StopReceiving(within(t)))
	done := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(within(t), "INSERT INTO t VALUES (10)")
		done <- err
	}()
	admin := open(t, first.URL("postgres"))
	for waiting := false; !waiting; {
		must(t, admin.QueryRowContext(within(t),
			"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')").Scan(&waiting))
	}
	must(t, first.Kill())
	if err := <-done; err == nil {
		t.Error("a commit was acknowledged without a standby")
	}
	must(t, second.Promote(within(t)))
	if got := sum(t, open(t, second.URL("postgres"))); got != 1 {
		t.Errorf("the promoted server has %d", got)
	}
}
