package ledger_test

import (
	"context"
	"database/sql"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/credent-go/credent/internal/ledger"
)

// whole is the interface of both kinds of ledger for a pass that can't be
// divided.
type whole interface {
	book
	NextWhole(ctx context.Context, from int, since, began string) error
	Positions(ctx context.Context) ([]string, error)
}

// A pass that can't be divided has one part. Its worker finds the previous
// pass's positions, even if another worker was killed on it.
func TestNextWhole(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) { t.Parallel(); nextWhole(t, new(ledger.Memory)) })
	forEach(t, func(t *testing.T, db *sql.DB, sqlite bool) {
		nextWhole(t, ledger.NewStored(db, sqlite, "goal", "docs"))
	})
}

func nextWhole(t *testing.T, b whole) {
	t.Helper()
	ctx := t.Context()
	open(t, b, "f", "m")
	for i, at := range []string{"a", "g", ""} {
		p := claim(t, b, 0, 1, i+1)
		p.At, p.Counts = at, ledger.Counts{Read: 5, Found: 2, Quarantined: int64(i)}
		held(t, true)(b.Finish(ctx, 0, p))
	}
	for range 2 { // the second call has no effect
		if err := b.NextWhole(ctx, 1, "then", "now"); err != nil {
			t.Fatal(err)
		}
	}
	want := ledger.State{Pass: 2, Since: "then", Began: "now", Left: 1, Free: 1, Counts: ledger.Counts{Quarantined: 3}}
	if state, err := b.State(ctx); err != nil || !cmp.Equal(state, want) {
		t.Errorf("%v: %s", err, cmp.Diff(want, state))
	}
	p := claim(t, b, 0, 2, 1)
	if p.At != "a" {
		t.Errorf("%+v", p)
	}
	claim(t, b, 1, 2, 0)
	sorted := cmpopts.SortSlices(func(a, b string) bool { return a < b })
	if all, err := b.Positions(ctx); err != nil || !cmp.Equal(all, []string{"a", "g"}, sorted) {
		t.Errorf("%v, %v", all, err)
	}
	p.Counts.Found = 1
	held(t, true)(b.Finish(ctx, 0, p))
	want.Left, want.Free, want.Counts.Found = 0, 0, 1
	if state, err := b.State(ctx); err != nil || !cmp.Equal(state, want) {
		t.Errorf("%v: %s", err, cmp.Diff(want, state))
	}
	// A pass over all keys keeps none of them.
	if err := b.Next(ctx, 2, "", "later"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if p := claim(t, b, i, 3, i+1); p.At != "" || p.Counts != (ledger.Counts{}) {
			t.Errorf("%+v", p)
		}
	}
}

// If two processes begin different kinds of pass at once, only one succeeds.
// Parts of a pass over all keys never count as finished.
func TestNextOfTwoKinds(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *sql.DB, sqlite bool) {
		b := ledger.NewStored(db, sqlite, "goal", "docs")
		open(t, b, "f", "m")
		for pass := 1; pass < 20; pass++ {
			for {
				p, ok, err := b.Claim(t.Context(), 0, pass)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				held(t, true)(b.Finish(t.Context(), 0, p))
			}
			var wg sync.WaitGroup
			errs := make([]error, 2)
			wg.Go(func() { errs[0] = b.Next(t.Context(), pass, "", "all") })
			wg.Go(func() { errs[1] = b.NextWhole(t.Context(), pass, "then", "whole") })
			wg.Wait()
			state, err := b.State(t.Context())
			if err != nil || errs[0] != nil || errs[1] != nil {
				t.Fatal(err, errs)
			}
			left := map[string]int{"all": 3, "whole": 1}[state.Began]
			if state.Pass != pass+1 || state.Left != left {
				t.Errorf("%+v", state)
			}
		}
	})
}

// An unfinished part or a skipped row keeps it from beginning.
func TestNextWholeRelies(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *sql.DB, sqlite bool) {
		b := ledger.NewStored(db, sqlite, "goal", "docs")
		open(t, b, "m")
		held(t, true)(b.Finish(t.Context(), 0, claim(t, b, 0, 1, 1)))
		second := claim(t, b, 0, 1, 2)
		begins := func(want bool) {
			t.Helper()
			if err := b.NextWhole(t.Context(), 1, "then", "now"); err != nil {
				t.Fatal(err)
			}
			if state, err := b.State(t.Context()); err != nil || (state.Pass == 2) != want {
				t.Errorf("%+v, %v", state, err)
			}
		}
		begins(false)
		second.Counts.Skipped = 1
		held(t, true)(b.Finish(t.Context(), 0, second))
		begins(false)
		exec(t, db, "UPDATE credent_progress SET rows_skipped = 0, quarantined = 1")
		begins(true)
	})
}
