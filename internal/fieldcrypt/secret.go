// Package fieldcrypt holds the Go types of encrypted fields: [Secret] and
// [Value].
//
// A secret is a plaintext from the caller, or a token from the database that
// isn't opened until it is revealed. Every printer shows [Redacted]. The
// package knows no keys, columns or databases: the code that scans a token sets
// the [Opener] that opens it. The packages below do the rest:
//
//	fernet      one key, one token
//	keyring     primary and earlier keys, and their sources
//	column      registry, ValueScanner, and stamped arguments
//	blindindex  digests and lookups
//	tenantkey   wrapped data keys of tenants
//	seal        which keys belong to which column and tenant
//	stamp       completes ent's specs; generated code calls it
//	driver      the ent driver that replaces arguments
//
// A token protects one value's confidentiality and integrity against a reader
// of the database, its backups and its logs. It doesn't hide the time of
// writing or the length (in steps of 16 bytes), and doesn't protect against a
// reader of the process's memory.
package fieldcrypt

import (
	"crypto/subtle"
	"database/sql/driver"
	"errors"

	"github.com/credent-go/credent/internal/redact"
)

// Redacted is printed instead of a secret, in every format. It is refused as a
// secret, so that a redacted value can't be stored as one.
const Redacted = redact.Marker

// Secret is a text that is stored encrypted and never printed. The zero value
// is absent and stores as NULL. A present secret may be empty: [New]("")
// stores as a token.
//
// A Secret is immutable, may be copied, and is safe for concurrent use. Compare
// with [Secret.Equal], not with ==. A secret read from a row opens when it is
// revealed, so an unreadable one can be listed; when it is set on another row,
// its plaintext is encrypted again and its token isn't copied.
type Secret struct {
	redact.Methods
	// A closure, because printers that walk unexported fields and pointers
	// don't look inside one.
	inner func() *Inner
}

// Inner is the content of a secret: a plaintext from the caller, or a stored
// value. Lists hold many, so shared state lives in the opener.
type Inner struct {
	text   string // plaintext or stored value
	row    any    // primary key
	opener Opener // opens a stored value, or says why there is no plaintext; may be nil
	stored bool   // text is a stored value
	null   bool   // NULL was scanned into the target
}

// Opener opens the stored values of one column, in rows of one tenant. It is
// safe for concurrent use.
type Opener interface {
	// Open returns the plaintext of a stored value in the row with the given
	// primary key. A non-nil decode must accept it. Errors are [Error]s.
	Open(stored string, row any, decode func(string) error) (string, error)
	// Locate returns err as an [Error] that names the operation, the column
	// and the row.
	Locate(op string, row any, err error) error
}

// ErrNoOpener means that a stored secret has no keyring. It was scanned by
// database/sql, which knows neither the client's keyring nor the column.
var ErrNoOpener = errors.New("the secret was scanned by database/sql, which knows no keyring: " +
	"query with the client, or reveal it with OpenedBy(encrypted.OpenerOf(…))")

// ErrNotRecorded means that the keyring's client has a trail, which would not
// record this reveal.
var ErrNotRecorded = errors.New("the keyring's client has a trail, which would not record this: query with the " +
	"client, or give encrypted.OpenerOf the option encrypted.RecordedBy")

func secretOf(in *Inner) Secret { return Secret{inner: func() *Inner { return in }} }

// New returns a present secret with the given plaintext.
func New(plaintext string) Secret { return secretOf(&Inner{text: plaintext}) }

// Stored returns the secret of a stored value.
func Stored(text string, o Opener) Secret {
	return secretOf(&Inner{text: text, opener: o, stored: true})
}

// Look returns what a secret holds, or nil if it is absent.
func Look(s Secret) *Inner {
	if s.inner == nil {
		return nil
	}
	return s.inner()
}

// IsStored reports whether the secret was read from a database.
func (in *Inner) IsStored() bool { return in.stored }

// Text returns the stored value, or the plaintext if nothing is stored.
func (in *Inner) Text() string { return in.text }

// Row returns the row's primary key, or nil.
func (in *Inner) Row() any { return in.row }

// Opener returns the stored value's opener, or nil.
func (in *Inner) Opener() Opener { return in.opener }

// Complete sets the stored value's opener and row. Only the driver calls it,
// before the caller gets the secret.
func (in *Inner) Complete(o Opener, row any) { in.opener, in.row = o, row }

// IsZero reports whether the secret is absent (NULL). It doesn't decrypt.
func (s Secret) IsZero() bool { return s.inner == nil }

// Reveal returns the plaintext, or "" for an absent secret. A stored secret is
// verified and decrypted at each call, with the keyring of the client that
// read it. Errors are [Error]s that name the column; their causes are
// ErrNoKey, ErrUnknownKey, ErrCorrupt, ErrNotEncrypted, ErrWrongLocation and
// ErrShredded, or [ErrNoOpener].
func (s Secret) Reveal() (string, error) {
	if s.inner == nil {
		return "", nil
	}
	return s.inner().reveal(nil)
}

func (in *Inner) reveal(decode func(string) error) (string, error) {
	switch {
	case in.opener != nil:
		return in.opener.Open(in.text, in.row, decode)
	case in.stored:
		return "", &Error{Op: "decrypt", Err: ErrNoOpener}
	case decode != nil:
		if err := decode(in.text); err != nil {
			return "", in.locate("decode", err)
		}
	}
	return in.text, nil
}

// OpenedBy returns a copy of the secret that o opens, for a secret scanned by
// database/sql. If s isn't a stored secret, it is returned unchanged.
func (s Secret) OpenedBy(o Opener) Secret {
	if s.inner == nil || !s.inner().stored {
		return s
	}
	other := *s.inner()
	other.opener = o
	return secretOf(&other)
}

func (in *Inner) locate(op string, err error) error {
	if in.opener == nil {
		return &Error{Op: op, Err: err}
	}
	return in.opener.Locate(op, in.row, err)
}

// Equal reports whether both secrets are absent, or both are present and have
// the same plaintext. The comparison's time depends only on the lengths. A
// secret that can't be revealed equals nothing, not even itself.
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

// GobEncode refuses: a gob would have to hold the plaintext.
func (s Secret) GobEncode() ([]byte, error) {
	return nil, errors.New("credent: a secret cannot be gob-encoded")
}

// Scan implements sql.Scanner, for queries that scan into the caller's structs,
// or with ent into a []*Secret. It doesn't decrypt. NULL gives an absent
// secret.
func (s *Secret) Scan(src any) error {
	text, present, err := scan(src)
	if err != nil {
		return &Error{Op: "scan", Err: err}
	}
	if !present {
		*s = Secret{}
		return nil
	}
	*s = Stored(text, nil)
	return nil
}

// ErrNoDriver means that a statement reached database/sql with a secret that
// only a client's driver can store.
var ErrNoDriver = errors.New("the statement did not pass Credent's driver: " +
	"make the client with encrypted.NewDriver, and say where the secret is stored with encrypted.At")

// Value implements driver.Valuer. It always returns [ErrNoDriver]. Without it,
// pgx would send the result of String, and other drivers would report only an
// unknown type.
func (s Secret) Value() (driver.Value, error) {
	return nil, &Error{Op: "encrypt", Err: ErrNoDriver}
}

// target lets package code find the secret in a caller's type that embeds one.
func (s *Secret) target() *Secret { return s }
