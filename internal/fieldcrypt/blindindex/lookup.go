package blindindex

import (
	"database/sql/driver"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/redact"
)

var (
	errNoIndex = errors.New("the column has no blind index")
	errAbsent  = errors.New("the secret is absent")
)

// Lookup returns the predicate that finds a secret's rows, a
// [fieldcrypt.Secret] or [fieldcrypt.Value], by a column's blind index.
// Generated functions such as usercredential.APIKeyIs call it. It searches for
// the digests under all keys of the client's keyring. It doesn't find rows
// without a digest, which another writer stored, until rotate has filled them
// in. With fewer than 256 bits, or normalised plaintexts, it may find other
// rows too: compare what they reveal.
//
// The query fails for an absent secret, for a secret that can't be revealed,
// and on databases other than Postgres and SQLite.
func Lookup(c column.Column, value any) func(*entsql.Selector) {
	return func(s *entsql.Selector) {
		arg := newLookup(c, value)
		arg.dialect = s.Dialect()
		s.Where(entsql.P(func(b *entsql.Builder) {
			switch {
			case arg.err != nil:
				// It never runs: the driver refuses the argument, with an
				// error that ent would lose.
				b.Arg(arg).WriteString(" IS NULL")
			case arg.dialect == dialect.Postgres:
				b.Ident(s.C(arg.column.Index)).WriteString(" = ANY (").Arg(arg).WriteString("::bytea[])")
			default:
				b.Ident(s.C(arg.column.Index)).WriteString(" IN (SELECT unhex(value) FROM json_each(").Arg(arg).WriteString("))")
			}
		}))
	}
}

// Digests stands for a secret's digests in a lookup. Loggers of arguments see
// a redacted value.
type Digests struct {
	redact.Methods
	column    column.Column
	plaintext func() string // a closure, as in Secret
	dialect   string
	err       error // why there are none
}

func newLookup(c column.Column, value any) *Digests {
	s, ok := fieldcrypt.AsSecret(value)
	var err error
	switch {
	case !ok:
		err = fmt.Errorf("%w: a %T", fieldcrypt.ErrValue, value)
	case c.Index == "":
		err = errNoIndex
	case s.IsZero():
		err = errAbsent
	}
	if err != nil {
		return &Digests{err: c.Wrap("look up", err)}
	}
	plaintext, err := s.Reveal() // an error says where the secret came from
	return &Digests{column: c, plaintext: func() string { return plaintext }, err: err}
}

// Encode returns the digests as the predicate's SQL takes them: an array of
// Postgres, or of JSON.
func (l *Digests) Encode(d *Digester, ring *keyring.Keyring) (string, error) {
	if l.err != nil {
		return "", l.err
	}
	if l.dialect != dialect.Postgres && l.dialect != dialect.SQLite {
		return "", l.column.Wrap("look up", fmt.Errorf("no blind index on %s: %w", l.dialect, errors.ErrUnsupported))
	}
	digests, err := d.All(ring, l.column, l.plaintext())
	if err != nil {
		return "", l.column.Wrap("look up", err)
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

// Value implements driver.Valuer. It refuses: without Credent's driver nobody
// writes digests, so the lookup would find nothing.
func (l *Digests) Value() (driver.Value, error) {
	if l.err != nil {
		return nil, l.err
	}
	return nil, l.column.Wrap("look up", fieldcrypt.ErrNoDriver)
}
