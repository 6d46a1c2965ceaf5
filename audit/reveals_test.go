package audit_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent/audit"
)

// TestReveals takes reveals of one kind from several goroutines, through
// Reveals and Add, and finds each of them once, in few rows.
func TestReveals(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, db database) {
		ring := newRing(t)
		trail := newTrail(t, db, audit.Config{Keyring: ring})
		odd := []any{"a\nb", "", 17, int64(18), time.Second, []byte("not a key"), strings.Repeat("x", 2*audit.MaxText)}
		want := map[string]int{
			"a\nb": 1, "": 2, "17": 1, "18": 1, "1s": 1, strings.Repeat("x", audit.MaxText-3) + "…": 1,
		}
		same := trail.Reveals(reveal("any"))
		var (
			wg sync.WaitGroup
			mu sync.Mutex
		)
		for worker := range 8 {
			own := trail.Reveals(reveal("another"))
			wg.Go(func() {
				for i := range 100 {
					id, row := uuid.New(), rowName(worker, i)
					mu.Lock()
					want[id.String()], want[row] = 2, 1
					mu.Unlock()
					for _, err := range []error{
						own.Add(t.Context(), id), same.Add(t.Context(), id), trail.Add(t.Context(), reveal(row)),
					} {
						if err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		for _, row := range odd {
			do(t, same.Add(t.Context(), row))
		}
		wg.Wait()
		do(t, trail.Flush(t.Context()))
		got := make(map[string]int)
		for _, s := range list(t, db, audit.Filter{Action: audit.ActionReveal}) {
			got[s.Row]++
			want := reveal(s.Row)
			want.ID, want.At, want.Rows, want.Outcome = s.ID, s.At, 1, audit.OutcomeOK
			if s.Entry != want || time.Since(s.At) > time.Hour {
				t.Errorf("got %+v, want %+v", s.Entry, want)
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("got %d rows, want %d", len(got), len(want))
		}
		if n := db.number(t, "SELECT count(*) FROM credent_audit WHERE action = 'reveal'"); n > 100 {
			t.Errorf("%d reveals are in %d rows", 8*300+len(odd), n)
		}
		sound(t, db, ring)
		if s := trail.Stats(); s.Waiting != 0 || s.Written != int64(8*300+len(odd)) || s.Queue != 1<<16 {
			t.Errorf("got %+v", s)
		}
	})
}

// TestRevealsWait covers a full queue, a closed trail, and a trail in Sync
// mode.
func TestRevealsWait(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db database) {
		ring := newRing(t)
		synced := newTrail(t, db, audit.Config{Keyring: ring, Mode: audit.Sync, Flush: time.Hour})
		for i := range 3 {
			do(t, synced.Reveals(reveal("")).Add(t.Context(), i))
			if got := list(t, db, audit.Filter{Row: fmt.Sprint(i)}); len(got) != 1 {
				t.Errorf("after Add the trail has %v", got)
			}
		}
		hold, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		full := newTrail(t, db, audit.Config{
			Keyring: ring, Queue: 4, Flush: time.Hour, WhenFull: audit.Refuse,
			OnError: func(error) { once.Do(func() { close(hold); <-release }) },
		})
		reveals := full.Reveals(reveal(""))
		db.exec(t, "ALTER TABLE credent_audit RENAME TO away")
		for i := range 4 {
			do(t, reveals.Add(t.Context(), i))
		}
		<-hold
		if err := reveals.Add(t.Context(), 4); !errors.Is(err, audit.ErrFull) {
			t.Errorf("a full queue: %v", err)
		}
		db.exec(t, "ALTER TABLE away RENAME TO credent_audit")
		close(release)
		do(t, full.Close(t.Context()))
		if err := reveals.Add(t.Context(), 5); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("a closed trail: %v", err)
		}
		if s := full.Stats(); s.Failures < 1 || s.Waiting != 0 {
			t.Errorf("got %+v", s)
		}
		sound(t, db, ring)
	})
}
