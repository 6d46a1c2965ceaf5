package fieldcrypt

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// ErrValue means that a value can't be encoded, or that a stored plaintext
// doesn't decode as the field's type.
var ErrValue = errors.New("it does not encode or decode as its type")

// Names of plaintext types.
const (
	StringType = "string"
	BytesType  = "[]byte"
	TimeType   = "time.Time"
)

// secret is embedded under an unexported name, so that callers can't call
// [Secret.Reveal] instead of [Value.Reveal].
type secret = Secret

// Value is a [Secret] with a T as its plaintext: it stores, prints and fails
// like one. The zero value is absent and stores as NULL. The encrypted text is
//
//   - for a []byte the bytes themselves,
//   - for a time.Time the instant in UTC as in RFC 3339, to the nanosecond:
//     2026-11-24T12:30:00.5Z,
//   - for any other T its JSON, with texts that are UTF-8.
//
// A Value is immutable, may be copied, and is safe for concurrent use.
// [NewValue] encodes its argument at once, so later changes have no effect.
type Value[T any] struct{ secret }

// NewValue returns a present value. Revealing or storing it fails with
// [ErrValue] if v can't be encoded, and with [ErrRedacted] if v has a secret.
func NewValue[T any](v T) Value[T] {
	text, err := encode(v)
	if _, isBytes := any(v).([]byte); !isBytes && strings.Contains(text, `"`+Redacted+`"`) {
		err = ErrRedacted // of a secret in v, or of one that was printed
	}
	if err != nil {
		return Value[T]{secretOf(&Inner{opener: unencodable{err}})}
	}
	return Value[T]{secretOf(&Inner{text: text})}
}

// unencodable is the opener of a value that can't be encoded.
type unencodable struct{ err error }

// Open implements Opener.
func (u unencodable) Open(string, any, func(string) error) (string, error) { return "", u.err }

// Locate implements Opener.
func (u unencodable) Locate(op string, _ any, err error) error { return &Error{Op: op, Err: err} }

// ValueOf returns a secret as a value.
func ValueOf[T any](s Secret) Value[T] { return Value[T]{s} }

// Reveal returns the plaintext, or the zero T for an absent value. Errors are
// those that [Secret.Reveal] returns, and [ErrValue].
func (v Value[T]) Reveal() (T, error) {
	var value T
	if v.IsZero() {
		return value, nil
	}
	_, err := v.inner().reveal(func(text string) (err error) { value, err = parse[T](text); return err })
	if err != nil { // a trail can refuse the reveal after decoding
		var zero T
		return zero, err
	}
	return value, nil
}

// Equal reports whether both values are absent, or both are present and have
// the same encoding. The comparison's time depends only on the lengths. A value
// that can't be revealed equals nothing, not even itself.
func (v Value[T]) Equal(other Value[T]) bool {
	if v.IsZero() || other.IsZero() {
		return v.IsZero() && other.IsZero()
	}
	a, ok := v.canonical()
	b, ok2 := other.canonical()
	return ok && ok2 && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// canonical returns Go's encoding of the value, since another program may have
// written the JSON with different white space.
func (v Value[T]) canonical() (string, bool) {
	value, err := v.Reveal()
	if err != nil {
		return "", false
	}
	text, err := encode(value)
	return text, err == nil
}

// OpenedBy is [Secret.OpenedBy].
func (v Value[T]) OpenedBy(o Opener) Value[T] { return Value[T]{v.secret.OpenedBy(o)} }

// UnmarshalText decodes a text into a present value. It refuses [Redacted] with
// [ErrRedacted], and anything else that isn't a T with [ErrValue]; the errors
// don't quote the text.
func (v *Value[T]) UnmarshalText(text []byte) error {
	if isMarker(text) {
		return ErrRedacted
	}
	value, err := parse[T](string(text))
	if _, isBytes := any(value).([]byte); err != nil || !isBytes && !IsExactJSON(text) {
		return fmt.Errorf("credent: a text: %w", valueError(value))
	}
	*v = NewValue(value)
	return nil
}

// UnmarshalJSON decodes JSON into a T with encoding/json, and null into an
// absent value. It refuses [Redacted] with [ErrRedacted], and anything else
// that isn't a T with [ErrValue]; the errors don't quote the input.
func (v *Value[T]) UnmarshalJSON(data []byte) error {
	var value T
	switch {
	case string(data) == "null":
		*v = Value[T]{}
		return nil
	case isMarker(data):
		return ErrRedacted
	case !IsExactJSON(data) || json.Unmarshal(data, &value) != nil:
		return fmt.Errorf("credent: JSON: %w (%T)", ErrValue, value)
	}
	*v = NewValue(value)
	return nil
}

// asSecret returns the value as a secret.
func (v Value[T]) asSecret() Secret { return v.secret }

// typed is implemented by every [Value].
type typed interface{ asSecret() Secret }

// AsSecret returns the secret that an argument is or holds: a [Secret], a
// [Value], or a pointer or sql.Null of one. It reports false for anything
// else, and an absent secret for a nil pointer.
func AsSecret(arg any) (Secret, bool) {
	switch arg := arg.(type) {
	case Secret:
		return arg, true
	case typed:
		if p := reflect.ValueOf(arg); p.Kind() == reflect.Pointer && p.IsNil() {
			return Secret{}, true
		}
		return arg.asSecret(), true
	case *Secret:
		if arg == nil {
			return Secret{}, true
		}
		return *arg, true
	}
	v := reflect.ValueOf(arg)
	if v.Kind() != reflect.Struct || v.Type().PkgPath() != "database/sql" {
		return Secret{}, false
	}
	if inner := v.FieldByName("V"); inner.IsValid() { // a sql.Null
		if s, ok := AsSecret(inner.Interface()); ok {
			if !v.FieldByName("Valid").Bool() {
				s = Secret{}
			}
			return s, true
		}
	}
	return Secret{}, false
}

// encode returns the text to encrypt. It drops other packages' errors, which
// could quote the value.
func encode(value any) (string, error) {
	switch value := value.(type) {
	case []byte:
		return string(value), nil
	case time.Time:
		text, err := value.UTC().MarshalText()
		if err != nil {
			return "", valueError(value)
		}
		return string(text), nil
	}
	data, err := json.Marshal(value)
	if err != nil || bytes.Contains(data, []byte(`\ufffd`)) && !keeps(value, data) {
		return "", valueError(value)
	}
	return string(data), nil
}

// keeps reports whether JSON with \ufffd in it has the texts of a value.
// encoding/json writes that for invalid UTF-8 too, and reads another text.
func keeps(value any, data []byte) bool {
	back := reflect.New(reflect.TypeOf(value))
	_ = json.Unmarshal(data, back.Interface()) // what fails differs
	again, err := json.Marshal(back.Elem().Interface())
	return err == nil && bytes.Equal(again, data)
}

// parse is the reverse of encode.
func parse[T any](text string) (value T, err error) {
	switch p := any(&value).(type) {
	case *[]byte:
		*p = []byte(text)
	case *time.Time:
		if err = p.UnmarshalText([]byte(text)); err == nil {
			*p = p.UTC()
		}
	default:
		err = json.Unmarshal([]byte(text), p)
	}
	if err != nil {
		var zero T
		return zero, valueError(zero)
	}
	return value, nil
}

// Canonical returns Go's encoding of the value that a text encodes, or an
// [ErrValue].
func Canonical[T any](text string) (string, error) {
	value, err := parse[T](text)
	if err != nil {
		return "", err
	}
	return encode(value)
}

func valueError(value any) error { return fmt.Errorf("%w (%T)", ErrValue, value) }

// TypeName returns the name of a plaintext type, as written in code that
// imports its package.
func TypeName[T any]() string {
	return strings.ReplaceAll(reflect.TypeFor[T]().String(), "[]uint8", BytesType)
}

// IsSecretType reports whether a type is a [Secret] or [Value], points to one,
// or embeds one.
func IsSecretType(t reflect.Type) bool {
	return t.Implements(reflect.TypeFor[typed]()) || t.Implements(reflect.TypeFor[interface{ target() *Secret }]()) ||
		reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ target() *Secret }]())
}
