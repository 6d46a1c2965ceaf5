// Package plaintype converts values of a plaintext column of any SQL type into
// the plaintext of an encrypted field, and checks whether a plaintext decodes
// as its field's type.
//
// The database converts values to text in fixed formats: the bytes themselves,
// RFC 3339 without a zone for times in UTC, JSON, decimal numbers. The package
// uses neither databases nor keys.
package plaintype

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// Kind is the meaning of a plaintext column's values.
type Kind string

// The kinds.
const (
	Text    Kind = "text"
	Hexed   Kind = "text, or bytes in hexadecimal" // text that Postgres may have cast from bytea
	Bytes   Kind = "bytes"
	Time    Kind = "a time" // in UTC, as 2026-11-27T12:30:00.5
	Date    Kind = "a date"
	JSON    Kind = "JSON"
	Number  Kind = "a number"
	Boolean Kind = "a boolean" // true or false
	UUID    Kind = "a UUID"
	Other   Kind = "" // no field accepts it
)

// goType returns the Go type of a column's plaintext.
func goType(c column.Column) string { return cmp.Or(c.Type, fieldcrypt.StringType) }

// takes has the kinds that each type of field accepts. A JSON field may have
// any other type.
var takes = map[string][]Kind{
	fieldcrypt.StringType: {Text, Hexed, Bytes, Time, Date, JSON, Number, Boolean, UUID},
	fieldcrypt.BytesType:  {Text, Hexed, Bytes},
	fieldcrypt.TimeType:   {Text, Hexed, Time, Date},
	"JSON":                {Text, Hexed, Bytes, Time, Date, JSON, Number, Boolean, UUID},
}

// Takes reports whether a column's field accepts values of a kind.
func Takes(c column.Column, k Kind) bool {
	kinds, ok := takes[goType(c)]
	if !ok {
		kinds = takes["JSON"]
	}
	return slices.Contains(kinds, k)
}

// Encode returns a field's plaintext for a value of a plaintext column: the
// field's own encoding if it loses nothing, otherwise the JSON unchanged,
// without white space. Errors are [fieldcrypt.ErrValue],
// [fieldcrypt.ErrRedacted] and [column.ErrNotText], and don't quote the value.
func Encode(c column.Column, k Kind, value string) (string, error) {
	if !Takes(c, k) {
		return "", fmt.Errorf("%w: it is %s, and the field a %s", fieldcrypt.ErrValue, k, goType(c))
	}
	if k == Time || k == Date {
		encoded, err := parseTime(value)
		if err != nil {
			return "", err
		}
		if k == Time || goType(c) != fieldcrypt.StringType { // a date in text has no time of day
			value = encoded
		}
	}
	switch goType(c) {
	case fieldcrypt.StringType:
		return checkText(value)
	case fieldcrypt.BytesType:
		return unhex(k, value), nil
	case fieldcrypt.TimeType:
		return parseTime(value)
	}
	return encodeJSON(c, k, value)
}

func checkText(value string) (string, error) {
	if !utf8.ValidString(value) {
		return "", column.ErrNotText
	}
	return value, nil
}

var byteaText = regexp.MustCompile(`^\\x(?:[0-9a-f]{2})*$`)

// unhex returns the bytes that Postgres cast to text, `\x` and hexadecimal.
func unhex(k Kind, value string) string {
	if k != Hexed || !byteaText.MatchString(value) {
		return value
	}
	raw, err := hex.DecodeString(value[2:])
	if err != nil {
		return value
	}
	return string(raw)
}

func encodeJSON(c column.Column, k Kind, value string) (string, error) {
	switch {
	case k == UUID || k == Time || k == Date:
		value = `"` + value + `"`
	case !utf8.ValidString(value):
		return "", valueError(c)
	}
	if strings.TrimSpace(value) == `"`+fieldcrypt.Redacted+`"` {
		return "", fieldcrypt.ErrRedacted
	}
	var compact bytes.Buffer
	if json.Compact(&compact, []byte(value)) != nil {
		return "", valueError(c)
	}
	canonical, known, err := canonicalOf(c, value)
	switch {
	case err != nil:
		return "", err
	case known && saysTheSame(canonical, value):
		return canonical, nil
	}
	return compact.String(), nil
}

func valueError(c column.Column) error {
	return fmt.Errorf("%w (%s)", fieldcrypt.ErrValue, goType(c))
}

// canonicalOf returns Go's encoding of the value that a plaintext encodes.
// known is false if the process doesn't know the field's type.
func canonicalOf(c column.Column, plaintext string) (canonical string, known bool, err error) {
	field, ok := column.FieldScanner(c).(interface{ Canonical(string) (string, error) })
	if !ok {
		return "", false, nil
	}
	canonical, err = field.Canonical(plaintext)
	return canonical, true, err
}

// DecodesAs names the type that [Decode] checks a column's plaintext for.
func DecodesAs(c column.Column) string {
	switch t := goType(c); t {
	case fieldcrypt.StringType:
		return "text in UTF-8"
	case fieldcrypt.BytesType:
		return "bytes"
	case fieldcrypt.TimeType:
		return t
	default:
		if _, ok := column.FieldScanner(c).(interface{ Canonical(string) (string, error) }); ok {
			return t
		}
		return "JSON, as this process doesn't know " + t
	}
}

// Decode returns an error if a plaintext doesn't decode as its field's type:
// [fieldcrypt.ErrValue] or [column.ErrNotText]. If the process doesn't know the
// type, the plaintext must be JSON.
func Decode(c column.Column, plaintext string) error {
	switch goType(c) {
	case fieldcrypt.StringType:
		_, err := checkText(plaintext)
		return err
	case fieldcrypt.BytesType:
		return nil
	case fieldcrypt.TimeType:
		_, err := fieldcrypt.Canonical[time.Time](plaintext)
		return err
	}
	_, known, err := canonicalOf(c, plaintext)
	if !known && !json.Valid([]byte(plaintext)) {
		err = valueError(c)
	}
	return err
}
