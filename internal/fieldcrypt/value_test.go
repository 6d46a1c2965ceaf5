package fieldcrypt_test

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

type hook struct {
	URL    string            `json:"url"`
	Labels map[string]string `json:"labels,omitempty"`
}

// A value doesn't share memory with the bytes it was made from.
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

func TestValueErrors(t *testing.T) {
	t.Parallel()
	const canary = "canary4711"
	r := ring(t, keyA)
	unencodable := fieldcrypt.NewValue(map[string]any{canary: func() {}})
	v := fieldcrypt.NewValue(hook{URL: canary})
	_, encode := unencodable.Reveal()
	var unread fieldcrypt.Value[hook]
	if err := unread.Scan(encrypt(t, r, `{"url":["`+canary+`"]}`)); err != nil {
		t.Fatal(err)
	}
	_, decode := unread.OpenedBy(opener(r)).Reveal()
	_, bare := unread.Reveal()
	_, notText := fieldcrypt.NewValue(hook{URL: canary + "\xff"}).Reveal()
	_, notTextKey := fieldcrypt.NewValue(map[string]any{canary + "\xff": nil}).Reveal()
	_, nested := fieldcrypt.NewValue(map[string]any{"a": []any{fieldcrypt.New(canary)}}).Reveal()
	_, year := fieldcrypt.NewValue(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)).Reveal()
	for name, test := range map[string]struct{ got, want error }{
		"can't be encoded": {encode, fieldcrypt.ErrValue},
		"can't be decoded": {decode, fieldcrypt.ErrValue},
		"no keyring":       {bare, fieldcrypt.ErrNoOpener},
		"not its JSON":     {json.Unmarshal([]byte(`["`+canary+`"]`), new(fieldcrypt.Value[hook])), fieldcrypt.ErrValue},
		"marker in JSON":   {json.Unmarshal([]byte(`"[REDACTED]"`), new(fieldcrypt.Value[string])), fieldcrypt.ErrRedacted},
		"a secret in it":   {nested, fieldcrypt.ErrRedacted},
		"marker as text": {
			new(fieldcrypt.Value[[]byte]).UnmarshalText([]byte(fieldcrypt.Redacted)),
			fieldcrypt.ErrRedacted,
		},
		"not UTF-8":            {notText, fieldcrypt.ErrValue},
		"a key not in UTF-8":   {notTextKey, fieldcrypt.ErrValue},
		"half a surrogate":     {new(fieldcrypt.Value[string]).UnmarshalText([]byte(`"\ud83d"`)), fieldcrypt.ErrValue},
		"not a time":           {new(fieldcrypt.Value[time.Time]).UnmarshalText([]byte(canary)), fieldcrypt.ErrValue},
		"year beyond RFC 3339": {year, fieldcrypt.ErrValue},
	} {
		if !errors.Is(test.got, test.want) {
			t.Errorf("%s: got %v, want %v", name, test.got, test.want)
		} else if strings.Contains(test.got.Error(), "4711") {
			t.Errorf("%s: the error quotes the value: %v", name, test.got)
		}
	}
	for _, text := range []string{"\ufffd", `C:\ufffd`, "\x00\u2028\U0001F511"} {
		if got, err := fieldcrypt.NewValue(hook{URL: text}).Reveal(); err != nil || got.URL != text {
			t.Errorf("%q: got %q, %v", text, got.URL, err)
		}
	}
	if got, err := fieldcrypt.NewValue([]byte(`"[REDACTED]"`)).Reveal(); err != nil || len(got) != 12 {
		t.Errorf("bytes: got %q, %v", got, err)
	}
	raw := json.RawMessage(`"\ufffd\ud83d"`)
	if got, err := fieldcrypt.NewValue(raw).Reveal(); err != nil || string(got) != string(raw) {
		t.Errorf("%s: got %s, %v", raw, got, err)
	}
	var detail *fieldcrypt.Error
	if !errors.As(decode, &detail) || detail.Op != "decode" {
		t.Errorf("got %v, want an Error with Op decode", decode)
	}
	// Without Credent's driver, database/sql refuses a value.
	if got, err := driver.DefaultParameterConverter.ConvertValue(v); err == nil {
		t.Errorf("database/sql accepts a value as %v", got)
	}
	if v.Equal(damagedValue()) || damagedValue().Equal(damagedValue()) || v.Equal(fieldcrypt.Value[hook]{}) {
		t.Error("a value equals one that cannot be revealed")
	}
}

// damagedValue returns a value that doesn't open.
func damagedValue() fieldcrypt.Value[hook] {
	var v fieldcrypt.Value[hook]
	_ = v.Scan("gAAAA")
	return v
}

// Values are equal if Go encodes them alike, even if another program's JSON
// differs.
func TestValueEqual(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	read := func(text string) fieldcrypt.Value[hook] {
		return fieldcrypt.ValueOf[hook](fieldcrypt.Stored(encrypt(t, r, text), opener(r)))
	}
	v := fieldcrypt.NewValue(hook{URL: "u", Labels: map[string]string{"a": "1", "b": "2"}})
	if same := read(`{ "labels": {"b": "2", "a": "1"}, "url": "u" }`); !v.Equal(same) || !same.Equal(v) {
		t.Error("white space and order make values differ")
	}
	if other := read(`{"url":"u"}`); v.Equal(other) {
		t.Error("different values are equal")
	}
	var zero fieldcrypt.Value[hook]
	if !zero.Equal(fieldcrypt.Value[hook]{}) || zero.Equal(v) || zero.Equal(fieldcrypt.NewValue(hook{})) {
		t.Error("an absent value equals one that is present")
	}
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
		t.Error("the values differ from the JSON")
	}
	if out, err := json.Marshal(in); err != nil || string(out) != `{"Hook":"[REDACTED]","Bytes":"[REDACTED]","Time":"[REDACTED]","None":null}` {
		t.Errorf("got %s, %v", out, err)
	}
}

// Pointers and sql.Nulls count as the secrets they hold.
func TestAsSecret(t *testing.T) {
	t.Parallel()
	s, v := fieldcrypt.New("text"), fieldcrypt.NewValue([]byte("text"))
	p := &s
	for name, test := range map[string]struct {
		arg  any
		want string // "" for an absent secret, "-" for no secret
	}{
		"secret": {s, "text"}, "pointer": {p, "text"}, "value": {v, "text"}, "pointer to a value": {&v, "text"},
		"Null":            {sql.Null[fieldcrypt.Secret]{V: s, Valid: true}, "text"},
		"Null of a value": {sql.Null[fieldcrypt.Value[[]byte]]{V: v, Valid: true}, "text"},
		"absent":          {fieldcrypt.Secret{}, ""}, "nil": {(*fieldcrypt.Secret)(nil), ""},
		"nil value": {(*fieldcrypt.Value[int])(nil), ""},
		"NULL":      {sql.Null[fieldcrypt.Secret]{V: s}, ""}, "nothing": {nil, "-"}, "text": {"text", "-"},
		"list":                 {[]fieldcrypt.Secret{s}, "-"},
		"pointer to a pointer": {&p, "-"}, "Null of a text": {sql.Null[string]{V: "text", Valid: true}, "-"},
		"NullTime": {sql.NullTime{}, "-"},
	} {
		got, ok := fieldcrypt.AsSecret(test.arg)
		text, err := got.Reveal()
		if ok != (test.want != "-") || ok && (text != test.want || err != nil || got.IsZero() != (test.want == "")) {
			t.Errorf("%s: got %q, %v, %v", name, text, ok, err)
		}
	}
}

func TestIsSecretType(t *testing.T) {
	t.Parallel()
	type record struct{ fieldcrypt.Secret }
	for _, test := range []struct {
		v    any
		want bool
	}{
		{fieldcrypt.Secret{}, true},
		{&fieldcrypt.Secret{}, true},
		{fieldcrypt.Value[int]{}, true},
		{&fieldcrypt.Value[int]{}, true},
		{record{}, true},
		{&record{}, true},
		{"text", false},
		{[]fieldcrypt.Secret{}, false},
		{struct{ S fieldcrypt.Secret }{}, false},
	} {
		if got := fieldcrypt.IsSecretType(reflect.TypeOf(test.v)); got != test.want {
			t.Errorf("%T: got %v", test.v, got)
		}
	}
	for want, got := range map[string]string{
		"string": fieldcrypt.TypeName[string](), "[]byte": fieldcrypt.TypeName[[]byte](),
		"time.Time":         fieldcrypt.TypeName[time.Time](),
		"map[string][]byte": fieldcrypt.TypeName[map[string][]byte](),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
