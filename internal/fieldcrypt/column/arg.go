package column

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/keysource"
	"github.com/credent-go/credent/internal/redact"
)

// Arg stands for a secret in a statement until the driver encrypts it. Anything
// that logs arguments prints it redacted.
type Arg struct {
	redact.Methods
	Column *Column // immutable
	Secret fieldcrypt.Secret
	Place
}

// Place says where an argument is stored. Package stamp fills it in for
// generated code, and stamp.At for raw SQL.
type Place struct {
	Known  bool   // the location is set
	Raw    bool   // the caller of raw SQL set it
	Pinned bool   // the statement updates at most one row
	Tenant string // the row's
	Owned  bool   // the tenant is known
	Schema string // the table's, if it was chosen at run time
	ID     any    // primary key of the updated row, to look up its tenant
	// Scoped is the error to return if the column's keys depend on the tenant.
	Scoped error
	// Refuse is the error to return in any case.
	Refuse error
	// Alone, for a digest, is the error if the secret may also have another
	// digest.
	Alone error
	Row   any // package record's data of a new row; nil for an existing row
}

// Where returns the argument's column, in the schema chosen at run time.
func (a *Arg) Where() Column {
	if a.Schema == "" {
		return *a.Column
	}
	return a.Column.InSchema(a.Schema)
}

// Value implements driver.Valuer, for statements that don't pass Credent's
// driver. It encrypts with the process's keyring if the column needs nothing
// else, and otherwise returns [fieldcrypt.ErrNoDriver].
func (a *Arg) Value() (driver.Value, error) {
	token, err := a.encrypt()
	if err != nil {
		return nil, a.Column.Wrap("encrypt", err)
	}
	return token, nil
}

func (a *Arg) encrypt() (string, error) {
	switch {
	case a.Refuse != nil:
		return "", a.Refuse
	case a.Column.Bound, a.Column.Index != "", a.Raw:
		return "", fieldcrypt.ErrNoDriver
	}
	ring, err := keysource.Default()
	if err != nil {
		return "", err
	}
	plaintext, err := a.Secret.Reveal()
	if err != nil {
		return "", err
	}
	return ring.Encrypt(plaintext)
}

// NewArg returns the argument that stands for a secret in a column, or nil for
// an absent secret. It opens a stored secret, so that its plaintext is
// encrypted again. Errors: [ErrTooLong], [ErrNotText],
// [fieldcrypt.ErrRedacted], and Reveal's.
func NewArg(c Column, s fieldcrypt.Secret) (*Arg, error) { return newArg(&c, s) }

func newArg(c *Column, s fieldcrypt.Secret) (*Arg, error) {
	in := fieldcrypt.Look(s)
	if in == nil {
		return nil, nil
	}
	plaintext, err := s.Reveal()
	if err == nil {
		err = CheckPlaintext(*c, plaintext)
	}
	if err != nil {
		var located *fieldcrypt.Error
		if in.IsStored() && errors.As(err, &located) { // err names the secret's origin
			return nil, fmt.Errorf("credent: encrypt %s: %w", c, err)
		}
		return nil, c.Wrap("encrypt", err)
	}
	if in.IsStored() {
		s = fieldcrypt.New(plaintext) // so that the driver doesn't open it again
	}
	return &Arg{Column: c, Secret: s}, nil
}

// CheckPlaintext returns an error if a column can't store a plaintext:
// [ErrTooLong], [fieldcrypt.ErrRedacted], or [ErrNotText] unless the column
// holds bytes.
func CheckPlaintext(c Column, plaintext string) error {
	switch limit := fernet.MaxPlaintext(c.Size); {
	case plaintext == fieldcrypt.Redacted:
		return fieldcrypt.ErrRedacted
	case c.Type != fieldcrypt.BytesType && !utf8.ValidString(plaintext):
		return ErrNotText
	case len(plaintext) > limit:
		return fmt.Errorf("%w: %d bytes, and %d characters hold at most %d bytes encrypted", ErrTooLong,
			len(plaintext), c.Size, limit)
	}
	return nil
}

// Digest stands for the digest of an argument's secret, in the column's blind
// index. It is the argument under another type, which saves an allocation.
type Digest Arg

// Of returns the argument.
func (d *Digest) Of() *Arg { return (*Arg)(d) }

// Value implements driver.Valuer. It refuses: only Credent's driver makes
// digests.
func (d *Digest) Value() (driver.Value, error) {
	return nil, d.Column.Wrap("index", fieldcrypt.ErrNoDriver)
}

// Guard stands for an ordinary value in a statement. If the keys of one of the
// columns depend on the tenant, the driver refuses or checks the statement.
type Guard struct {
	redact.Methods
	Columns []Column // all in one table
	Stored  any      // the value itself
	Refuse  error    // why the driver refuses it; nil if it doesn't
	Moving  bool     // accept it in a context that moves tenants
	Schema  string   // the table's, if it was chosen at run time
	ID      any      // the row's; the row's tenant must equal Stored; nil for no check
	Differs bool     // the tenant must differ from Stored instead
}

// Value implements driver.Valuer, for statements that don't pass Credent's
// driver.
func (g *Guard) Value() (driver.Value, error) {
	if i := slices.IndexFunc(g.Columns, func(c Column) bool { return c.Bound }); i >= 0 {
		switch {
		case g.Refuse != nil:
			return nil, g.Refuse
		case g.ID != nil:
			return nil, g.Columns[i].Wrap("encrypt", fieldcrypt.ErrNoDriver)
		}
	}
	return driver.DefaultParameterConverter.ConvertValue(g.Stored)
}

// Refusal is an argument that the driver refuses. Generated code passes one
// where it can't return an error.
type Refusal struct {
	redact.Methods
	Err error
}

// Value implements driver.Valuer.
func (r *Refusal) Value() (driver.Value, error) { return nil, r.Err }
