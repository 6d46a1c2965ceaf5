// Package statement seals a statement's arguments: it replaces stamped
// arguments with tokens and digests, by their type, and refuses secrets without
// a known location. It looks up the tenant of the row that an update changes,
// and returns the statements that must follow in the same transaction.
package statement

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/entcrypt/condition"
	"github.com/credent-go/credent/internal/entcrypt/owner"
	"github.com/credent-go/credent/internal/entcrypt/record"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/entcrypt/unique"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/sqlarg"
)

// ErrTooManyArgs means that a statement has more arguments than the database
// accepts. lib/pq would break its connection.
var ErrTooManyArgs = errors.New("too many arguments for one statement: split it")

// maxArgs is the number of arguments that a database accepts: a 16-bit count in
// Postgres' protocol, and SQLite's default SQLITE_MAX_VARIABLE_NUMBER.
var maxArgs = map[string]int{dialect.Postgres: 65_535, dialect.SQLite: 32_766}

// ErrNeedsTx means that a statement needs other statements in the same
// transaction, but isn't in one.
var ErrNeedsTx = unique.ErrNeedsTx

// Conn is a connection or a transaction, with its client's policy.
type Conn struct {
	Next    dialect.ExecQuerier
	Policy  *seal.Policy
	Dialect string
	InTx    bool
	Tx      *tenantkey.Tx // nil outside a transaction
	Careful bool          // statements that depend on tenants' keys need a transaction
	// Read runs a query, and gives its secrets their keys.
	Read   func(ctx context.Context, on Conn, query string, args []any) (*entsql.Rows, error)
	Gaps   *unique.Memory // of the client
	Tables *owner.Tables  // of the client
}

// Sealed holds a statement's arguments as sent, and the work that follows.
type Sealed struct {
	Args    []any
	Most    int64 // rows that the statement may affect; 0 for any number
	Nothing bool  // it updates a row that doesn't exist, and must not run
	Armed   bool  // it fails with blindindex.Trap if rows lack a digest
	// Conditional means that it fails unless the database has the tenants'
	// keys.
	Conditional bool
	Key         record.Key

	needs  condition.Needs
	of     column.Column
	claims []unique.Claim
}

// Ends reports whether work follows the statement.
func (s Sealed) Ends() bool { return len(s.claims) > 0 || s.Most > 0 }

// CheckRows returns an [stamp.ErrManyRows] if a statement affected more rows
// than it has secrets for a column, or if n is negative: nobody counted them.
func (s Sealed) CheckRows(n int64) error {
	switch {
	case s.Most > 0 && n < 0:
		return s.of.Wrap("encrypt", stamp.ErrUncounted)
	case n <= s.Most || s.Most == 0:
		return nil
	}
	return s.of.Wrap("encrypt", fmt.Errorf("%w: the statement stores it in %d", stamp.ErrManyRows, n))
}

// Claim runs the claims that follow the statement, in its transaction.
func (s Sealed) Claim(ctx context.Context, on dialect.ExecQuerier) error {
	for _, c := range s.claims {
		if err := c.Run(ctx, on); err != nil {
			return err
		}
	}
	return nil
}

// sealing is one call of Seal.
type sealing struct {
	Conn
	Sealed
	ctx    context.Context //nolint:containedctx // lives for one call
	owners []seal.Owner    // of the arguments, if the client scopes columns
	rows   map[string]found
	raw    map[string]*rawUse // by column
	unique *unique.Rows

	condition *condition.Keys // from one of the arguments; nil for none
}

// found is the result of looking up a row's tenant.
type found struct {
	tenant string
	is     bool
}

// rawUse collects the secrets that raw SQL stores in a column.
type rawUse struct {
	of      *column.Column
	secrets []int // places of arguments
	digests []int
	rows    int64 // that unpinned secrets may be stored in
}

// pairs reports whether a digest is a secret's, in rows of the same tenant.
func (s *sealing) pairs(secret, digest int) bool {
	a, d, of := unnamed(s.Args[secret]).(*column.Arg), unnamed(s.Args[digest]).(*column.Digest), s.owner(digest)
	return a.Secret.Equal(d.Secret) && (!of.Known || of.Tenant == s.owner(secret).Tenant)
}

// Seal returns a statement's arguments as sent. It doesn't change the given
// slice. It reads the text only to refuse $1 on SQLite, and several statements.
// Errors: [ErrNeedsTx], [ErrTooManyArgs], [stamp.ErrManyRows],
// [stamp.ErrNoLocation], [blindindex.ErrBlindIndex], [seal.ErrNoTenant],
// [seal.ErrWrongLocation], and errors that travel as arguments.
func (c Conn) Seal(ctx context.Context, query string, args []any) (Sealed, error) {
	if limit := maxArgs[c.Dialect]; limit > 0 && len(args) > limit {
		return Sealed{}, fmt.Errorf("credent: %w: it has %d, and %s takes %d", ErrTooManyArgs, len(args), c.Dialect,
			limit)
	}
	s := &sealing{Conn: c, Sealed: Sealed{Args: args}, ctx: ctx}
	for i, arg := range args {
		if err := s.look(i, unnamed(arg)); err != nil {
			return Sealed{}, err
		}
	}
	if err := s.checkRaw(query); err != nil || s.Nothing {
		return s.Sealed, err
	}
	if s.Ends() && !c.InTx {
		return Sealed{}, ErrNeedsTx
	}
	if err := s.giveKeys(); err != nil {
		return Sealed{}, err
	}
	for i, arg := range args {
		value, changed, err := s.replace(i, unnamed(arg))
		if err != nil {
			return Sealed{}, err
		}
		if _, is := arg.(*record.New); is && !changed {
			value = unnamed(arg)
		} else if !changed {
			continue
		}
		if named, ok := arg.(sql.NamedArg); ok {
			value = sql.Named(named.Name, value)
		}
		if &s.Args[0] == &args[0] {
			s.Args = slices.Clone(args)
		}
		s.Args[i] = value
	}
	if s.Ends() && !c.InTx {
		return Sealed{}, ErrNeedsTx
	}
	return s.Sealed, nil
}

func unnamed(arg any) any {
	switch arg := arg.(type) {
	case sql.NamedArg:
		return arg.Value
	case *record.New:
		return arg.Stored
	}
	return arg
}

// look refuses values that must not be stored, and finds the tenants of the
// rows that secrets are stored in.
func (s *sealing) look(i int, arg any) error {
	switch arg := arg.(type) {
	case nil, bool, int, int64, float64, time.Time, *time.Time, sql.NullTime, uuid.UUID, *uuid.UUID:
		return nil
	case *blindindex.Digests:
		return s.lookLookup(i, arg)
	case *blindindex.Armed:
		return s.lookLookup(i, arg.Of)
	case string:
		return fieldcrypt.CheckMarker(arg)
	case []byte:
		return fieldcrypt.CheckMarker(string(arg[:min(len(arg), len(fieldcrypt.Redacted)+3)]))
	case json.RawMessage: // ent's argument for a field.JSON
		if bytes.Contains(arg, []byte(`"`+fieldcrypt.Redacted+`"`)) {
			return refusal("%w: JSON with a secret in it; store it in an encrypted field", fieldcrypt.ErrRedacted)
		}
		return nil
	case *column.Arg:
		return s.lookArg(i, arg)
	case *column.Digest:
		return s.lookDigest(i, arg.Of())
	case *column.Guard:
		return s.lookGuard(arg)
	case *column.Refusal:
		return arg.Err
	case *unique.Move:
		return nil
	case *condition.Keys:
		s.condition = cmp.Or(s.condition, arg) // the first, which names the tenants
		return nil
	}
	if _, is := fieldcrypt.AsSecret(arg); is {
		return refusal("%w; if the statement stores it, say where: "+
			"encrypted.At(secret, usercredential.APIKeyColumn, tenant), for instance", stamp.ErrNoLocation)
	}
	if sqlarg.Hides(arg, fieldcrypt.IsSecretType) {
		return refusal("%w; and each must be a separate argument", stamp.ErrNoLocation)
	}
	return fieldcrypt.CheckMarker(sqlarg.Text(arg))
}

func (s *sealing) rawUse(c *column.Column) *rawUse {
	if s.raw == nil {
		s.raw = make(map[string]*rawUse)
	}
	use := s.raw[c.String()]
	if use == nil {
		use = &rawUse{of: c}
		s.raw[c.String()] = use
	}
	return use
}

// checkRaw checks raw SQL: each secret of an indexed column needs its digest,
// and the statement may affect no more rows than it has secrets.
func (s *sealing) checkRaw(query string) error {
	for _, use := range s.raw {
		switch {
		case use.rows == 0:
		case s.Dialect == dialect.SQLite && sqlarg.IsNumbered(query):
			return use.of.Wrap("encrypt", errors.New("use ? for arguments: SQLite's drivers count $1 differently"))
		case sqlarg.IsSeveral(query):
			return use.of.Wrap("encrypt", stamp.ErrUncounted)
		}
		if use.of.Index != "" || len(use.digests) > 0 {
			rest := slices.Clone(use.digests)
			for _, secret := range use.secrets {
				i := slices.IndexFunc(rest, func(digest int) bool { return s.pairs(secret, digest) })
				if i < 0 {
					return use.of.Wrap("index", fmt.Errorf("%w: set %s too, to "+
						"encrypted.DigestOf(secret, column, tenant)", blindindex.ErrBlindIndex, use.of.Index))
				}
				rest = slices.Delete(rest, i, i+1)
			}
			if len(rest) > 0 {
				return use.of.Wrap("index", fmt.Errorf("%w: a digest without its secret; "+
					"to find rows use the generated predicate", blindindex.ErrBlindIndex))
			}
		}
		if n := use.rows; n > 0 && (s.Most == 0 || n < s.Most) {
			s.Most, s.of = n, *use.of
		}
	}
	return nil
}

// replace returns the value to send for an argument, and whether it differs.
func (s *sealing) replace(i int, arg any) (value any, changed bool, err error) {
	switch arg := arg.(type) {
	case nil, string, []byte, bool, int, int64, float64:
		return nil, false, nil
	case *column.Arg:
		plaintext, err := arg.Secret.Reveal()
		if err == nil {
			value, err = s.Policy.Encrypt(arg.Column, plaintext, s.owner(i))
		}
		if err != nil {
			return nil, false, arg.Column.Wrap("encrypt", err)
		}
		s.Key.Note(s.Policy, arg.Column, s.owner(i))
		return value, true, nil
	case *column.Digest:
		w, first, steps, err := claimOf(s.Policy, arg.Of(), s.owner(i))
		if err == nil && (len(steps) > 1 || s.Gaps.Seen(arg.Of().Where().String())) {
			if err = arg.Alone; err == nil && len(steps) > 1 && !s.InTx {
				return nil, false, ErrNeedsTx
			}
		}
		of := s.named(arg.Of().Where())
		if err == nil {
			err = s.lookAfter().ForWrite(of, w, first, steps)
		}
		if err != nil {
			return nil, false, arg.Column.Wrap("index", err)
		}
		if len(steps) > 1 {
			s.claims = append(s.claims, unique.Claim{Of: of, Table: of.Quoted(), Steps: steps, In: w.In})
		}
		return first, true, nil
	case *blindindex.Armed:
		armed, err := s.lookAfter().ForLookup(arg.Of, s.owner(i))
		s.Armed = s.Armed || armed
		return armed, true, err
	case *unique.Move:
		ids, err := s.move(arg)
		return ids, true, err
	case *condition.Keys:
		return arg.Of(s.needs), true, nil
	case *blindindex.Digests:
		if s.Dialect != dialect.Postgres { // the statement has no Armed
			if _, err := s.lookAfter().ForLookup(arg, s.owner(i)); err != nil {
				return nil, false, err
			}
		}
		keys, err := s.Policy.DigestKeys(arg.Column(), s.owner(i))
		if err != nil {
			return nil, false, arg.Column().Wrap("look up", err)
		}
		value, err = arg.Encode(s.Policy.Digests, keys)
		return value, true, err
	case *column.Guard:
		if value, changed, err = s.replace(i, arg.Stored); !changed {
			value = arg.Stored
		}
		return value, true, err
	}
	value, changed = sqlarg.Convert(arg)
	return value, changed, nil
}

// move claims the digests of the rows that an update moves; see [unique.Move].
func (s *sealing) move(m *unique.Move) (ids any, err error) {
	of := s.named(m.Of())
	if moves, err := s.lookAfter().Moves(of); !moves || err != nil {
		return nil, err
	}
	ids, after, err := s.lookAfter().Move(m, of, func(args []any) error {
		for i, arg := range args { // in the update's predicates
			value, changed, err := s.replace(i, unnamed(arg))
			if err != nil {
				return err
			}
			if changed {
				args[i] = value
			}
		}
		return nil
	})
	s.claims = append(s.claims, after)
	return ids, err
}

// lookAfter returns the unique.Rows for the statement.
func (s *sealing) lookAfter() *unique.Rows {
	if s.unique == nil {
		ctx, conn := s.ctx, s.Conn // captured instead of s, which so stays off the heap
		s.unique = &unique.Rows{
			Ctx: ctx, Next: conn.Next, Policy: conn.Policy, Dialect: conn.Dialect, InTx: conn.InTx, Memory: conn.Gaps,
			Tables: conn.Tables,
			Read:   func(query string, args []any) (*entsql.Rows, error) { return conn.Read(ctx, conn, query, args) },
			Keys: func(tenant string) (*tenantkey.Sealing, error) {
				keys, err := conn.keys(ctx, []string{tenant}, tenantkey.Current)
				return keys[tenant], err
			},
		}
	}
	return s.unique
}

// Disarm makes the lookups of a statement that failed with blindindex.Trap find
// rows without a digest first.
func (c Conn) Disarm(args []any) {
	for _, arg := range args {
		if armed, ok := unnamed(arg).(*blindindex.Armed); ok {
			c.Gaps.See(armed.Of.Column().String())
		}
	}
}

// IsTrap reports whether err is from an armed lookup that found rows without a
// digest.
func (s Sealed) IsTrap(err error) bool {
	return s.Armed && err != nil && strings.Contains(err.Error(), blindindex.Trap)
}
