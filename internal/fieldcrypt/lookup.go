package fieldcrypt

import (
	"database/sql/driver"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
)

var errNoIndex = errors.New("the column has no blind index")

// Lookup returns the predicate that finds the rows of a secret, a [Secret] or a [Value], by a column's blind index. The generated
// functions, as usercredential.APIKeyIs, are made of it. It looks for the digests under all keys of the client's keyring, so that it
// finds every row at each moment of a rotation. Rows without a digest it does not find: those that were not written by a
// client, until the rotate engine has filled them in. Where digests have fewer than 256 bits, or secrets are normalised, it may
// find others as well: compare what they reveal.
//
// The query fails for an absent secret, for one that cannot be revealed, and on databases other than Postgres and SQLite.
func Lookup(table, column string, value any) func(*entsql.Selector) {
	return func(s *entsql.Selector) {
		arg, err := newLookup(table, column, value)
		if err != nil {
			s.AddError(err)
			return
		}
		index := s.C(arg.column.Index)
		switch arg.dialect = s.Dialect(); arg.dialect {
		case dialect.Postgres:
			s.Where(entsql.P(func(b *entsql.Builder) {
				b.Ident(index).WriteString(" = ANY (").Arg(arg).WriteString("::bytea[])")
			}))
		case dialect.SQLite:
			s.Where(entsql.P(func(b *entsql.Builder) {
				b.Ident(index).WriteString(" IN (SELECT unhex(value) FROM json_each(").Arg(arg).WriteString("))")
			}))
		default:
			s.AddError(arg.column.wrap("look up", fmt.Errorf("no blind index on %s: %w", arg.dialect, errors.ErrUnsupported)))
		}
	}
}

// lookup is a statement's argument that stands for the digests of a secret. Loggers of arguments see a redacted value.
type lookup struct {
	column    ColumnInfo
	plaintext string
	dialect   string
}

func newLookup(table, column string, value any) (*lookup, error) {
	c, err := FindColumn(table + "." + column)
	if err != nil {
		return nil, err
	}
	if one, ok := untypedOne(value); ok {
		value = one
	}
	s, ok := value.(Secret)
	switch {
	case !ok:
		return nil, c.wrap("look up", fmt.Errorf("%w: a %T", ErrValue, value))
	case c.Index == "":
		return nil, c.wrap("look up", errNoIndex)
	case s.IsZero():
		return nil, c.wrap("look up", errAbsent)
	}
	plaintext, err := s.Reveal()
	if err != nil {
		return nil, c.wrap("look up", err)
	}
	return &lookup{column: c, plaintext: plaintext}, nil
}

// encode returns the digests as the predicate's SQL takes them: as an array of Postgres, or as one of JSON.
func (l *lookup) encode(ring *Keyring) (string, error) {
	digests, err := ring.Digests(l.column, l.plaintext)
	if err != nil {
		return "", l.column.wrap("look up", err)
	}
	texts := make([]string, len(digests))
	for i, digest := range digests {
		texts[i] = hex.EncodeToString(digest)
	}
	if l.dialect == dialect.Postgres {
		return `{"\\x` + strings.Join(texts, `","\\x`) + `"}`, nil
	}
	array, err := json.Marshal(texts)
	return string(array), err
}

// Value uses the default keyring, for statements that do not pass a driver of [NewDriver].
func (l *lookup) Value() (driver.Value, error) {
	ring, err := Default()
	if err != nil {
		return nil, l.column.wrap("look up", err)
	}
	return l.encode(ring)
}

// String returns [Redacted].
func (l *lookup) String() string { return Redacted }

// GoString returns [Redacted].
func (l *lookup) GoString() string { return Redacted }

// Format writes [Redacted], whatever the verb and flags.
func (l *lookup) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// MarshalText returns [Redacted].
func (l *lookup) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
