package fieldcrypt

import (
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrRedacted means that [Redacted], printed instead of a secret, was given as
// one.
var ErrRedacted = errors.New("the redaction marker is not a secret")

var errNotAString = errors.New("credent: a secret in JSON must be a string in UTF-8, or null")

// UnmarshalText sets a present secret with the text as its plaintext. It
// refuses [Redacted] with [ErrRedacted].
func (s *Secret) UnmarshalText(text []byte) error {
	if string(text) == Redacted {
		return ErrRedacted
	}
	*s = New(string(text))
	return nil
}

// MarshalJSON returns [Redacted] as a JSON string, or null for an absent
// secret.
func (s Secret) MarshalJSON() ([]byte, error) {
	if s.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(Redacted)
}

// UnmarshalJSON sets a present secret from a JSON string, and an absent one
// from null. It refuses anything else, and [Redacted] with [ErrRedacted]; the
// errors don't quote the input.
func (s *Secret) UnmarshalJSON(data []byte) error {
	var text *string
	if err := json.Unmarshal(data, &text); err != nil || !IsExactJSON(data) {
		return errNotAString
	}
	if text == nil {
		*s = Secret{}
		return nil
	}
	return s.UnmarshalText([]byte(*text))
}

// IsExactJSON reports whether encoding/json reads the texts in data unchanged.
// It replaces invalid UTF-8 and unpaired surrogates, and a different secret
// would be stored.
func IsExactJSON(data []byte) bool {
	if !utf8.Valid(data) {
		return false
	}
	for i := 0; i+1 < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		i++
		first := escaped(data[i:])
		if !utf16.IsSurrogate(first) {
			continue
		}
		rest := data[i+5:]
		if len(rest) == 0 || rest[0] != '\\' || utf16.DecodeRune(first, escaped(rest[1:])) == utf8.RuneError {
			return false
		}
		i += 10
	}
	return true
}

// escaped returns the number in a leading uXXXX, or 0.
func escaped(s []byte) rune {
	if len(s) < 5 || s[0] != 'u' {
		return 0
	}
	n, err := strconv.ParseUint(string(s[1:5]), 16, 16)
	if err != nil {
		return 0
	}
	return rune(n)
}

// isMarker reports whether a text or JSON is [Redacted].
func isMarker(text []byte) bool {
	return string(text) == Redacted || string(text) == `"`+Redacted+`"`
}
