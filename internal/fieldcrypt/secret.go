// Package fieldcrypt encrypts single fields of database rows. It has the type of such a field ([Secret]), the ent
// column that stores it ([Column]), the keys ([Keyring]) and the ent driver that joins them ([NewDriver]).
//
// Stored values are Fernet tokens (https://github.com/fernet/spec/blob/master/Spec.md): AES-128-CBC and HMAC-SHA-256,
// base64url with padding, readable by every Fernet implementation that has the key. They have no expiry.
//
// A token protects the confidentiality and integrity of one value against a reader of the database, its backups and
// its logs. It does not hide the time of writing or the length (in steps of 16 bytes), is not bound to its row or
// column, unless the column's tokens are bound (see [Keyring.Bind]), and does not protect against a reader of the memory of the
// process.
package fieldcrypt

import (
	"crypto/subtle"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Redacted is what a secret prints as, in every format. It is refused as a secret, so that a redacted value that comes
// back in is not stored.
const Redacted = "[REDACTED]"

// Secret is a text that is stored encrypted and never printed. The zero value is absent: it stores as NULL. A present
// secret may be empty: [New]("") stores as a token.
//
// A Secret is immutable, may be copied, and is safe for concurrent use. Compare with [Secret.Equal]; it is not
// comparable with ==. One that was read from a row is opened when it is revealed and not before, so an unreadable one
// can be listed; set on another row it is encrypted anew, never copied.
type Secret struct {
	// A closure, because printers that walk unexported fields and pointers do not look inside one.
	inner func() *inner
}

// inner is either a plaintext from outside or a token from the database.
//
// Of a list there are many, hence what they have in common is apart.
type inner struct {
	text   string  // plaintext or token
	row    any     // the primary key
	of     *origin // nil for one from outside
	binary bool    // the plaintext may be other than text
	stored bool    // text is a token
	null   bool    // of a target: NULL was scanned
}

// origin is what those secrets of a result have in common that are of one column and in rows of one tenant. It is immutable.
type origin struct {
	raw    *origin     // that which the scan gave it, before the client's driver; nil for itself
	codec  *codec      // of the client that read it; nil if there was none
	column *ColumnInfo // nil if it is not known
	window bool        // the column may still hold plaintext
	scoped bool        // which keys open the token depends on column and tenant

	tenant   string
	tenanted bool       // the tenant is known
	ref      *tenantRef // to the tenant's keys; nil if tenants have none of their own
	ring     *Keyring   // in place of the client's, or nil
	err      error      // why there is no plaintext
}

// unknown is the origin of a secret that has none.
var unknown origin

func (in *inner) origin() *origin {
	if in.of == nil {
		return &unknown
	}
	return in.of
}

// from returns a copy of the secret with another origin.
func (in *inner) from(of origin) Secret {
	other := *in
	other.of = &of
	return secretOf(&other)
}

// Reveal says that a stored secret was revealed, or could not be. Fields that are not known are empty.
type Reveal struct {
	Table  string // "user_credentials"
	Column string // "api_key"
	Row    string // primary key of the row
	Err    error  // what Reveal returned

	// Plaintext means that the secret was stored as plaintext, in a column that may still hold it.
	Plaintext bool
}

func secretOf(in *inner) Secret { return Secret{inner: func() *inner { return in }} }

// New returns a present secret with the given plaintext.
func New(plaintext string) Secret { return secretOf(&inner{text: plaintext}) }

// IsZero reports whether the secret is absent (NULL). It does not decrypt.
func (s Secret) IsZero() bool { return s.inner == nil }

// Reveal returns the plaintext; of an absent secret, "". A stored one is verified and decrypted at each call, with the
// keyring of the client that read it or, where there was none, the default one. Errors: [ErrNoKey],
// [ErrUnknownKey], [ErrCorrupt], [ErrNotEncrypted], in an [Error] that names the column.
func (s Secret) Reveal() (string, error) {
	if s.inner == nil {
		return "", nil
	}
	in := s.inner()
	of := in.origin()
	if !in.stored {
		return in.text, of.err
	}
	plaintext, err := in.open()
	if err != nil {
		err = in.wrap("decrypt", err)
	}
	if of.codec != nil && of.codec.OnReveal != nil {
		event := Reveal{Row: rowText(in.row), Err: err, Plaintext: in.isPlaintext()}
		if of.column != nil {
			event.Table, event.Column = of.column.Table, of.column.Name
		}
		of.codec.OnReveal(event)
	}
	return plaintext, err
}

// WithKeyring returns a stored secret that reveals with the given keyring, for one that was scanned from rows of
// database/sql, which do not know the client's. Others it returns as they are.
func (s Secret) WithKeyring(ring *Keyring) Secret {
	if s.inner == nil || !s.inner().stored {
		return s
	}
	of := *s.inner().origin()
	of.ring = ring
	return s.inner().from(of)
}

// isPlaintext reports whether what is stored counts as plaintext, which it never does if it begins like a token.
func (in *inner) isPlaintext() bool { return in.origin().window && !IsToken(in.text) }

func (in *inner) open() (string, error) {
	if in.isPlaintext() {
		if in.text == Redacted {
			return "", ErrRedacted // what should have been stored is lost
		}
		return in.text, nil
	}
	of := in.origin()
	if of.scoped {
		return of.open(in.text)
	}
	ring := of.ring
	if ring == nil {
		var err error
		if ring, err = of.codec.keyring(); err != nil {
			return "", err
		}
	}
	return ring.Decrypt(in.text)
}

func (in *inner) wrap(op string, err error) error {
	e := &Error{Op: op, Err: err}
	if column := in.origin().column; column != nil {
		e.Table, e.Column = column.Table, column.Name
	}
	e.Row = rowText(in.row)
	return e
}

// rowText returns a primary key of the types that ent gives one, or "".
func rowText(id any) string {
	switch id := id.(type) {
	case sql.NullInt64:
		if id.Valid {
			return fmt.Sprint(id.Int64)
		}
	case sql.NullString:
		return id.String
	case fmt.Stringer:
		return id.String()
	}
	if v := reflect.ValueOf(id); v.CanInt() || v.CanUint() || v.Kind() == reflect.String {
		return fmt.Sprint(id)
	}
	return ""
}

// Equal reports whether both secrets are absent, or both are present and have the same plaintext. The time it takes
// depends on the lengths only. A secret that cannot be revealed equals none.
func (s Secret) Equal(other Secret) bool {
	if s.IsZero() || other.IsZero() {
		return s.IsZero() && other.IsZero()
	}
	a, err := s.Reveal()
	if err != nil {
		return false
	}
	b, err := other.Reveal()
	if err != nil {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// String returns [Redacted].
func (s Secret) String() string { return Redacted }

// GoString returns [Redacted].
func (s Secret) GoString() string { return Redacted }

// Format writes [Redacted], whatever the verb and flags.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue returns [Redacted].
func (s Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText returns [Redacted].
func (s Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// UnmarshalText makes a present secret of the text. It refuses [Redacted] with [ErrRedacted].
func (s *Secret) UnmarshalText(text []byte) error {
	if string(text) == Redacted {
		return ErrRedacted
	}
	*s = New(string(text))
	return nil
}

// MarshalJSON returns [Redacted] as a JSON string, or null for an absent secret.
func (s Secret) MarshalJSON() ([]byte, error) {
	if s.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(Redacted)
}

// UnmarshalJSON makes a present secret of a JSON string and an absent one of null. It refuses anything else, and
// [Redacted] with [ErrRedacted]; the errors do not quote the input.
func (s *Secret) UnmarshalJSON(data []byte) error {
	var text *string
	if err := json.Unmarshal(data, &text); err != nil || !isExact(data) {
		return errNotAString
	}
	if text == nil {
		*s = Secret{}
		return nil
	}
	return s.UnmarshalText([]byte(*text))
}

// isExact reports whether encoding/json reads the texts in JSON as they are. It would replace invalid UTF-8 and halves of
// surrogate pairs, and another secret would be stored than was given.
func isExact(data []byte) bool {
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
		if rest := data[i+5:]; len(rest) == 0 || rest[0] != '\\' || utf16.DecodeRune(first, escaped(rest[1:])) == utf8.RuneError {
			return false
		}
		i += 10
	}
	return true
}

// escaped returns the number in uXXXX at the beginning of a text, or 0.
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

var errNotAString = fmt.Errorf("fieldcrypt: a secret in JSON must be a string in UTF-8, or null")

// GobEncode refuses: a gob would have to hold the plaintext.
func (s Secret) GobEncode() ([]byte, error) {
	return nil, fmt.Errorf("fieldcrypt: a secret cannot be gob-encoded")
}

// Scan reads a stored value, for queries that scan into structs of the caller's, or with ent into a []*Secret. It does not
// decrypt. NULL gives an absent secret.
func (s *Secret) Scan(src any) error {
	text, present, err := scan(src)
	if err != nil {
		return &Error{Op: "scan", Err: err}
	}
	if !present {
		*s = Secret{}
		return nil
	}
	*s = secretOf(&inner{text: text, stored: true})
	return nil
}

// target makes a scanned secret known to be one also where it is embedded in a type of the caller's.
func (s *Secret) target() *Secret { return s }

// scan copies the stored value. It reports false for NULL.
func scan(src any) (text string, present bool, err error) {
	switch src := src.(type) {
	case nil:
		return "", false, nil
	case string:
		return src, true, nil
	case []byte:
		return string(src), true, nil
	default:
		return "", false, fmt.Errorf("%w (a %T)", ErrNotEncrypted, src)
	}
}
