package lockwait_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/lib/pq"

	"github.com/credent-go/credent/internal/lockwait"
)

var errLocked = &pq.Error{Code: "55P03", Message: "canceling statement due to lock timeout"}

func TestRetry(t *testing.T) {
	t.Parallel()
	holder := lockwait.Holder{PID: 7}
	t.Run("until it succeeds", func(t *testing.T) {
		t.Parallel()
		tries := 0
		err := lockwait.Policy{Limit: time.Hour}.Retry(t.Context(), func() error {
			if tries++; tries < 3 {
				return &lockwait.Error{Err: errLocked}
			}
			return nil
		})
		if err != nil || tries != 3 {
			t.Errorf("%d tries, %v", tries, err)
		}
	})
	t.Run("not another error", func(t *testing.T) {
		t.Parallel()
		tries, other := 0, errors.New("other")
		err := lockwait.Policy{Limit: time.Hour}.Retry(t.Context(), func() error { tries++; return other })
		if !errors.Is(err, other) || tries != 1 {
			t.Errorf("%d tries, %v", tries, err)
		}
	})
	t.Run("until the limit, and keeps the last holders", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			err := lockwait.Policy{Limit: 600 * time.Millisecond}.Retry(t.Context(), func() error {
				if tries++; tries == 1 {
					return &lockwait.Error{Table: "t", Holders: []lockwait.Holder{holder}, Err: errLocked}
				}
				return &lockwait.Error{Err: errLocked}
			})
			var blocked *lockwait.Error
			if !errors.As(err, &blocked) || !errors.Is(err, lockwait.ErrTimeout) || blocked.Tries != tries ||
				blocked.Table != "t" ||
				tries < 2 || cmp.Diff([]lockwait.Holder{holder}, blocked.Holders) != "" || !lockwait.Happened(err) {
				t.Errorf("%d tries, %+v", tries, err)
			}
		})
	})
	t.Run("one try", func(t *testing.T) {
		t.Parallel()
		tries := 0
		err := lockwait.Policy{}.Retry(t.Context(), func() error { tries++; return &lockwait.Error{Err: errLocked} })
		if !errors.Is(err, lockwait.ErrTimeout) || tries != 1 {
			t.Errorf("%d tries, %v", tries, err)
		}
	})
	t.Run("until it is canceled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		err := lockwait.Policy{Limit: time.Hour}.Retry(ctx,
			func() error { cancel(); return &lockwait.Error{Err: errLocked} })
		if !errors.Is(err, context.Canceled) || !errors.Is(err, lockwait.ErrTimeout) {
			t.Error(err)
		}
	})
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]*lockwait.Error{
		"rotate: other transactions hold a lock that is needed; waited 50ms": {
			Package: "rotate",
			Waited:  50 * time.Millisecond, Tries: 1, Err: errLocked,
		},
		`1_a.sql:3: other transactions hold a lock that is needed, on table t; waited 12.34s in 2 tries; held by pid 7 ` +
			`("pg_dump", idle in transaction, its transaction is 1m5s old), a prepared transaction (pg_prepared_xacts); nothing was changed`: {
			File: "1_a.sql", Line: 3, Table: "t", Waited: 12340 * time.Millisecond, Tries: 2,
			Note: "nothing was changed",
			Holders: []lockwait.Holder{{
				PID: 7, Application: "pg_dump", State: "idle in transaction",
				Age: 65 * time.Second,
			}, {}}, Err: errLocked,
		},
	} {
		if diff := cmp.Diff(want, err.Error()); diff != "" {
			t.Error(diff)
		}
	}
}
