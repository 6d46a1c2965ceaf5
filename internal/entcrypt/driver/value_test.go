package driver_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/schema/field"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// Columns of values, registered as generated code does it.
var (
	bytesField = registerValue[[]byte]("bytes", 200)
	timeField  = registerValue[time.Time]("time", 140)
	listField  = registerValue[[]*int]("list", 500)
)

// store passes a value through its column and a driver. It returns the argument
// that the database gets and the value read back.
func store[T any](
	t *testing.T, name string, f field.TypeValueScanner[fieldcrypt.Value[T]], v fieldcrypt.Value[T],
) (token any, back fieldcrypt.Value[T]) {
	t.Helper()
	value, err := f.Value(v)
	if err != nil {
		t.Fatal(err)
	}
	arg, _ := stamped(t, "ledger", name, value, nil)
	rec := new(recorder)
	cfg := driver.Config{Keyring: ring(t, keyA)}
	if err := newDriver(t, rec, cfg).Exec(t.Context(), insert, []any{arg}, nil); err != nil {
		t.Fatal(err)
	}
	rows := query(t, &fakeRows{columns: []string{name}, rows: [][]any{{rec.args[0]}}}, cfg, "Ledger")
	rows.Next()
	target := f.ScanValue()
	if err := rows.Scan(target); err != nil {
		t.Fatal(err)
	}
	back, err = f.FromValue(target)
	if err != nil {
		t.Fatal(err)
	}
	return rec.args[0], back
}

func roundTrip[T any](t *testing.T, name string, f field.TypeValueScanner[fieldcrypt.Value[T]], v T, stored string) {
	t.Helper()
	token, back := store(t, name, f, fieldcrypt.NewValue(v))
	if text, err := ring(t, keyA).Decrypt(token.(string)); err != nil || text != stored {
		t.Errorf("%T: %q is stored, %v, want %q", v, text, err, stored)
	}
	got, err := back.Reveal()
	if diff := cmp.Diff(v, got); err != nil || diff != "" {
		t.Errorf("%T: %v (-want +got):\n%s", v, err, diff)
	}
	if !back.Equal(fieldcrypt.NewValue(v)) {
		t.Errorf("%T: it doesn't equal the stored value", v)
	}
	token, back = store(t, name, f, fieldcrypt.Value[T]{})
	if token != nil || !back.IsZero() {
		t.Errorf("%T: absent: got %v", v, token)
	}
	if got, err := back.Reveal(); err != nil || cmp.Diff(*new(T), got) != "" {
		t.Errorf("%T: absent: got %v, %v", v, got, err)
	}
}

func TestValues(t *testing.T) {
	useDefault(t) // the driver's keyring is enough
	roundTrip(t, "hook", hookOnly, hook{URL: "https://é"}, `{"url":"https://é"}`)
	roundTrip(t, "bytes", bytesField, []byte("\x00\xff\xfe"), "\x00\xff\xfe")
	roundTrip(t, "bytes", bytesField, []byte{}, "")
	seven := 7
	roundTrip(t, "list", listField, []*int{&seven, nil}, "[7,null]")
	roundTrip(t, "list", listField, nil, "null")
	roundTrip(t, "time", timeField, time.Date(2026, 11, 24, 12, 30, 0, 500_000_001, time.UTC),
		"2026-11-24T12:30:00.500000001Z")
	// A time is an instant: any time is read back in UTC.
	at := time.Date(2026, 11, 24, 23, 30, 0, 0, time.FixedZone("", -3600))
	_, back := store(t, "time", timeField, fieldcrypt.NewValue(at))
	if got, err := back.Reveal(); err != nil || got != time.Date(2026, 11, 25, 0, 30, 0, 0, time.UTC) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestValueErrors(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	rec := new(recorder)
	drv := newDriver(t, rec, driver.Config{Keyring: r})
	at := func(value any) error {
		return drv.Exec(t.Context(), insert,
			[]any{stamp.At(value, column.Column{Client: "test", Table: "ledger", Name: "hook", Size: 500}, nil)}, nil)
	}
	unencodable := fieldcrypt.NewValue(map[string]any{canary: func() {}})
	_, encode := hookOnly.Value(fieldcrypt.ValueOf[hook](scanned(t, encrypt(t, r, `{"url":["`+canary+`"]}`))))
	_, long := bytesField.Value(fieldcrypt.NewValue([]byte(strings.Repeat(canary, 20))))
	_, marker := bytesField.Value(fieldcrypt.NewValue([]byte(fieldcrypt.Redacted)))
	_, notText := wide.Value(fieldcrypt.New("\xff"))
	for name, test := range map[string]struct{ got, want error }{
		"can't be encoded":  {at(unencodable), fieldcrypt.ErrValue},
		"scanned":           {encode, fieldcrypt.ErrNoOpener},
		"too long":          {long, column.ErrTooLong},
		"too long, past it": {at(fieldcrypt.NewValue(strings.Repeat(canary, 30))), column.ErrTooLong},
		"marker":            {marker, fieldcrypt.ErrRedacted},
		"not text":          {notText, column.ErrNotText},
		"year beyond RFC 3339": {
			at(fieldcrypt.NewValue(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))),
			fieldcrypt.ErrValue,
		},
	} {
		if !errors.Is(test.got, test.want) {
			t.Errorf("%s: got %v, want %v", name, test.got, test.want)
		} else if trace, found := leaks(test.got.Error(), traces(canary)); found {
			t.Errorf("%s: the error has %q", name, trace)
		}
	}
	if len(rec.calls) > 0 {
		t.Errorf("the database got the calls %v", rec.calls)
	}
	if _, err := bytesField.Value(fieldcrypt.NewValue([]byte{0xff})); err != nil {
		t.Errorf("bytes that aren't text: %v", err)
	}
}
