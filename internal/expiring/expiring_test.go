package expiring_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"entgo.io/ent"
	"github.com/google/uuid"

	credent "github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/expiring"
	"github.com/credent-go/credent/internal/fieldcrypt"
)

// clock is set by tests.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

// row returns an active credential that expires at the given time.
func row(at time.Time, change ...func(*credent.UserCredential)) *credent.UserCredential {
	r := &credent.UserCredential{
		ID: uuid.New(), UserID: "u-1", CredentialType: "alpaca", IsActive: true, ExpiresAt: &at,
		CreatedAt: time.Unix(1, 0), APIKey: fieldcrypt.New("PK"), SecretKey: fieldcrypt.New("s"),
	}
	for _, f := range change {
		f(r)
	}
	return r
}

// read passes a query's result to a watcher.
func read(ctx context.Context, t *testing.T, w *expiring.Watcher, value any) {
	t.Helper()
	got, err := w.Intercept(ent.QuerierFunc(func(context.Context, ent.Query) (ent.Value, error) {
		return value, nil
	})).Query(ctx, nil)
	if err != nil {
		t.Error(err)
	}
	want, _ := value.([]*credent.UserCredential)
	if rows, _ := got.([]*credent.UserCredential); !slices.Equal(rows, want) {
		t.Errorf("the result is %v", got)
	}
}

// query returns the context of a query.
func query(t *testing.T, entity string, fields ...string) context.Context {
	t.Helper()
	return ent.NewQueryContext(t.Context(), &ent.QueryContext{Type: entity, Fields: fields})
}

func TestWhatIsTold(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	disabled := func(r *credent.UserCredential) { r.IsActive = false }
	for name, test := range map[string]struct {
		ctx  context.Context
		row  *credent.UserCredential
		want time.Duration // left
		told bool
	}{
		"soon":          {t.Context(), row(now.Add(time.Hour)), time.Hour, true},
		"at the limit":  {t.Context(), row(now.Add(48 * time.Hour)), 48 * time.Hour, true},
		"later":         {t.Context(), row(now.Add(48*time.Hour + 1)), 0, false},
		"now":           {t.Context(), row(now), 0, true},
		"expired":       {t.Context(), row(now.Add(-time.Hour)), -time.Hour, true},
		"another place": {t.Context(), row(now.Add(time.Hour).In(time.FixedZone("", 7200))), time.Hour, true},
		"never":         {t.Context(), row(now, func(r *credent.UserCredential) { r.ExpiresAt = nil }), 0, false},
		"one secret": {t.Context(), row(now, func(r *credent.UserCredential) {
			r.APIKey = fieldcrypt.Secret{}
		}), 0, true},
		"no secret": {t.Context(), row(now, func(r *credent.UserCredential) {
			r.APIKey, r.SecretKey = fieldcrypt.Secret{}, fieldcrypt.Secret{}
		}), 0, false},
		"disabled":                  {query(t, credent.TypeUserCredential), row(now, disabled), 0, false},
		"disabled, of an account":   {query(t, credent.TypeUserAccount), row(now, disabled), 0, false},
		"disabled, by another hand": {t.Context(), row(now, disabled), 0, false},
		"disabled, as selected": {
			query(t, credent.TypeUserCredential, usercredential.FieldIsActive), row(now, disabled), 0, false,
		},
		"nobody knows": {
			query(t, credent.TypeUserCredential, usercredential.FieldCreatedAt), row(now, disabled), 0, true,
		},
		"nobody knows, of an account": {
			query(t, credent.TypeUserAccount), row(now, disabled, func(r *credent.UserCredential) {
				r.CreatedAt = time.Time{}
			}), 0, true,
		},
	} {
		var told []expiring.Event
		w := expiring.New(48*time.Hour, func(ctx context.Context, e expiring.Event) {
			if ctx != test.ctx {
				t.Errorf("%s: another context", name)
			}
			told = append(told, e)
		}, (&clock{now}).now)
		read(test.ctx, t, w, []*credent.UserCredential{test.row})
		var want []expiring.Event
		if test.told {
			want = []expiring.Event{{
				Row: test.row.ID, UserID: "u-1", CredentialType: "alpaca", ExpiresAt: test.row.ExpiresAt.UTC(),
				Left: test.want,
			}}
		}
		if !slices.Equal(told, want) {
			t.Errorf("%s: got %+v, want %+v", name, told, want)
		}
	}
}

func TestDefaultIsThirtyDays(t *testing.T) {
	t.Parallel()
	now := time.Now()
	told := 0
	w := expiring.New(0, func(context.Context, expiring.Event) { told++ }, (&clock{now}).now)
	month := 30 * 24 * time.Hour
	read(t.Context(), t, w, []*credent.UserCredential{row(now.Add(month)), row(now.Add(month + time.Second))})
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

// A credential is reported once per period, and again after it has expired.
func TestOncePerPeriod(t *testing.T) {
	t.Parallel()
	c := &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	var told []string
	names := make(map[uuid.UUID]string)
	w := expiring.New(24*time.Hour, func(_ context.Context, e expiring.Event) {
		name := names[e.Row]
		if e.Left <= 0 {
			name += " expired"
		}
		told = append(told, name)
	}, c.now)
	soon, other := row(c.at.Add(20*time.Minute)), row(c.at.Add(20*time.Hour))
	names[soon.ID], names[other.ID] = "soon", "other"
	for _, step := range []struct {
		after time.Duration
		want  []string
	}{
		{0, []string{"soon", "other"}},
		{0, nil},
		{19 * time.Minute, nil},
		{time.Minute, []string{"soon expired"}},
		{39 * time.Minute, nil},
		{time.Minute, []string{"other"}}, // an hour after the first report
		{20 * time.Minute, []string{"soon expired"}},
		{39 * time.Minute, nil},
		{3 * time.Hour, []string{"soon expired", "other"}},
	} {
		c.at = c.at.Add(step.after)
		told = nil
		read(t.Context(), t, w, []*credent.UserCredential{soon, other})
		if !slices.Equal(told, step.want) {
			t.Errorf("%s: got %q, want %q", c.at.Format(time.TimeOnly), told, step.want)
		}
	}
}

// However many credentials expire, each is reported, and the memory used is
// bounded.
func TestManyExpire(t *testing.T) {
	t.Parallel()
	c := &clock{time.Now()}
	told := 0
	w := expiring.New(time.Hour, func(context.Context, expiring.Event) { told++ }, c.now)
	rows := make([]*credent.UserCredential, 100_000)
	for i := range rows {
		rows[i] = row(c.at)
	}
	read(t.Context(), t, w, rows)
	if told != len(rows) {
		t.Errorf("told of %d", told)
	}
	if n := w.Remembered(); n > 2<<15 {
		t.Errorf("it remembers %d", n)
	}
	read(t.Context(), t, w, rows[len(rows)-100:])
	if told != len(rows) {
		t.Errorf("the last ones are reported again: %d", told-len(rows))
	}
}

func TestConcurrentReads(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var told atomic.Int64
	w := expiring.New(time.Hour, func(context.Context, expiring.Event) { told.Add(1) }, time.Now)
	rows := make([]*credent.UserCredential, 100)
	for i := range rows {
		rows[i] = row(now.Add(30 * time.Minute))
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				read(t.Context(), t, w, rows)
			}
		})
	}
	wg.Wait()
	if told.Load() != int64(len(rows)) {
		t.Errorf("%d reports of %d credentials", told.Load(), len(rows))
	}
}

// Errors and other kinds of results pass through.
func TestOthersPass(t *testing.T) {
	t.Parallel()
	w := expiring.New(time.Hour, func(context.Context, expiring.Event) { t.Error("told") }, time.Now)
	read(t.Context(), t, w, []*credent.UserCredential{})
	failed := errors.New("failed")
	for _, value := range []any{
		3,
		[]string{"a"},
		[]*credent.UserAccount{{}},
		[]*credent.UserCredential{row(time.Now())},
	} {
		for _, err := range []error{nil, failed} {
			if _, ok := value.([]*credent.UserCredential); ok && err == nil {
				continue
			}
			got, gotErr := w.Intercept(ent.QuerierFunc(func(context.Context, ent.Query) (ent.Value, error) {
				return value, err
			})).Query(t.Context(), nil)
			if got == nil || !errors.Is(gotErr, err) {
				t.Errorf("got %v, %v", got, gotErr)
			}
		}
	}
}
