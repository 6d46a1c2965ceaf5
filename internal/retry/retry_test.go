package retry_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lib/pq"

	"github.com/credent-go/credent/internal/retry"
)

var errFull = &pq.Error{Code: "53100", Message: "disk full"}

func TestDo(t *testing.T) {
	t.Parallel()
	other := errors.New("other")
	for name, c := range map[string]struct {
		policy  retry.Policy
		results []error // by try; the last one repeats
		tries   int     // 0 for more than 10
		want    error   // nil for success
		longest time.Duration
	}{
		"at once":           {results: []error{nil}, tries: 1},
		"after a while":     {results: []error{io.EOF, io.EOF, nil}, tries: 3, longest: time.Second},
		"not another error": {results: []error{other}, tries: 1, want: other},
		"not a full disk":   {results: []error{errFull}, tries: 1, want: retry.ErrNoSpace},
		"no limit of its own": {
			results: []error{io.EOF}, want: retry.ErrConnectionLost,
			longest: retry.DefaultLimit,
		},
		"until the limit": {
			policy: retry.Policy{Limit: time.Minute}, results: []error{io.EOF},
			want: io.EOF, longest: time.Minute,
		},
		"no retry": {
			policy: retry.Policy{Limit: -1}, results: []error{io.EOF}, tries: 1,
			want: retry.ErrConnectionLost,
		},
		"a final kind": {
			policy:  retry.Policy{Final: []retry.Kind{retry.Lost}},
			results: []error{io.EOF}, tries: 1, want: io.EOF,
		},
		"a permanent error": {results: []error{retry.Permanent(io.EOF)}, tries: 1, want: io.EOF},
		"another error ends it": {
			results: []error{io.EOF, other}, tries: 2, want: other,
			longest: time.Second,
		},
		"an explained error": {
			results: []error{retry.Explain(io.EOF), nil}, tries: 2,
			longest: time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tries, told, paused := 0, 0, time.Duration(0)
				c.policy.Notify = func(w retry.Wait) {
					told++
					paused += w.Pause
					if w.Err == nil || w.Err.Tries != tries {
						t.Errorf("told %v after %d tries", w.Err, tries)
					}
				}
				start := time.Now()
				err := c.policy.Do(t.Context(), func() error {
					tries++
					return c.results[min(tries, len(c.results))-1]
				})
				if !errors.Is(err, c.want) || c.tries > 0 && tries != c.tries || c.tries == 0 && tries < 11 ||
					told != tries-1 {
					t.Errorf("got %v after %d tries, %d told", err, tries, told)
				}
				if d := time.Since(start); d > c.longest || d != paused {
					t.Errorf("it took %s, with pauses of %s", d, paused)
				}
			})
		})
	}
}

// TestDoEndsWithContext checks that a pause ends with the context, and that the
// error has the last failure.
func TestDoEndsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var at time.Time
		err := retry.Policy{Notify: func(w retry.Wait) {
			if w.Pause > time.Second {
				time.AfterFunc(w.Pause/2, func() { at = time.Now(); cancel() })
			}
		}}.Do(ctx, func() error { return io.EOF })
		if !errors.Is(err, context.Canceled) || !errors.Is(err, retry.ErrConnectionLost) || !time.Now().Equal(at) {
			t.Errorf("got %v, %s late", err, time.Since(at))
		}
	})
}
