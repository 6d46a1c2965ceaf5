package ledger_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib" // the Postgres driver
	_ "modernc.org/sqlite"             // the SQLite driver

	"github.com/credent-go/credent/internal/ledger"
	"github.com/credent-go/credent/internal/pgserver"
)

var server *pgserver.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if server, err = pgserver.Start(context.Background(), pgserver.Shared()); err != nil {
		log.Print(err)
		return 1
	}
	defer func() { _ = server.Stop() }()
	return m.Run()
}

// forEach runs a test on each kind of database, with the table in place.
func forEach(t *testing.T, test func(t *testing.T, db *sql.DB, sqlite bool)) {
	t.Helper()
	for _, d := range []string{dialect.Postgres, dialect.SQLite} {
		t.Run(d, func(t *testing.T) {
			t.Parallel()
			driver, name := "sqlite", "file:"+filepath.Join(t.TempDir(), "x.db")+
				"?_pragma=busy_timeout(10000)&_txlock=immediate"
			if d == dialect.Postgres {
				url, drop, err := server.CreateDatabase(t.Context(), "")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = drop() })
				driver, name = "pgx", url
			}
			db, err := sql.Open(driver, name)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			sqlite := d == dialect.SQLite
			if ok, err := ledger.Usable(t.Context(), db, sqlite); err != nil || ok {
				t.Fatalf("usable without the table: %t, %v", ok, err)
			}
			for _, statement := range ledger.CreateTable(d) {
				exec(t, db, statement)
			}
			if ok, err := ledger.Usable(t.Context(), db, sqlite); err != nil || !ok {
				t.Fatalf("not usable: %v", err)
			}
			test(t, db, sqlite)
		})
	}
}

func exec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// book is the interface of both kinds of ledger.
type book interface {
	Open(ctx context.Context, plan func() (ledger.Plan, error)) (ledger.State, bool, error)
	State(ctx context.Context) (ledger.State, error)
	Claim(ctx context.Context, worker, pass int) (ledger.Part, bool, error)
	Save(ctx context.Context, worker int, p ledger.Part, release bool) (bool, error)
	Finish(ctx context.Context, worker int, p ledger.Part) (bool, error)
	Next(ctx context.Context, from int, since, began string) error
	Drop(ctx context.Context) error
}

func open(t *testing.T, b book, bounds ...string) (ledger.State, bool) {
	t.Helper()
	state, existed, err := b.Open(t.Context(),
		func() (ledger.Plan, error) { return ledger.Plan{Bounds: bounds, Began: "then"}, nil })
	if err != nil {
		t.Fatal(err)
	}
	return state, existed
}

func claim(t *testing.T, b book, worker, pass, want int) ledger.Part {
	t.Helper()
	p, ok, err := b.Claim(t.Context(), worker, pass)
	if err != nil || ok != (want > 0) || p.Number != want {
		t.Fatalf("claimed %+v, %t, %v, want part %d", p, ok, err, want)
	}
	return p
}

func held(t *testing.T, want bool) func(got bool, err error) {
	t.Helper()
	return func(got bool, err error) {
		t.Helper()
		if err != nil || got != want {
			t.Fatalf("held %t, %v", got, err)
		}
	}
}

// TestLedger makes two passes with two workers.
func TestLedger(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) { t.Parallel(); passes(t, new(ledger.Memory)) })
	forEach(t, func(t *testing.T, db *sql.DB, sqlite bool) {
		passes(t, ledger.NewStored(db, sqlite, "goal", "docs"))
	})
}

func passes(t *testing.T, b book) {
	t.Helper()
	ctx := t.Context()
	want := ledger.State{Pass: 1, Began: "then", Left: 3, Free: 3}
	state, existed := open(t, b, "f", "m")
	if diff := cmp.Diff(want, state); diff != "" || existed {
		t.Fatalf("existed %t: %s", existed, diff)
	}
	if _, existed := open(t, b, "z"); !existed {
		t.Error("it began twice")
	}
	first := claim(t, b, 0, 1, 1)
	if diff := cmp.Diff(ledger.Part{Number: 1, UpTo: "f", Pass: 1}, first); diff != "" {
		t.Error(diff)
	}
	second := claim(t, b, 1, 1, 2)
	if second.After != "f" || second.UpTo != "m" {
		t.Errorf("%+v", second)
	}
	first.At, first.Counts = "b", ledger.Counts{Read: 5, Found: 2, Skipped: 1, Quarantined: 1}
	held(t, true)(b.Save(ctx, 0, first, true))
	if again := claim(t, b, 0, 1, 1); !cmp.Equal(again, first) {
		t.Errorf("%+v, want %+v", again, first)
	}
	held(t, true)(b.Finish(ctx, 0, first))
	held(t, true)(b.Finish(ctx, 1, second))
	third := claim(t, b, 0, 1, 3)
	claim(t, b, 1, 1, 0)
	held(t, true)(b.Finish(ctx, 0, third))
	want.Left, want.Free, want.Counts = 0, 0, first.Counts
	if state, err := b.State(ctx); err != nil || !cmp.Equal(state, want) {
		t.Errorf("%v: %s", err, cmp.Diff(want, state))
	}
	for range 2 { // the second call has no effect
		if err := b.Next(ctx, 1, "", "now"); err != nil {
			t.Fatal(err)
		}
	}
	claim(t, b, 0, 1, 0) // of a finished pass
	if p := claim(t, b, 0, 2, 1); p.At != "" || p.Counts != (ledger.Counts{}) {
		t.Errorf("the new pass starts with the state %+v", p)
	}
	if state, err := b.State(ctx); err != nil ||
		!cmp.Equal(state, ledger.State{Pass: 2, Began: "now", Left: 3, Free: 2}) {
		t.Errorf("%+v, %v", state, err)
	}
	if err := b.Drop(ctx); err != nil {
		t.Fatal(err)
	}
	if state, existed := open(t, b); existed || state.Left != 1 {
		t.Errorf("after Drop %+v, %t", state, existed)
	}
}

// TestShared hands each part to exactly one process, and tells each process how
// many rows the others have read.
func TestShared(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *sql.DB, sqlite bool) {
		const parts, processes = 40, 4
		var (
			mu    sync.Mutex
			taken = make(map[int]int)
			wg    sync.WaitGroup
		)
		for process := range processes {
			b := ledger.NewStored(db, sqlite, "goal", "docs")
			wg.Go(func() {
				var bounds []string
				for i := 1; i < parts; i++ {
					bounds = append(bounds, fmt.Sprintf("%d/%03d", process, i))
				}
				_, _, err := b.Open(t.Context(),
					func() (ledger.Plan, error) { return ledger.Plan{Bounds: bounds}, nil })
				for own := int64(0); err == nil; own++ {
					var (
						p     ledger.Part
						ok    bool
						state ledger.State
					)
					if p, ok, err = b.Claim(t.Context(), 0, 1); err != nil || !ok {
						break
					}
					mu.Lock()
					taken[p.Number]++
					mu.Unlock()
					p.Counts.Read = 1
					if _, err = b.Finish(t.Context(), 0, p); err != nil {
						break
					}
					if state, err = b.State(t.Context()); err == nil && state.Counts.Read-state.Others != own+1 {
						err = fmt.Errorf("others read %d of %d rows, want all but %d", state.Others,
							state.Counts.Read, own+1)
					}
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for n, times := range taken {
			if times > 1 {
				t.Errorf("part %d was given to %d", n, times)
			}
		}
		if len(taken) != parts {
			t.Errorf("%d parts", len(taken))
		}
		if state, err := ledger.NewStored(db, sqlite, "goal", "docs").State(t.Context()); err != nil ||
			state.Left != 0 {
			t.Errorf("%+v, %v", state, err)
		}
	})
}

// TestLease hands a silent worker's part to another worker, which continues
// from the saved position. The first worker learns of it.
func TestLease(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *sql.DB, sqlite bool) {
		killed, other := ledger.NewStored(db, sqlite, "goal", "docs"), ledger.NewStored(db, sqlite, "goal", "docs")
		open(t, killed)
		p := claim(t, killed, 0, 1, 1)
		p.At, p.Counts.Read = "k", 7
		held(t, true)(killed.Save(t.Context(), 0, p, false))
		claim(t, other, 0, 1, 0)
		killed.LeaseFor(-time.Second)
		held(t, true)(killed.Save(t.Context(), 0, p, false))
		if got := claim(t, other, 0, 1, 1); !cmp.Equal(got, p) {
			t.Errorf("%+v, want %+v", got, p)
		}
		held(t, false)(killed.Save(t.Context(), 0, p, false))
		held(t, false)(killed.Finish(t.Context(), 0, p))
		held(t, true)(other.Finish(t.Context(), 0, p))
		held(t, true)(other.Finish(t.Context(), 0, p)) // as after a lost answer
	})
}

// TestLeave frees all parts of a stopped process at once, including a part that
// its worker doesn't know it has.
func TestLeave(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *sql.DB, sqlite bool) {
		stopped, other := ledger.NewStored(db, sqlite, "goal", "docs"), ledger.NewStored(db, sqlite, "goal", "docs")
		elsewhere := ledger.NewStored(db, sqlite, "another goal", "docs")
		open(t, stopped, "f", "m")
		open(t, elsewhere)
		claim(t, elsewhere, 0, 1, 1)
		claim(t, stopped, 0, 1, 1)
		p := claim(t, stopped, 1, 1, 2)
		claim(t, other, 0, 1, 3)
		if err := stopped.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		claim(t, other, 1, 1, 1)
		claim(t, other, 2, 1, 2)
		claim(t, other, 3, 1, 0)
		held(t, false)(stopped.Finish(t.Context(), 1, p))
		claim(t, ledger.NewStored(db, sqlite, "another goal", "docs"), 0, 1, 0)
	})
}

// TestAnswerLost returns the same part to a worker that missed the answer to
// its claim.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *sql.DB, sqlite bool) {
		b := ledger.NewStored(db, sqlite, "goal", "docs")
		open(t, b, "f", "m")
		claim(t, b, 3, 1, 1)
		claim(t, b, 3, 1, 1)
		claim(t, b, 4, 1, 2)
	})
}

// TestLost starts over when rows are missing or changed.
func TestLost(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"all":     "DELETE FROM credent_progress",
		"a part":  "DELETE FROM credent_progress WHERE part = 2",
		"work":    "DELETE FROM credent_progress WHERE part = 0",
		"a bound": "UPDATE credent_progress SET up_to_key = 'g' WHERE part = 1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEach(t, func(t *testing.T, db *sql.DB, sqlite bool) {
				b := ledger.NewStored(db, sqlite, "goal", "docs")
				open(t, b, "f", "m")
				held(t, true)(b.Finish(t.Context(), 0, claim(t, b, 0, 1, 1)))
				exec(t, db, statement)
				if _, err := b.State(t.Context()); name != "a bound" && !errors.Is(err, ledger.ErrLost) {
					t.Errorf("state: %v", err)
				}
				if state, existed := open(t, b, "f", "m"); existed || state.Left != 3 {
					t.Errorf("%+v, %t", state, existed)
				}
				claim(t, b, 0, 1, 1)
			})
		})
	}
}

// TestForgotten deletes long-abandoned jobs when another job begins.
func TestForgotten(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *sql.DB, sqlite bool) {
		old, recent := ledger.NewStored(db, sqlite, "old", "docs"), ledger.NewStored(db, sqlite, "recent", "docs")
		open(t, old)
		open(t, recent)
		exec(t, db, "UPDATE credent_progress SET updated_at = '2020-01-01 00:00:00' WHERE goal = 'old'")
		open(t, ledger.NewStored(db, sqlite, "new", "docs"))
		if _, err := old.State(t.Context()); !errors.Is(err, ledger.ErrLost) {
			t.Errorf("the old job: %v", err)
		}
		if _, err := recent.State(t.Context()); err != nil {
			t.Errorf("the recent job: %v", err)
		}
	})
}

// TestNextRelies starts no pass over only some rows while a part is unfinished
// or has skipped rows: a fail-over can lose a reported state.
func TestNextRelies(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *sql.DB, sqlite bool) {
		b := ledger.NewStored(db, sqlite, "goal", "docs")
		open(t, b, "m")
		for _, step := range []struct {
			counts ledger.Counts
			pass   int
		}{{ledger.Counts{Read: 1}, 1}, {ledger.Counts{Skipped: 1}, 1}} {
			held(t, true)(b.Finish(t.Context(), 0, func() ledger.Part {
				p, _, err := b.Claim(t.Context(), 0, 1)
				if err != nil {
					t.Fatal(err)
				}
				p.Counts = step.counts
				return p
			}()))
			if err := b.Next(t.Context(), 1, "since", "now"); err != nil {
				t.Fatal(err)
			}
			if state, err := b.State(t.Context()); err != nil || state.Pass != step.pass {
				t.Errorf("after %+v: %+v, %v", step.counts, state, err)
			}
		}
		exec(t, db, "UPDATE credent_progress SET rows_skipped = 0")
		if err := b.Next(t.Context(), 1, "since", "now"); err != nil {
			t.Fatal(err)
		}
		if state, err := b.State(t.Context()); err != nil || state.Pass != 2 || state.Since != "since" {
			t.Errorf("%+v, %v", state, err)
		}
	})
}
