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

// Lookup returns the predicate that finds rows with a secret by a column's
// blind index. value is a [fieldcrypt.Secret] or [fieldcrypt.Value]. Generated
// functions such as usercredential.APIKeyIs call it. It searches for the
// digests under all keys of the client's keyring, but not under tenants' keys:
// see [LookupIn]. If another writer stored rows without a digest, rows with
// this secret get theirs first; too many rows without one are an
// [ErrNotFilled]. With fewer than 256 bits, or normalized plaintexts, it may
// also find other rows: compare the revealed secrets.
//
// The query fails for an absent secret, for a secret that can't be revealed,
// and on databases other than Postgres and SQLite.
func Lookup(c column.Column, value any) func(*entsql.Selector) {
	l := newLookup(c, value)
	return func(s *entsql.Selector) { s.Where(l.in(s)) }
}

// LookupIn is [Lookup] in one tenant's rows. tenant is the ID as stored, and
// text the same as text. If the client has tenants' keys, it also searches for
// the digest under the tenant's key.
func LookupIn(c column.Column, tenant any, text string, value any) func(*entsql.Selector) {
	l := newLookup(c, value)
	l.Tenant, l.OfTenant = text, true
	// One predicate: ent's Or would make two of them alternatives.
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
			// This never runs: the driver refuses the argument with the error,
			// which ent would lose here.
			b.Arg(arg).WriteString(" IS NULL")
		case arg.dialect == dialect.Postgres:
			// The statement also looks for rows without a digest.
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

// Digests stands for a secret's digests in a lookup. Anything that logs
// arguments prints it redacted.
type Digests struct {
	redact.Methods
	column    column.Column
	Tenant    string        // the tenant of the rows
	OfTenant  bool          // the caller named the tenant
	plaintext func() string // a closure, as in Secret
	dialect   string
	table     string // in SQL
	err       error  // why there are no digests
}

// Trap is the text in the error of an armed lookup if rows lack a digest.
const Trap = "credent: rows without a digest"

// Armed stands for a boolean: whether the lookup's statement also looks for
// rows without a digest.
type Armed struct {
	redact.Methods
	Of *Digests
}

// Value implements driver.Valuer. It refuses like [Digests.Value].
func (a *Armed) Value() (driver.Value, error) { return a.Of.Value() }

// Claim returns the column, its table in SQL, and the steps of
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

// Neutral returns the digest under the keyring's primary key, to compare
// secrets across tenants.
func (l *Digests) Neutral(d *Digester, ring *keyring.Ring) ([]byte, error) {
	return d.Primary(ring, l.column, l.plaintext())
}

// Column returns the lookup's column.
func (l *Digests) Column() *column.Column { return &l.column }

// Gaps returns the query for a table's rows that have a secret but no digest.
// The ORDER BY makes the database use the index.
func Gaps(c column.Column, table, what string) string {
	index := "credent_gap." + column.QuoteName(c.Index)
	return fmt.Sprintf("SELECT %s FROM %s AS credent_gap WHERE %s IS NULL AND credent_gap.%s IS NOT NULL ORDER BY "+
		"%[3]s", what, table, index, column.QuoteName(c.Name))
}

// tableOf returns a selector's table in SQL, with its schema.
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
	plaintext, err := s.Reveal() // an error names the secret's origin
	return &Digests{column: c, plaintext: func() string { return plaintext }, err: err}
}

// Encode returns the digests as the predicate's SQL expects them: a Postgres or
// a JSON array.
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

// Value implements driver.Valuer. It refuses: without Credent's driver nothing
// writes digests, so the lookup would find no rows.
func (l *Digests) Value() (driver.Value, error) {
	if l.err != nil {
		return nil, l.err
	}
	return nil, l.column.Wrap("look up", fieldcrypt.ErrNoDriver)
}
