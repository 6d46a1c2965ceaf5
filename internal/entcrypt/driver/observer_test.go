package driver_test

import (
	"errors"
	"testing"

	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/observe"
)

// TestUndecodableIsAFailedOpening checks that a value that opens but doesn't
// decode is reported to the observer once, as a failure.
func TestUndecodableIsAFailedOpening(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	for name, test := range map[string]struct {
		plaintext string
		want      error
	}{"JSON": {`{"url":["u"]}`, nil}, "no JSON": {"plain", fieldcrypt.ErrValue}} {
		var events []observe.Event
		cfg := driver.Config{
			Keyring:  r,
			Observer: observe.Observer{Opened: func(e observe.Event) { events = append(events, e) }},
		}
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
