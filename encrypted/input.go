package encrypted

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// Input is a secret as an API's request has it, such as a String of GraphQL.
// It is a [Secret], and prints as one. gqlgen binds it by its methods
// UnmarshalGQL and MarshalGQL, without an entry in gqlgen.yml. Generated
// mutation inputs have it for fields with [Field.APIInput]; inputs of your own
// may have it too, since code that gqlgen generates can't name [Secret].
type Input struct{ Secret }

// UnmarshalGQL makes a present secret of a string, and of anything else its
// JSON, for fields with a scalar such as Map. It refuses the text that secrets
// print as, with [ErrRedacted]. Errors don't quote the input.
func (in *Input) UnmarshalGQL(v any) error {
	switch v := v.(type) {
	case nil:
		*in = Input{}
		return nil
	case string:
		return in.UnmarshalText([]byte(v))
	default:
		data, err := json.Marshal(v)
		if err != nil {
			return errors.New("encrypted: input of a secret: it is neither a string nor JSON")
		}
		return in.UnmarshalText(data)
	}
}

// MarshalGQL writes [credent.Redacted], as every printer of a secret does.
func (in Input) MarshalGQL(w io.Writer) { _, _ = io.WriteString(w, `"`+fieldcrypt.Redacted+`"`) }

// SetInput sets a field of type [Value] to an input: base64 for bytes, a time
// as in RFC 3339, and JSON for other types. Generated code calls it with the
// field's setter. An input that is none of these fails with [ErrValue] when it
// is stored; the error doesn't quote it.
func SetInput[T any](set func(Value[T]), in Input) { set(inputValue[T](in)) }

func inputValue[T any](in Input) (v Value[T]) {
	if in.IsZero() {
		return v
	}
	text, err := in.Reveal()
	if err == nil {
		if _, isBytes := any(&v).(*Value[[]byte]); isBytes {
			var data []byte
			data, err = base64.StdEncoding.DecodeString(text)
			text = string(data)
		}
		if err != nil {
			err = fmt.Errorf("%w (base64 of bytes)", ErrValue)
		} else {
			err = v.UnmarshalText([]byte(text))
			if cause := errors.Unwrap(err); cause != nil { // the column's error has the prefix
				err = cause
			}
		}
	}
	if err != nil {
		return fieldcrypt.ValueOf[T](fieldcrypt.Stored("", malformed{err}))
	}
	return v
}

// malformed is the opener of an input that isn't of the field's type.
type malformed struct{ err error }

// Open implements Opener.
func (m malformed) Open(string, any, func(string) error) (string, error) { return "", m.err }

// Locate implements Opener.
func (m malformed) Locate(op string, _ any, err error) error { return &Error{Op: op, Err: err} }
