package plaintype_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/plaintype"
)

// config is the type of a JSON field.
type config struct {
	Name  string
	Count int64
}

// columnOf registers a JSON column.
func columnOf[T any](name string) column.Column {
	field := column.NewValueField[T](name, 500)
	return column.Register(column.Binding{
		Column:  column.Column{Table: "plaintypes", Name: name, Size: 500, Type: fieldcrypt.TypeName[T]()},
		Scanner: func() any { return field },
	})
}

var (
	text    = column.Column{Table: "plaintypes", Name: "text", Size: 500}
	raw     = column.Column{Table: "plaintypes", Name: "raw", Size: 500, Type: fieldcrypt.BytesType}
	instant = column.Column{Table: "plaintypes", Name: "instant", Size: 140, Type: fieldcrypt.TimeType}
	unknown = column.Column{Table: "plaintypes", Name: "unknown", Size: 500, Type: "webhook.Config"}
	structs = columnOf[config]("structs")
	anyJSON = columnOf[any]("any")
	number  = columnOf[int32]("number")
	message = columnOf[json.RawMessage]("message")
)

func TestEncode(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		column column.Column
		kind   plaintype.Kind
		value  string
		want   string
		err    error
	}{
		"text":              {text, plaintype.Hexed, `\xff00`, `\xff00`, nil},
		"text, not UTF-8":   {text, plaintype.Bytes, "\xff", "", column.ErrNotText},
		"text of a date":    {text, plaintype.Date, "2026-01-02", "2026-01-02", nil},
		"text of a time":    {text, plaintype.Time, "2026-01-02T03:04:05.5", "2026-01-02T03:04:05.5Z", nil},
		"text of a number":  {text, plaintype.Number, "-9223372036854775808", "-9223372036854775808", nil},
		"text of an enum":   {text, plaintype.Other, "a", "", fieldcrypt.ErrValue},
		"bytes":             {raw, plaintype.Bytes, "\xff\x00", "\xff\x00", nil},
		"bytes cast":        {raw, plaintype.Hexed, `\xff00`, "\xff\x00", nil},
		"not cast bytes":    {raw, plaintype.Hexed, `\xff0`, `\xff0`, nil},
		"bytes in text":     {raw, plaintype.Text, `\xff00`, `\xff00`, nil},
		"bytes of a number": {raw, plaintype.Number, "1", "", fieldcrypt.ErrValue},

		"RFC 3339": {instant, plaintype.Hexed, "2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05Z", nil},
		"Postgres, cast": {
			instant, plaintype.Hexed, "2026-01-02 03:04:05.123456-05",
			"2026-01-02T08:04:05.123456Z", nil,
		},
		"Postgres, odd zone": {instant, plaintype.Hexed, "1891-01-01 00:00:00-00:00:30", "1891-01-01T00:00:30Z", nil},
		"without a zone":     {instant, plaintype.Text, "2026-01-02 03:04:05", "2026-01-02T03:04:05Z", nil},
		"without seconds":    {instant, plaintype.Text, "2026-01-02T03:04", "2026-01-02T03:04:00Z", nil},
		"modernc": {
			instant, plaintype.Text, "2026-01-02 03:04:05.000000001 +0100 CET m=+0.1",
			"2026-01-02T02:04:05.000000001Z", nil,
		},
		"mattn":  {instant, plaintype.Text, "2026-01-02 03:04:05.5+00:00", "2026-01-02T03:04:05.5Z", nil},
		"UTC":    {instant, plaintype.Text, "2026-01-02 03:04:05 UTC", "2026-01-02T03:04:05Z", nil},
		"a date": {instant, plaintype.Date, "2026-01-02", "2026-01-02T00:00:00Z", nil},
		"zeros": {
			instant, plaintype.Text, "2026-01-02T03:04:05.1234567890000Z",
			"2026-01-02T03:04:05.123456789Z", nil,
		},
		"picoseconds": {
			instant, plaintype.Text, "2026-01-02T03:04:05.1234567890001Z", "",
			fieldcrypt.ErrValue,
		},
		"infinity":             {instant, plaintype.Time, "infinity", "", fieldcrypt.ErrValue},
		"BC":                   {instant, plaintype.Time, "0044-03-15T12:00:00 BC", "", fieldcrypt.ErrValue},
		"year 10000":           {instant, plaintype.Time, "10000-01-01T00:00:00", "", fieldcrypt.ErrValue},
		"year 10000 in UTC":    {instant, plaintype.Text, "9999-12-31T23:00:00-02:00", "", fieldcrypt.ErrValue},
		"before year 0 in UTC": {instant, plaintype.Text, "0000-01-01T00:00:00+02:00", "", fieldcrypt.ErrValue},
		"not a time":           {instant, plaintype.Text, "", "", fieldcrypt.ErrValue},
		"seconds since 1970":   {instant, plaintype.Number, "1767323045", "", fieldcrypt.ErrValue},

		"as Go writes it":  {structs, plaintype.JSON, `{"Count": 100, "Name": "<"}`, `{"Name":"\u003c","Count":100}`, nil},
		"an unknown field": {structs, plaintype.JSON, `{"Count": 1, "Name": "a",  "Old": [ ]}`, `{"Count":1,"Name":"a","Old":[]}`, nil},
		"half a surrogate": {structs, plaintype.JSON, `{"Count": 1, "Name": "\ud800"}`, `{"Count":1,"Name":"\ud800"}`, nil},
		"another type":     {structs, plaintype.JSON, `{"Count": "1"}`, "", fieldcrypt.ErrValue},
		"too large":        {number, plaintype.Number, "2147483648", "", fieldcrypt.ErrValue},
		"a fraction":       {number, plaintype.Number, "1.5", "", fieldcrypt.ErrValue},
		"2^53 + 1":         {anyJSON, plaintype.JSON, "[9007199254740993]", "[9007199254740993]", nil},
		"a long number": {
			message, plaintype.JSON, "1" + strings.Repeat("0", 500),
			"1" + strings.Repeat("0", 500), nil,
		},
		"JSON null":       {structs, plaintype.JSON, "null", "null", nil},
		"NaN":             {anyJSON, plaintype.Number, "NaN", "", fieldcrypt.ErrValue},
		"a boolean":       {anyJSON, plaintype.Boolean, "true", "true", nil},
		"a UUID":          {anyJSON, plaintype.UUID, "6b4a2f10-0000-4000-8000-000000000000", `"6b4a2f10-0000-4000-8000-000000000000"`, nil},
		"a time in JSON":  {anyJSON, plaintype.Time, "2026-01-02T03:04:05", `"2026-01-02T03:04:05Z"`, nil},
		"JSON in bytes":   {anyJSON, plaintype.Bytes, "[ 1 ]", "[1]", nil},
		"the marker":      {anyJSON, plaintype.JSON, `"[REDACTED]"`, "", fieldcrypt.ErrRedacted},
		"not JSON":        {anyJSON, plaintype.Text, "secret", "", fieldcrypt.ErrValue},
		"an unknown type": {unknown, plaintype.JSON, "{ }", "{}", nil},
		"not JSON for it": {unknown, plaintype.JSON, "{", "", fieldcrypt.ErrValue},
	} {
		got, err := plaintype.Encode(test.column, test.kind, test.value)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: got %q, %v, want %q, %v", name, got, err, test.want, test.err)
		}
		if err == nil {
			if err := plaintype.Decode(test.column, got); err != nil {
				t.Errorf("%s: it doesn't decode: %v", name, err)
			}
		} else if len(test.value) > 4 && strings.Contains(err.Error(), test.value) {
			t.Errorf("%s: the error quotes the value: %v", name, err)
		}
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		column column.Column
		text   string
		want   error
		as     string
	}{
		"text":         {text, "é", nil, "text in UTF-8"},
		"not text":     {text, "\xff", column.ErrNotText, "text in UTF-8"},
		"bytes":        {raw, "\xff", nil, "bytes"},
		"time":         {instant, "2026-01-02T03:04:05Z", nil, "time.Time"},
		"not RFC 3339": {instant, "2026-01-02 03:04:05+00", fieldcrypt.ErrValue, "time.Time"},
		"struct":       {structs, `{"Count": 1}`, nil, "plaintype_test.config"},
		"not one":      {structs, `[1]`, fieldcrypt.ErrValue, "plaintype_test.config"},
		"JSON":         {unknown, `[1]`, nil, "JSON, as this process doesn't know webhook.Config"},
		"not JSON":     {unknown, `\xff00`, fieldcrypt.ErrValue, "JSON, as this process doesn't know webhook.Config"},
		"schema":       {number.InSchema("x"), `"1"`, fieldcrypt.ErrValue, "int32"},
	} {
		if err := plaintype.Decode(test.column, test.text); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		if got := plaintype.DecodesAs(test.column); got != test.as {
			t.Errorf("%s: as %q, want %q", name, got, test.as)
		}
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]plaintype.Kind{
		"timestamp(3) with time zone": plaintype.Time, "timestamptz": plaintype.Time, "numeric(10,2)": plaintype.Number,
		"character varying(255)": plaintype.Hexed, "CITEXT": plaintype.Hexed, "inet": plaintype.Other,
		"jsonb": plaintype.JSON,
	} {
		if got, isText := plaintype.OfPostgres(name); got != want || isText != (want == plaintype.Hexed) {
			t.Errorf("Postgres %s: got %q, %v", name, got, isText)
		}
	}
	for name, want := range map[string]plaintype.Kind{
		"varchar(255)": plaintype.Text, "": plaintype.Text, "datetime": plaintype.Time, "timestamp": plaintype.Time,
		"date": plaintype.Date, "json": plaintype.JSON, "blob": plaintype.Bytes, "integer": plaintype.Number,
		"bool": plaintype.Boolean, "uuid": plaintype.UUID, "real": plaintype.Number,
	} {
		if got, isText := plaintype.OfSQLite(name); got != want || isText != (want == plaintype.Text) {
			t.Errorf("SQLite %s: got %q, %v", name, got, isText)
		}
	}
}
