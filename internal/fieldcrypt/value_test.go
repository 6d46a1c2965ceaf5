package fieldcrypt_test

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/schema/field"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

type hook struct {
	URL    string            `json:"url"`
	Labels map[string]string `json:"labels,omitempty"`
}

// The columns of values, bound as generated code does it.
var (
	hookField  = fieldcrypt.NewValueField[hook]("hook", 500)
	bytesField = fieldcrypt.NewValueField[[]byte]("bytes", 200)
	timeField  = fieldcrypt.NewValueField[time.Time]("time", 140)
	listField  = fieldcrypt.NewValueField[[]*int]("list", 500)
	textField  = fieldcrypt.NewField("text", 500)

	_ = func() int {
		for _, b := range []fieldcrypt.Binding{
			{ColumnInfo: fieldcrypt.ColumnInfo{Name: "hook", Size: 500, Type: "fieldcrypt_test.hook"}, Scanner: func() any { return hookField }},
			{ColumnInfo: fieldcrypt.ColumnInfo{Name: "bytes", Size: 200, Type: "[]byte"}, Scanner: func() any { return bytesField }},
			{ColumnInfo: fieldcrypt.ColumnInfo{Name: "time", Size: 140, Type: "time.Time"}, Scanner: func() any { return timeField }},
			{ColumnInfo: fieldcrypt.ColumnInfo{Name: "list", Size: 500, Type: "[]*int"}, Scanner: func() any { return listField }},
			{ColumnInfo: fieldcrypt.ColumnInfo{Name: "token", Size: 500, Type: "string"}, Scanner: func() any { return textField }},
		} {
			b.Table, b.ID = "ledger", "serial"
			fieldcrypt.Bind(b)
		}
		return 0
	}()
)

// store passes a value through its column and a driver, and returns what the database gets and what is read back of it.
func store[T any](t *testing.T, f field.TypeValueScanner[fieldcrypt.Value[T]], v fieldcrypt.Value[T]) (token any, back fieldcrypt.Value[T]) {
	t.Helper()
	arg, err := f.Value(v)
	if err != nil {
		t.Fatal(err)
	}
	rec := new(recorder)
	cfg := fieldcrypt.DriverConfig{Keyring: ring(t, keyA)}
	err = fieldcrypt.NewDriver(rec, cfg).Exec(t.Context(), `INSERT INTO "ledger" ("x") VALUES ($1)`, []any{arg}, nil)
	if err != nil {
		t.Fatal(err)
	}
	rows := query(t, &fakeRows{columns: []string{"x"}, rows: [][]any{{rec.args[0]}}}, cfg, `SELECT * FROM "ledger"`)
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

func roundTrip[T any](t *testing.T, f field.TypeValueScanner[fieldcrypt.Value[T]], v T, stored string) {
	t.Helper()
	token, back := store(t, f, fieldcrypt.NewValue(v))
	if text, err := ring(t, keyA).Decrypt(token.(string)); err != nil || text != stored {
		t.Errorf("%T: %q is stored, %v, want %q", v, text, err, stored)
	}
	got, err := back.Reveal()
	if diff := cmp.Diff(v, got); err != nil || diff != "" {
		t.Errorf("%T: %v (-want +got):\n%s", v, err, diff)
	}
	if !back.Equal(fieldcrypt.NewValue(v)) {
		t.Errorf("%T: it does not equal what was stored", v)
	}
	token, back = store(t, f, fieldcrypt.Value[T]{})
	if token != nil || !back.IsZero() {
		t.Errorf("%T: absent: got %v", v, token)
	}
	if got, err := back.Reveal(); err != nil || cmp.Diff(*new(T), got) != "" {
		t.Errorf("%T: absent: got %v, %v", v, got, err)
	}
}

func TestValues(t *testing.T) {
	fieldcrypt.ResetDefault(t)
	t.Setenv(fieldcrypt.EnvKey, "") // the driver's keyring is enough
	roundTrip(t, hookField, hook{URL: "https://é"}, `{"url":"https://é"}`)
	roundTrip(t, bytesField, []byte("\x00\xff\xfe"), "\x00\xff\xfe")
	roundTrip(t, bytesField, []byte{}, "")
	seven := 7
	roundTrip(t, listField, []*int{&seven, nil}, "[7,null]")
	roundTrip(t, listField, nil, "null")
	roundTrip(t, timeField, time.Date(2026, 11, 24, 12, 30, 0, 500_000_001, time.UTC), "2026-11-24T12:30:00.500000001Z")
	// A time is an instant: it comes back in UTC, whatever its zone was.
	at := time.Date(2026, 11, 24, 23, 30, 0, 0, time.FixedZone("", -3600))
	_, back := store(t, timeField, fieldcrypt.NewValue(at))
	if got, err := back.Reveal(); err != nil || got != time.Date(2026, 11, 25, 0, 30, 0, 0, time.UTC) {
		t.Errorf("got %v, %v", got, err)
	}
}

// What a value was made of can change without the value.
func TestValueIsACopy(t *testing.T) {
	t.Parallel()
	b := []byte("text")
	v := fieldcrypt.NewValue(b)
	b[0] = 'n'
	got, err := v.Reveal()
	if err != nil || string(got) != "text" {
		t.Errorf("got %q, %v", got, err)
	}
	got[0] = 'n'
	if got, err := v.Reveal(); err != nil || string(got) != "text" {
		t.Errorf("got %q, %v", got, err)
	}
}

// Arguments that come past the column, as from an upsert's setter, are encrypted by the driver.
func TestDriverSealsValues(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	v, b := fieldcrypt.NewValue(hook{URL: "u"}), fieldcrypt.NewValue([]byte{0xff})
	var absent *fieldcrypt.Value[hook]
	args := []any{v, &v, sql.Named("v", v), b, stored(t, seal(t, r, "x")).WithKeyring(r), fieldcrypt.Value[hook]{}, absent, 7}
	given := append([]any(nil), args...)
	rec := new(recorder)
	if err := fieldcrypt.NewDriver(rec, fieldcrypt.DriverConfig{Keyring: r}).Exec(t.Context(), insertOf(len(args)), args, nil); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{`{"url":"u"}`, `{"url":"u"}`, `{"url":"u"}`, "\xff", "x"} {
		arg := rec.args[i]
		if named, ok := arg.(sql.NamedArg); ok {
			arg = named.Value
		}
		if got, err := r.Decrypt(arg.(string)); err != nil || got != want {
			t.Errorf("argument %d: got %q, %v, want %q", i, got, err, want)
		}
	}
	if rec.args[5] != nil || rec.args[6] != nil || rec.args[7] != 7 {
		t.Errorf("got %v", rec.args[5:])
	}
	for i := range args {
		if _, ok := args[i].(fieldcrypt.Secret); ok && i != 4 || (args[i] == nil) != (given[i] == nil) {
			t.Errorf("argument %d was changed", i)
		}
	}
}

func TestValueErrors(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	drv := fieldcrypt.NewDriver(new(recorder), fieldcrypt.DriverConfig{Keyring: r})
	exec := func(query string, arg any) error { return drv.Exec(t.Context(), query, []any{arg}, nil) }
	const compare, store = `SELECT * FROM "ledger" WHERE "hook" = $1`, `INSERT INTO "ledger" ("hook") VALUES ($1)`
	unencodable := fieldcrypt.NewValue(map[string]any{canary: func() {}})
	v := fieldcrypt.NewValue(hook{URL: canary})
	_, encode := unencodable.Reveal()
	var unread fieldcrypt.Value[hook]
	if err := unread.Scan(seal(t, r, `{"url":["`+canary+`"]}`)); err != nil {
		t.Fatal(err)
	}
	_, decode := unread.WithKeyring(r).Reveal()
	_, long := bytesField.Value(fieldcrypt.NewValue([]byte(strings.Repeat(canary, 20))))
	_, marker := bytesField.Value(fieldcrypt.NewValue([]byte(fieldcrypt.Redacted)))
	_, notText := textField.Value(fieldcrypt.New("\xff"))
	for name, test := range map[string]struct{ got, want error }{
		"no encoding":           {encode, fieldcrypt.ErrValue},
		"no encoding, stored":   {exec(store, unencodable), fieldcrypt.ErrValue},
		"no decoding":           {decode, fieldcrypt.ErrValue},
		"too long":              {long, fieldcrypt.ErrTooLong},
		"too long, past it":     {exec(store, fieldcrypt.NewValue(strings.Repeat(canary, 30))), fieldcrypt.ErrTooLong},
		"marker":                {marker, fieldcrypt.ErrRedacted},
		"text that is none":     {notText, fieldcrypt.ErrNotText},
		"comparison":            {exec(compare, v), fieldcrypt.ErrPredicate},
		"list":                  {exec(store, []fieldcrypt.Value[hook]{v}), fieldcrypt.ErrPredicate},
		"sql.Null":              {exec(store, sql.Null[fieldcrypt.Value[hook]]{V: v, Valid: true}), fieldcrypt.ErrPredicate},
		"many rows":             {exec(`UPDATE "ledger" SET "hook" = $1`, v), fieldcrypt.ErrManyRows},
		"JSON that is none":     {json.Unmarshal([]byte(`["`+canary+`"]`), new(fieldcrypt.Value[hook])), fieldcrypt.ErrValue},
		"marker in JSON":        {json.Unmarshal([]byte(`"[REDACTED]"`), new(fieldcrypt.Value[string])), fieldcrypt.ErrRedacted},
		"marker as text":        {new(fieldcrypt.Value[[]byte]).UnmarshalText([]byte(fieldcrypt.Redacted)), fieldcrypt.ErrRedacted},
		"text that is no time":  {new(fieldcrypt.Value[time.Time]).UnmarshalText([]byte(canary)), fieldcrypt.ErrValue},
		"year that has no text": {exec(store, fieldcrypt.NewValue(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))), fieldcrypt.ErrValue},
	} {
		if !errors.Is(test.got, test.want) {
			t.Errorf("%s: got %v, want %v", name, test.got, test.want)
		} else if trace, found := leaks(test.got.Error(), traces(canary)); found {
			t.Errorf("%s: the error has %q", name, trace)
		}
	}
	// A driver of another package refuses a value by itself.
	if got, err := driver.DefaultParameterConverter.ConvertValue(v); err == nil {
		t.Errorf("database/sql takes a value for %v", got)
	}
	if v.Equal(damagedValue()) || damagedValue().Equal(damagedValue()) || v.Equal(fieldcrypt.Value[hook]{}) {
		t.Error("a value equals one that cannot be revealed")
	}
}

// damagedValue is a value whose stored text is none.
func damagedValue() fieldcrypt.Value[hook] {
	var v fieldcrypt.Value[hook]
	_ = v.Scan("gAAAA")
	return v
}

func TestValueUnmarshal(t *testing.T) {
	t.Parallel()
	var in struct {
		Hook  fieldcrypt.Value[hook]
		Bytes fieldcrypt.Value[[]byte]
		Time  fieldcrypt.Value[time.Time]
		None  fieldcrypt.Value[int]
	}
	in.None = fieldcrypt.NewValue(1)
	if err := json.Unmarshal([]byte(`{"Hook":{"url":"u"},"Bytes":"/w==","Time":"2026-11-24T12:30:00+01:00","None":null}`), &in); err != nil {
		t.Fatal(err)
	}
	if !in.Hook.Equal(fieldcrypt.NewValue(hook{URL: "u"})) || !in.Bytes.Equal(fieldcrypt.NewValue([]byte{0xff})) ||
		!in.Time.Equal(fieldcrypt.NewValue(time.Date(2026, 11, 24, 11, 30, 0, 0, time.UTC))) || !in.None.IsZero() {
		t.Error("the values are not those of the JSON")
	}
	if out, err := json.Marshal(in); err != nil || string(out) != `{"Hook":"[REDACTED]","Bytes":"[REDACTED]","Time":"[REDACTED]","None":null}` {
		t.Errorf("got %s, %v", out, err)
	}
}
