package rotate

import (
	"context"
	"database/sql"
	"syscall"
	"testing"

	"github.com/credent-go/credent/internal/pgserver"
)

// A server that recovers from a crash of one of its processes may have lost
// transactions and reuse their numbers, although its start time doesn't change.
func TestHorizonBehindACrash(t *testing.T) {
	t.Parallel()
	server := pgserver.ForTest(t, pgserver.Private(), pgserver.WithSetting("restart_after_crash", "on"))
	db, err := sql.Open("pgx", server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, statement := range []string{"CREATE TABLE plan_t (id int PRIMARY KEY)", "CHECKPOINT"} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	since := func() (text string) {
		t.Helper()
		if err := db.QueryRowContext(t.Context(), "SELECT pg_postmaster_start_time()::text").Scan(&text); err != nil {
			t.Fatal(err)
		}
		return text
	}
	s, tab := postgres{db}, table{name: "plan_t"}
	before, err := s.horizon(t.Context(), tab)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.horizon(t.Context(), tab)
	if err != nil || !before.isSeenFrom(again) {
		t.Fatalf("%+v, then %+v, %v", before, again, err)
	}
	ran := since()
	crash(t, db)
	after, err := s.horizon(t.Context(), tab)
	if err != nil || before.isSeenFrom(after) || !after.inHeap() || since() != ran {
		t.Errorf("%+v, then %+v, %v", before, after, err)
	}
}

// crash kills one of the server's processes, and returns when the server
// answers again.
func crash(t *testing.T, db *sql.DB) {
	t.Helper()
	victim, witness := connection(t, db), connection(t, db)
	var pid int
	if err := victim.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for answers := true; answers; {
		_, err := witness.ExecContext(t.Context(), "SELECT")
		answers = err == nil
	}
	for answers := false; !answers; {
		answers = db.PingContext(t.Context()) == nil
	}
}

func connection(t *testing.T, db *sql.DB) *sql.Conn {
	t.Helper()
	c, err := db.Conn(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
