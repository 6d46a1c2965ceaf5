package statement

import (
	"context"
	"fmt"
	"slices"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/entcrypt/condition"
	"github.com/credent-go/credent/internal/entcrypt/hint"
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

// lookArg finds the tenant of the row that a secret is stored in.
func (s *sealing) lookArg(i int, arg *column.Arg) error {
	c := arg.Column
	switch {
	case arg.Refuse != nil:
		return arg.Refuse
	case !arg.Known:
		return c.Wrap("encrypt", fmt.Errorf("%w; or the generated code is older than this module: generate it again",
			stamp.ErrNoLocation))
	}
	if arg.Raw {
		use := s.rawUse(c)
		use.secrets = append(use.secrets, i)
		if !arg.Pinned {
			use.rows++
		}
	}
	if s.Policy.IsScoped(c) {
		return s.lookOwner(i, arg, "encrypted.At")
	}
	return nil
}

// lookOwner finds the tenant of the row that an argument is stored in. call
// names the function that made the argument, for errors.
func (s *sealing) lookOwner(i int, arg *column.Arg, call string) error {
	c := arg.Column
	switch {
	case arg.Scoped != nil:
		return arg.Scoped
	case arg.Owned && arg.Raw && arg.ID != nil:
		row, err := s.tenantOf(arg.Where(), arg.ID)
		if err == nil && row.is && row.tenant != arg.Tenant {
			err = c.Wrap("encrypt", fmt.Errorf("%w: the %s given to %s is not the row's", seal.ErrWrongLocation,
				c.Tenant, call))
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

func (s *sealing) own(i int, tenant string) {
	if s.owners == nil {
		s.owners = make([]seal.Owner, len(s.Args))
	}
	s.owners[i] = seal.Owner{Tenant: tenant, Known: true}
}

// owner returns the tenant of an argument's row, or zero if it doesn't matter.
func (s *sealing) owner(i int) seal.Owner {
	if s.owners == nil {
		return seal.Owner{}
	}
	return s.owners[i]
}

// lookDigest finds the tenant of a digest's row, if its key depends on the
// tenant.
func (s *sealing) lookDigest(i int, arg *column.Arg) error {
	if arg.Refuse != nil {
		return arg.Refuse
	}
	if arg.Raw {
		use := s.rawUse(arg.Column)
		use.digests = append(use.digests, i)
	}
	if s.Policy.DigestsOfTenant(arg.Column) {
		return s.lookOwner(i, arg, "encrypted.DigestOf")
	}
	return nil
}

// lookLookup notes the tenant of the rows looked up, if the keys of their
// digests depend on it.
func (s *sealing) lookLookup(i int, l *blindindex.Digests) error {
	c := l.Column()
	switch {
	case !s.Policy.DigestsOfTenant(c):
	case !l.OfTenant:
		return c.Wrap("look up", fmt.Errorf("%w: digests are under the keys of tenants: use encrypted.LookupIn with "+
			"the %s, or declare the index with AcrossTenants", seal.ErrNoTenant, c.Tenant))
	default:
		s.own(i, l.Tenant)
	}
	return nil
}

// lookGuard refuses a value that would leave tokens with the wrong tenant.
func (s *sealing) lookGuard(g *column.Guard) error {
	i := slices.IndexFunc(g.Columns, func(c column.Column) bool { return s.Policy.IsScoped(&c) })
	switch {
	case i < 0, g.Moving && hint.IsMoving(s.ctx):
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
		return c.Wrap("encrypt", fmt.Errorf("%w: an update that sets %s must set a different %s",
			seal.ErrWrongLocation, c.Via, c.Tenant))
	case !g.Differs && (!ok || text != row.tenant):
		return c.Wrap("encrypt", fmt.Errorf("%w: an update that changes %s must set all of its secrets too",
			seal.ErrWrongLocation, c.Tenant))
	}
	return nil
}

// giveKeys gives the secrets' owners their keys.
func (s *sealing) giveKeys() error {
	if s.Policy.Tenants == nil || s.owners == nil {
		return nil
	}
	var written, stored, looked []string
	for i, of := range s.owners {
		if !of.Known {
			continue
		}
		c, stores := columnOf(unnamed(s.Args[i]))
		list := &stored
		switch {
		case s.Policy.States.Of(c).TenantKeys < states.Accept:
			continue
		case !stores:
			list = &looked
		case s.Policy.States.Of(c).TenantKeys >= states.Write:
			list = &written
		}
		if n := len(*list); n == 0 || (*list)[n-1] != of.Tenant {
			*list = append(*list, of.Tenant)
		}
	}
	if len(written) > 0 && s.Tx == nil && (s.Careful || s.condition == nil) {
		return ErrNeedsTx // it reads them: the server may have lost cached keys
	}
	if err := s.readKeys(written, tenantkey.Made, "encrypt"); err != nil {
		return err
	}
	if err := s.readKeys(stored, tenantkey.Known, "encrypt"); err != nil {
		return err
	}
	return s.readKeys(looked, tenantkey.Current, "look up")
}

// readKeys gives the owners of the given tenants their keys.
func (s *sealing) readKeys(tenants []string, need tenantkey.Need, op string) error {
	if len(tenants) == 0 {
		return nil
	}
	keys, err := s.keys(s.ctx, tenants, need)
	if err != nil {
		return &fieldcrypt.Error{Op: op, Err: err}
	}
	if need == tenantkey.Made && s.Tx == nil {
		s.needs, s.Conditional = condition.NeedsOf(keys), true
		if !s.condition.Holds(s.needs) {
			return ErrNeedsTx
		}
	}
	for i := range s.owners {
		if of := &s.owners[i]; of.Keys == nil {
			of.Keys = keys[of.Tenant]
		}
	}
	return nil
}

// keys returns tenants' keys. On SQLite, a transaction writes before it reads
// them, since it may be unable to become a writer afterwards.
func (c Conn) keys(ctx context.Context, tenants []string, need tenantkey.Need) (map[string]*tenantkey.Sealing, error) {
	if need == tenantkey.Made && c.Tx != nil && c.Dialect == dialect.SQLite && !c.Tx.Locked.Swap(true) {
		if err := c.Next.Exec(ctx, `UPDATE "`+tenantkey.Table+`" SET "tenant" = "tenant" WHERE "tenant" = ''`, []any{}, nil); err != nil {
			return nil, fmt.Errorf("read the tenant's key: %w", err)
		}
	}
	return c.Policy.Tenants.Seal(ctx, Store{c}, tenants, need)
}

// columnOf returns the column of an argument that keys depend on, and whether
// the argument is stored rather than looked up.
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

// named returns a column as the connection's SQL names it: ent omits schemas on
// SQLite.
func (c Conn) named(of column.Column) column.Column {
	if c.Dialect == dialect.SQLite {
		return of.InSchema("")
	}
	return of
}

// tenantOf returns the tenant of the row with a primary key, and keeps the
// tenant from changing until the transaction ends.
func (s *sealing) tenantOf(c column.Column, id any) (found, error) {
	if !s.InTx {
		return found{}, c.Wrap("encrypt", fmt.Errorf("%w: it needs the row's %s; %w", seal.ErrNoTenant,
			c.Tenant, ErrNeedsTx))
	}
	if value, changed := sqlarg.Convert(id); changed {
		id = value
	}
	key := fmt.Sprint(c.Schema, "\x00", c.Table, "\x00", id)
	if row, ok := s.rows[key]; ok {
		return row, nil
	}
	tenant, is, err := s.Tables.Of(s.ctx, s.Next, s.Dialect, s.named(c), id)
	row := found{tenant, is}
	if err != nil {
		return row, c.Wrap("encrypt", fmt.Errorf("look up %s: %w", c.Tenant, err))
	}
	if s.rows == nil {
		s.rows = make(map[string]found)
	}
	s.rows[key] = row
	return row, nil
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
