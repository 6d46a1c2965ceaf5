package fieldcrypt

import (
	"errors"
	"strings"
)

// Errors that callers decide on, to be tested with errors.Is. Where a column is known they come wrapped in an [Error]
// that says which one. None of them, nor any text they are wrapped in, holds plaintext, key material or a token.
var (
	// ErrNoKey means that there is no keyring to encrypt or decrypt with.
	ErrNoKey = errors.New("no encryption key")

	// ErrBadKey means that a key is malformed, of the wrong length, all zero, given twice, or signs like another.
	ErrBadKey = errors.New("bad encryption key")

	// ErrPrimaryLost means that a new keyring lacks the primary key of the one it would replace.
	ErrPrimaryLost = errors.New("the new keyring lacks the primary key in use")

	// ErrNotEncrypted means that a column holds something that is not a token, for instance plaintext or nothing at
	// all ("", as opposed to NULL).
	ErrNotEncrypted = errors.New("not encrypted: the stored value is not a token")

	// ErrCorrupt means that a token is damaged and cannot be opened. Every way in which a token can fail to open is an
	// ErrCorrupt; one of them is also an [ErrUnknownKey].
	ErrCorrupt = errors.New("damaged token")

	// ErrUnknownKey means that a well-formed token is authenticated by no key of the keyring: it was encrypted under
	// another key, or altered. A Fernet token does not name its key, so the two cannot be told apart, and
	// errors.Is(ErrUnknownKey, ErrCorrupt) is true as well.
	ErrUnknownKey error = unknownKeyError{}

	// ErrContext means that a token is not where it belongs, or that it is not known where that is. No key opens a bound token
	// anywhere else than in its table, its column and the rows of its tenant: it was moved, is not bound, or is altered or under
	// another key, and errors.Is(err, ErrCorrupt) is true as well. Or a statement or a result does not say whose row it is; the
	// error's text says what to do.
	ErrContext = errors.New("wrong context")

	// ErrTooLong means that a plaintext is too long for its column once encrypted.
	ErrTooLong = errors.New("secret too long")

	// ErrManyRows means that a statement would store one secret in many rows under one token, which would show a reader of
	// the database that they are equal.
	ErrManyRows = errors.New("one token for many rows: set the secret row by row")

	// ErrPredicate means that a secret was given to a statement to compare with, or that this cannot be ruled out. No two
	// tokens are equal, not even of the same plaintext, so that the comparison would never match, and its opposite always.
	ErrPredicate = errors.New("a secret cannot be compared in SQL: equal secrets have different tokens")

	// ErrNotText means that a plaintext is not valid UTF-8. The Python application could not read the whole row.
	ErrNotText = errors.New("secret is not valid UTF-8")

	// ErrLooksLikeToken means that a plaintext begins like a token, so that it cannot be stored as plaintext: it would be taken
	// for a damaged token.
	ErrLooksLikeToken = errors.New("the plaintext begins like a token, and would be taken for one")

	// ErrNoColumn means that a name is not that of an encrypted column.
	ErrNoColumn = errors.New("no such encrypted column")

	// ErrShredded means that the key of a row's tenant was destroyed, so that what is stored can never be read, and that nothing
	// can be stored for the tenant any more. It is no damage: no backup of the row and no other key mends it.
	ErrShredded = errors.New("the tenant's key was destroyed, and its secrets with it")

	// ErrRedacted means that the text which stands for a secret in output, [Redacted], was given as a secret.
	ErrRedacted = errors.New("the redaction marker is not a secret")
)

type unknownKeyError struct{}

func (unknownKeyError) Error() string {
	return "no key in the keyring opens this token: it was encrypted under another key, or altered"
}

// Is makes every unknown key a damaged token.
func (unknownKeyError) Is(target error) bool { return target == ErrCorrupt }

// contextError is an ErrContext of a token that does not open.
type contextError struct {
	text string
	as   error // ErrUnknownKey, or ErrCorrupt if a key is known to open the token elsewhere
}

func (e *contextError) Error() string { return e.text }

// Is makes it an [ErrContext], and a damaged token.
func (e *contextError) Is(target error) bool { return target == ErrContext }

// Unwrap makes it the kind of a damaged token that it is.
func (e *contextError) Unwrap() error { return e.as }

var (
	errMoved error = &contextError{"no key opens this token here: it is of another tenant, column or table, not bound to any, " +
		"altered, or under another key", ErrUnknownKey}
	errUnbound error = &contextError{"the token is not bound to its tenant, and the column holds bound ones only: bind it, or allow " +
		"unbound ones until that is done", ErrCorrupt}
)

// Error says which operation failed on which secret. Fields that are not known are empty. Unwrap gives the cause.
type Error struct {
	Op     string // "encrypt", "decrypt" or "scan"
	Table  string // "user_credentials"
	Column string // "api_key"
	Row    string // primary key of the row
	Err    error
}

// Error gives "fieldcrypt: decrypt user_credentials.api_key of row ID: cause".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("fieldcrypt: ")
	b.WriteString(e.Op)
	if e.Column != "" {
		b.WriteString(" " + e.Table + "." + e.Column)
	}
	if e.Row != "" {
		b.WriteString(" of row " + e.Row)
	}
	b.WriteString(": " + e.Err.Error())
	return b.String()
}

// Unwrap returns the cause, for errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Err }
