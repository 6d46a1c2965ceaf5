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
		arg := newLookup(table, column, value)
		arg.dialect = s.Dialect()
		s.Where(entsql.P(func(b *entsql.Builder) {
			switch {
			case arg.err != nil:
				b.Arg(arg).WriteString(" IS NULL") // is not run: the argument is refused, with an error that ent would not keep
			case arg.dialect == dialect.Postgres:
				b.Ident(s.C(arg.column.Index)).WriteString(" = ANY (").Arg(arg).WriteString("::bytea[])")
			default:
				b.Ident(s.C(arg.column.Index)).WriteString(" IN (SELECT unhex(value) FROM json_each(").Arg(arg).WriteString("))")
			}
		}))
	}
}

// lookup is a statement's argument that stands for the digests of a secret. Loggers of arguments see a redacted value.
type lookup struct {
	column    ColumnInfo
	plaintext func() string // a closure, like that of Secret
	dialect   string
	err       error // why there is none
}

func newLookup(table, column string, value any) *lookup {
	c, err := FindColumn(table + "." + column)
	if err != nil {
		return &lookup{err: err}
	}
	if one, ok := untypedOne(value); ok {
		value = one
	}
	s, ok := value.(Secret)
	switch {
	case !ok:
		err = fmt.Errorf("%w: a %T", ErrValue, value)
	case c.Index == "":
		err = errNoIndex
	case s.IsZero():
		err = errAbsent
	}
	if err != nil {
		return &lookup{err: c.wrap("look up", err)}
	}
	plaintext, err := s.Reveal() // an error says where the secret came from
	return &lookup{column: c, plaintext: func() string { return plaintext }, err: err}
}

// encode returns the digests as the predicate's SQL takes them: as an array of Postgres, or as one of JSON.
func (l *lookup) encode(ring *Keyring) (string, error) {
	if l.err != nil {
		return "", l.err
	}
	if l.dialect != dialect.Postgres && l.dialect != dialect.SQLite {
		return "", l.column.wrap("look up", fmt.Errorf("no blind index on %s: %w", l.dialect, errors.ErrUnsupported))
	}
	digests, err := ring.Digests(l.column, l.plaintext())
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
