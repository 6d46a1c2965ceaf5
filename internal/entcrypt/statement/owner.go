package statement

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/sqlarg"
	"github.com/credent-go/credent/internal/states"
)

// lookArg finds out whose row a secret is stored in.
func (s *sealing) lookArg(i int, arg *column.Arg) error {
	c := arg.Column
	switch {
	case arg.Refuse != nil:
		return arg.Refuse
	case !arg.Known:
		return c.Wrap("encrypt", fmt.Errorf("%w; or the generated code is older than this module: generate it again", stamp.ErrNoLocation))
	}
	if arg.Raw {
		use := s.rawUse(c)
		use.secrets = append(use.secrets, arg.Secret)
		if !arg.Pinned {
			use.rows++
		}
	}
	if s.Policy.IsScoped(c) {
		return s.lookOwner(i, arg, "encrypted.At")
	}
	return nil
}

// lookOwner finds out whose row an argument is stored in. Call names what the
// caller's own SQL has it from.
func (s *sealing) lookOwner(i int, arg *column.Arg, call string) error {
	c := arg.Column
	switch {
	case arg.Scoped != nil:
		return arg.Scoped
	case arg.Owned && arg.Raw && arg.ID != nil:
		row, err := s.tenantOf(arg.Where(), arg.ID)
		if err == nil && row.is && row.tenant != arg.Tenant {
			err = c.Wrap("encrypt", fmt.Errorf("%w: %s says another %s than the row has", seal.ErrWrongLocation, call, c.Tenant))
		}
		if err != nil {
			return err
		}
		s.own(i, arg.Tenant)
		s.Nothing = s.Nothing || !row.is
	case arg.Owned:
		s.own(i, arg.Tenant)
	case arg.ID != nil:
		row, err := s.tenantOf(arg.Where(), arg.ID)
		if err != nil {
			return err
		}
		s.own(i, row.tenant)
		s.Nothing = s.Nothing || !row.is
	case arg.Raw:
		return c.Wrap("encrypt", fmt.Errorf("%w: give %s the row's %s", seal.ErrNoTenant, call, c.Tenant))
	default:
		return c.Wrap("encrypt", fmt.Errorf("%w: set %s in the same row", seal.ErrNoTenant, c.Tenant))
	}
	return nil
}

// own notes whose row an argument is stored in, or looked up in.
func (s *sealing) own(i int, tenant string) {
	if s.owners == nil {
		s.owners = make([]seal.Owner, len(s.Args))
	}
	s.owners[i] = seal.Owner{Tenant: tenant, Known: true}
}

// owner returns whose row an argument is stored in, as far as that matters.
func (s *sealing) owner(i int) seal.Owner {
	if s.owners == nil {
		return seal.Owner{}
	}
	return s.owners[i]
}

// lookDigest finds out whose row a digest is stored in, if its key depends on
// that.
func (s *sealing) lookDigest(i int, arg *column.Arg) error {
	if arg.Refuse != nil {
		return arg.Refuse
	}
	if arg.Raw {
		use := s.rawUse(arg.Column)
		use.digests = append(use.digests, arg.Secret)
	}
	if s.Policy.DigestsOfTenant(arg.Column) {
		return s.lookOwner(i, arg, "encrypted.DigestOf")
	}
	return nil
}

// lookLookup finds out whose rows are looked up, if the keys of their digests
// depend on that.
func (s *sealing) lookLookup(i int, l *blindindex.Digests) error {
	c := l.Column()
	switch {
	case !s.Policy.DigestsOfTenant(c):
	case !l.OfTenant:
		return c.Wrap("look up", fmt.Errorf("%w: digests are under the keys of tenants: use encrypted.LookupIn with the %s, or declare "+
			"the index with AcrossTenants", seal.ErrNoTenant, c.Tenant))
	default:
		s.own(i, l.Tenant)
	}
	return nil
}

// lookGuard refuses a value that would leave tokens behind.
func (s *sealing) lookGuard(g *column.Guard) error {
	i := slices.IndexFunc(g.Columns, func(c column.Column) bool { return s.Policy.IsScoped(&c) })
	switch {
	case i < 0, g.Moving && isMoving(s.ctx):
		return nil
	case g.Refuse != nil:
		return g.Refuse
	case g.ID == nil:
		return nil
	}
	c := g.Columns[i]
	if g.Schema != "" {
		c = c.InSchema(g.Schema)
	}
	row, err := s.tenantOf(c, g.ID)
	if err != nil || !row.is {
		return err
	}
	text, ok := stamp.TenantText(g.Stored)
	switch {
	case g.Differs && ok && text == row.tenant:
		return c.Wrap("encrypt", fmt.Errorf("%w: an update that sets %s must set another %s than the row has", seal.ErrWrongLocation, c.Via, c.Tenant))
	case !g.Differs && (!ok || text != row.tenant):
		return c.Wrap("encrypt", fmt.Errorf("%w: an update that changes %s must set all of its secrets too", seal.ErrWrongLocation, c.Tenant))
	}
	return nil
}

// giveKeys gives the owners of the secrets their keys.
func (s *sealing) giveKeys() error {
	if s.Policy.Tenants == nil || s.owners == nil {
		return nil
	}
	var stored, looked []string
	makes := false
	for i, of := range s.owners {
		if !of.Known {
			continue
		}
		c, stores := columnOf(unnamed(s.Args[i]))
		switch keys := s.Policy.States.Of(c).TenantKeys; {
		case keys < states.Accept:
		case !stores:
			looked = append(looked, of.Tenant)
		default:
			if makes = makes || keys >= states.Write; len(stored) == 0 || stored[len(stored)-1] != of.Tenant {
				stored = append(stored, of.Tenant)
			}
		}
	}
	if err := s.readKeys(stored, makes, "encrypt"); err != nil {
		return err
	}
	return s.readKeys(looked, false, "look up")
}

// readKeys gives the owners among tenants their keys.
func (s *sealing) readKeys(tenants []string, makes bool, op string) error {
	if len(tenants) == 0 {
		return nil
	}
	keys, err := s.Policy.Tenants.Seal(s.ctx, Store{s.Conn}, tenants, makes)
	if err != nil {
		return &fieldcrypt.Error{Op: op, Err: err}
	}
	for i := range s.owners {
		if of := &s.owners[i]; of.Keys == nil {
			of.Keys = keys[of.Tenant]
		}
	}
	return nil
}

// columnOf returns the column of an argument that keys depend on, and whether
// it is stored, or looked up.
func columnOf(arg any) (c *column.Column, stores bool) {
	switch arg := arg.(type) {
	case *column.Arg:
		return arg.Column, true
	case *column.Digest:
		return arg.Column, true
	case *blindindex.Digests:
		return arg.Column(), false
	case *blindindex.Armed:
		return arg.Of.Column(), false
	}
	return nil, false
}

// named returns a column as SQL of the connection's database names it: ent
// leaves schemas out for SQLite.
func (c Conn) named(of column.Column) column.Column {
	if c.Dialect == dialect.SQLite {
		return of.InSchema("")
	}
	return of
}

// tenantOf returns whose the row with a primary key is, and keeps that from
// changing until the transaction ends.
func (s *sealing) tenantOf(c column.Column, id any) (found, error) {
	if !s.InTx {
		return found{}, c.Wrap("encrypt", fmt.Errorf("%w: it needs the row's %s; %w", seal.ErrNoTenant, c.Tenant, ErrNeedsTx))
	}
	if value, changed := sqlarg.Convert(id); changed {
		id = value
	}
	key := fmt.Sprint(c.Schema, "\x00", c.Table, "\x00", id)
	if row, ok := s.rows[key]; ok {
		return row, nil
	}
	row, err := s.queryTenant(c, id)
	if err != nil {
		return row, c.Wrap("encrypt", fmt.Errorf("look up %s: %w", c.Tenant, err))
	}
	if s.rows == nil {
		s.rows = make(map[string]found)
	}
	s.rows[key] = row
	return row, nil
}

func (s *sealing) queryTenant(c column.Column, id any) (row found, err error) {
	c = s.named(c)
	query := fmt.Sprintf("SELECT CAST(%s AS TEXT) FROM %s WHERE %s = ", column.QuoteName(c.Tenant), c.Quoted(), column.QuoteName(c.Key()))
	if s.Dialect == dialect.Postgres {
		query += "$1 FOR NO KEY UPDATE"
	} else {
		query += "?"
	}
	rows := new(entsql.Rows)
	if err := s.Next.Query(s.ctx, query, []any{id}, rows); err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if !rows.Next() {
		return row, rows.Err()
	}
	var text sql.NullString
	if err := rows.Scan(&text); err != nil {
		return row, err
	}
	if !text.Valid {
		return row, fmt.Errorf("%w: it is NULL", seal.ErrNoTenant)
	}
	return found{text.String, true}, nil
}

// Store is the tenantkey.Store of a connection.
type Store struct{ Conn }

// Ring implements tenantkey.Store.
func (s Store) Ring() (*keyring.Ring, error) { return s.Policy.Keyring() }

// Read implements tenantkey.Store.
func (s Store) Read(ctx context.Context, ring *keyring.Ring, tenants []string) (map[string]tenantkey.Key, error) {
	return tenantkey.Read(ctx, s.Next, ring, tenants)
}

// Make implements tenantkey.Store.
func (s Store) Make(ctx context.Context, ring *keyring.Ring, tenant string) error {
	return tenantkey.Make(ctx, s.Next, ring, tenant)
}

// Tx implements tenantkey.Store.
func (s Store) Tx() *tenantkey.Tx { return s.Conn.Tx }

type movingKey struct{}

// MovingTenants returns a context whose statements may change the column that
// tenants are copied from: the caller encrypts the tokens anew.
func MovingTenants(ctx context.Context) context.Context {
	return context.WithValue(ctx, movingKey{}, true)
}

func isMoving(ctx context.Context) bool { return ctx.Value(movingKey{}) != nil }

// Question asks a client's driver something that its hooks need to know. The
// driver answers with the next statement in its context.
type Question struct {
	Columns []column.Column
	// Unscoped is the answer: the keys of none of the columns depend on the
	// tenant.
	Unscoped bool
}

type questionKey struct{}

// Ask returns a context whose statements answer a question.
func Ask(ctx context.Context, q *Question) context.Context {
	return context.WithValue(ctx, questionKey{}, q)
}

// Answer answers the context's question, if it has one.
func Answer(ctx context.Context, p *seal.Policy) {
	if q, ok := ctx.Value(questionKey{}).(*Question); ok {
		q.Unscoped = !slices.ContainsFunc(q.Columns, func(c column.Column) bool { return p.IsScoped(&c) })
	}
}
