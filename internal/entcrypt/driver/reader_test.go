package driver_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/principal"
)

// A value that opens but doesn't decode is reported to OnReveal once, as a
// failure, since Reveal fails.
func TestObserverIsToldOfUndecodable(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	for name, test := range map[string]struct {
		plaintext string
		want      error
	}{"JSON": {`{"url":["u"]}`, nil}, "no JSON": {"plain", fieldcrypt.ErrValue}} {
		var events []seal.Reveal
		cfg := driver.Config{Keyring: r, OnReveal: func(e seal.Reveal) { events = append(events, e) }}
		rows := query(t, &fakeRows{
			columns: []string{"id", "hook"},
			rows:    [][]any{{int64(7), encrypt(t, r, test.plaintext)}},
		}, cfg, "Ledger")
		rows.Next()
		var (
			id    int64
			value fieldcrypt.Value[map[string]any]
		)
		if err := rows.Scan(&id, &value); err != nil {
			t.Fatal(err)
		}
		_, err := value.Reveal()
		if !errors.Is(err, test.want) || len(events) != 1 || !errors.Is(events[0].Err, test.want) ||
			(err == nil) != (events[0].Err == nil) {
			t.Errorf("%s: Reveal returns %v, the events are %+v", name, err, events)
		}
	}
}

// Without OnReveal, secrets don't hold their query's context.
func TestContextIsHeldForObserversOnly(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]driver.Config{
		"nobody": {Keyring: ring(t, keyA)},
		"strict": {Keyring: ring(t, keyA), VerifyOnRead: true},
	} {
		released := make(chan struct{})
		reading := func() context.Context {
			held := new([1 << 10]byte)
			runtime.AddCleanup(held, func(done chan struct{}) { close(done) }, released)
			return principal.WithActor(context.WithValue(t.Context(), held, held), "ada")
		}
		drv := newDriver(t, &recorder{result: &fakeRows{
			columns: []string{"id", "wide"}, rows: [][]any{{int64(7), encrypt(t, ring(t, keyA), "text")}},
		}}, cfg)
		secret := func(ctx context.Context) fieldcrypt.Secret {
			var rows entsql.Rows
			if err := drv.Query(ctx, "SELECT", []any{}, &rows); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = rows.Close() }()
			rows.Next()
			target := wide.ScanValue()
			if err := rows.Scan(new(int64), target); err != nil {
				t.Fatal(err)
			}
			s, err := wide.FromValue(target)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}(reading())
		for range 10 {
			runtime.GC()
		}
		select {
		case <-released:
		default:
			t.Errorf("%s: a secret holds its query's context", name)
		}
		runtime.KeepAlive(secret)
	}
}
