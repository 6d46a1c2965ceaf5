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
// the digests under all keys of the client's keyring, and not under tenants'
// keys: see [LookupIn]. Rows without a digest,
// which another writer stored, get theirs first, if they have this secret; too
// many of them are an [ErrNotFilled]. With fewer than 256 bits, or normalised
// plaintexts, it may find other rows too: compare what they reveal.
//
// The query fails for an absent secret, for a secret that can't be revealed,
// and on databases other than Postgres and SQLite.
func Lookup(c column.Column, value any) func(*entsql.Selector) {
	l := newLookup(c, value)
	return func(s *entsql.Selector) { s.Where(l.in(s)) }
}

// LookupIn is [Lookup] among the rows of one tenant, with its ID given as
// stored and as text. It searches for the digests under the tenant's key too,
// if the client has tenants' keys.
func LookupIn(c column.Column, tenant any, text string, value any) func(*entsql.Selector) {
	l := newLookup(c, value)
	l.Tenant, l.OfTenant = text, true
	// One predicate, or ent's Or would take each for an alternative.
	return func(s *entsql.Selector) { s.Where(entsql.And(entsql.EQ(s.C(c.Tenant), tenant), l.in(s))) }
}

// in returns the predicate of a query.
func (l *Digests) in(s *entsql.Selector) *entsql.Predicate {
	arg := new(Digests)
	*arg = *l
	arg.dialect, arg.table = s.Dialect(), tableOf(s, l.column)
	return entsql.P(func(b *entsql.Builder) {
		switch {
		case arg.err != nil:
			// It never runs: the driver refuses the argument, with an
			// error that ent would lose.
			b.Arg(arg).WriteString(" IS NULL")
		case arg.dialect == dialect.Postgres:
			// The statement itself looks for rows without a digest.
			b.Ident(s.C(arg.column.Index)).WriteString(" = ANY ((SELECT CASE WHEN ").Arg(&Armed{Of: arg}).
				WriteString("::boolean AND EXISTS (" + Gaps(arg.column, arg.table, "1") + " LIMIT 1) THEN '" + Trap +
					"'::text::bytea[] ELSE ").
				Arg(arg).WriteString("::bytea[] END)::bytea[])")
		default:
			b.Ident(s.C(arg.column.Index)).WriteString(" IN (SELECT unhex(value) FROM json_each(").Arg(arg).
				WriteString("))")
		}
	})
}

// Digests stands for a secret's digests in a lookup. Loggers of arguments see
// a redacted value.
type Digests struct {
	redact.Methods
	column    column.Column
	Tenant    string        // of the rows that are looked up
	OfTenant  bool          // and the caller named the tenant
	plaintext func() string // a closure, as in Secret
	dialect   string
	table     string // as SQL
	err       error  // why there are none
}

// Trap is the error's text of an armed lookup, if rows lack a digest.
const Trap = "credent: rows without a digest"

// Armed stands for whether a lookup looks for rows without a digest itself.
type Armed struct {
	redact.Methods
	Of *Digests
}

// Value implements driver.Valuer. It refuses, as [Digests.Value].
func (a *Armed) Value() (driver.Value, error) { return a.Of.Value() }

// Claim returns the column, its table as SQL, and the steps of
// [Digester.Claim], which end with the digest under the primary key.
func (l *Digests) Claim(d *Digester, k Keys) (c column.Column, table string, steps [][]byte, err error) {
	if l.err != nil {
		return l.column, l.table, nil, l.err
	}
	first, steps, err := d.Claim(k, &l.column, l.plaintext())
	if steps == nil {
		steps = [][]byte{first}
	}
	return l.column, l.table, steps, err
}

// Neutral returns the digest under the keyring's primary key, by which secrets
// of all tenants are compared.
func (l *Digests) Neutral(d *Digester, ring *keyring.Ring) ([]byte, error) {
	return d.Primary(ring, l.column, l.plaintext())
}

// Column returns the lookup's column.
func (l *Digests) Column() *column.Column { return &l.column }

// Gaps returns the query for the rows of a table that have a secret and no
// digest. Its order makes sure that the database takes the index.
func Gaps(c column.Column, table, what string) string {
	index := "credent_gap." + column.QuoteName(c.Index)
	return fmt.Sprintf("SELECT %s FROM %s AS credent_gap WHERE %s IS NULL AND credent_gap.%s IS NOT NULL ORDER BY "+
		"%[3]s", what, table, index, column.QuoteName(c.Name))
}

// tableOf returns a selector's table as SQL, in its schema.
func tableOf(s *entsql.Selector, c column.Column) string {
	if t := s.Table(); t != nil {
		bare := *t
		text, _ := entsql.Dialect(s.Dialect()).Select("a").From(bare.As("")).Query()
		_, text, _ = strings.Cut(text, " FROM ")
		return text
	}
	return c.Quoted()
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
		return &Digests{column: c, err: c.Wrap("look up", err)}
	}
	plaintext, err := s.Reveal() // an error says where the secret came from
	return &Digests{column: c, plaintext: func() string { return plaintext }, err: err}
}

// Encode returns the digests as the predicate's SQL takes them: an array of
// Postgres, or of JSON.
func (l *Digests) Encode(d *Digester, k Keys) (string, error) {
	if l.err != nil {
		return "", l.err
	}
	if l.dialect != dialect.Postgres && l.dialect != dialect.SQLite {
		return "", l.column.Wrap("look up", fmt.Errorf("no blind index on %s: %w", l.dialect, errors.ErrUnsupported))
	}
	digests, err := d.Under(k, &l.column, l.plaintext())
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
