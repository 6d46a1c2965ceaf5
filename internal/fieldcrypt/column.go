package fieldcrypt

import (
	"cmp"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"entgo.io/ent/schema/field"
)

// column is the ent ValueScanner of one encrypted column. It is immutable.
type column struct {
	ColumnInfo
	raw origin // of what is scanned
}

func newColumn(info ColumnInfo) *column {
	c := &column{ColumnInfo: info}
	c.raw.column, c.raw.scoped = &c.ColumnInfo, c.Bound
	return c
}

// Value returns the argument that stands for the secret in a statement. It is encrypted only by the client's driver,
// with the client's keyring; where there is no such driver, database/sql encrypts it with the default one. Errors, all
// before any SQL: [ErrTooLong], [ErrNotText], [ErrRedacted], and those of [Secret.Reveal] for a secret read from another row.
func (c *column) Value(s Secret) (driver.Value, error) {
	if s.IsZero() {
		return nil, nil
	}
	plaintext, err := s.Reveal()
	if err == nil {
		err = checkPlaintext(plaintext, c.Size, c.Type == bytesType)
	}
	if err != nil {
		return nil, c.wrap("encrypt", err)
	}
	if s.inner().stored {
		s = New(plaintext) // opened once, and not again when it is sealed
	}
	return &pending{column: c, secret: s}, nil
}

var errAbsent = errors.New("the secret is absent")

// checkPlaintext refuses what must not be stored, or would not fit a column of size characters. Only a binary one may be
// other than text.
func checkPlaintext(plaintext string, size int, binary bool) error {
	if plaintext == Redacted {
		return ErrRedacted
	}
	if !binary && !utf8.ValidString(plaintext) {
		return ErrNotText
	}
	if limit := MaxPlaintext(size); len(plaintext) > limit {
		return fmt.Errorf("%w: %d bytes, and %d characters hold at most %d bytes encrypted",
			ErrTooLong, len(plaintext), size, limit)
	}
	return nil
}

// ScanValue returns the target of one column of one row.
func (c *column) ScanValue() field.ValueScanner { return newScanned(c) }

// FromValue makes a secret of a scanned target.
func (c *column) FromValue(v driver.Value) (Secret, error) {
	s, ok := v.(*scanned)
	if !ok {
		return Secret{}, c.wrap("scan", fmt.Errorf("unexpected target %T", v))
	}
	return s.result(), nil
}

// pending is a statement's argument that is not yet encrypted. Loggers of arguments see a redacted value.
type pending struct {
	column *column // immutable
	secret Secret
}

// Value encrypts with the default keyring, for statements that do not pass a driver of [NewDriver].
func (p *pending) Value() (driver.Value, error) {
	return (*codec)(nil).sealPending(p, ColumnInfo{}, owner{})
}

// String returns [Redacted].
func (p *pending) String() string { return Redacted }

// GoString returns [Redacted].
func (p *pending) GoString() string { return Redacted }

// Format writes [Redacted], whatever the verb and flags.
func (p *pending) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// MarshalText returns [Redacted].
func (p *pending) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// scanned is the target of one column of one row. It prints no more than its secret does.
type scanned struct {
	secret Secret // if nothing was scanned yet its inner is the room for it
}

// newScanned returns a target together with the room for what its secret needs, since a list has many of them.
func newScanned(c *column) *scanned {
	t := new(struct {
		scanned scanned // a pointer to it shows nothing of what is beside it
		inner   inner
	})
	t.inner.of = &c.raw
	t.scanned.secret = secretOf(&t.inner)
	return &t.scanned
}

// Scan copies the stored value.
func (s *scanned) Scan(src any) error {
	in := s.secret.inner()
	text, present, err := scan(src)
	if err != nil {
		return in.of.column.wrap("scan", err)
	}
	if in.stored || in.null { // an earlier secret has the room
		s.secret = secretOf(&inner{of: cmp.Or(in.of.raw, in.of)})
		in = s.secret.inner()
	}
	in.text, in.stored, in.null = text, present, !present
	return nil
}

// result returns what was scanned.
func (s *scanned) result() Secret {
	if !s.secret.inner().stored {
		return Secret{}
	}
	return s.secret
}

// Value is not used; ent wants targets to be Valuers.
func (s *scanned) Value() (driver.Value, error) { return nil, nil }

// noTarget is the target of a field that has no column.
type noTarget struct{ err error }

// Scan returns why there is none.
func (t noTarget) Scan(any) error { return t.err }

// Value is not used.
func (noTarget) Value() (driver.Value, error) { return nil, nil }
