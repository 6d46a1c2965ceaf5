package unique

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/states"
)

// Claim stores the digests of a unique blind index one after another; see
// [blindindex.Digester.Claim]. The statement itself stores the first. With an
// ID, Claim updates only that row.
type Claim struct {
	Of    column.Column
	Table string // in SQL
	Steps [][]byte
	ID    any
	In    In

	after func() error // if not nil, does the work instead
}

// In restricts a change to one tenant's rows, for digests that depend on the
// tenant: another tenant's row may have an equal secret. The zero value means
// no restriction.
type In struct {
	OfTenant bool
	Tenant   string
}

// where returns the condition in SQL, and args with its argument.
func (in In) where(of column.Column, args []any) (string, []any) {
	if !in.OfTenant {
		return "", args
	}
	return fmt.Sprintf(" AND %s = $%d", column.QuoteName(of.Tenant), len(args)+1), append(args, in.Tenant)
}

// Wanted is a secret to compare rows with.
type Wanted struct {
	In
	neutral []byte // the secret's digest under the keyring's primary key
}

// Want returns a column's secret to compare its owner's rows with, and the
// digests of [blindindex.Digester.Claim].
func Want(
	p *seal.Policy, c *column.Column, plaintext string, of seal.Owner,
) (w Wanted, first []byte, steps [][]byte, err error) {
	keys, err := p.DigestKeys(c, of)
	if err != nil {
		return w, nil, nil, err
	}
	if first, steps, err = p.Digests.Claim(keys, c, plaintext); err != nil {
		return w, nil, nil, err
	}
	if w.neutral = first; len(steps) > 0 {
		w.neutral = steps[len(steps)-1]
	}
	if p.DigestsOfTenant(c) {
		w.In = In{true, of.Tenant}
		w.neutral, err = neutral(p, c, plaintext)
	}
	return w, first, steps, err
}

func neutral(p *seal.Policy, c *column.Column, plaintext string) ([]byte, error) {
	ring, err := p.Keyring()
	if err != nil {
		return nil, err
	}
	return p.Digests.Primary(ring, *c, plaintext)
}

// Run stores the digests.
func (c Claim) Run(ctx context.Context, on dialect.ExecQuerier) error {
	if c.after != nil {
		return c.after()
	}
	if len(c.Steps) == 0 {
		return nil
	}
	index := column.QuoteName(c.Of.Index)
	for i, next := range c.Steps[1:] {
		where, is := index, any(c.Steps[i])
		if c.ID != nil {
			where, is = column.QuoteName(c.Of.Key()), c.ID
		}
		query := fmt.Sprintf("UPDATE %s SET %s = $1 WHERE %s = $2", c.Table, index, where)
		also, args := c.In.where(c.Of, []any{next, is})
		if err := on.Exec(ctx, query+also, args, nil); err != nil {
			return err
		}
	}
	return nil
}

// ForWrite makes sure, before a statement stores a secret, that the unique
// index has every row with that secret.
func (r *Rows) ForWrite(of column.Column, w Wanted, first []byte, steps [][]byte) error {
	cfg, err := blindindex.Of(of)
	if err != nil || !cfg.Unique {
		return err
	}
	if steps == nil {
		steps = [][]byte{first}
	}
	_, err = r.fill(of, of.Quoted(), w, steps)
	return err
}

// Moves reports whether digests must be claimed for rows that an update moves:
// if there are several keys or names, or rows lack a digest. That needs a
// transaction. Otherwise the database itself compares all digests.
func (r *Rows) Moves(of column.Column) (bool, error) {
	several, err := r.several(of)
	if err != nil {
		return false, err
	}
	if !several {
		if _, err := r.findGaps(of, of.Quoted()); err != nil {
			return false, of.Wrap("index", err)
		}
		if !r.Memory.Seen(of.String()) {
			return false, nil
		}
	}
	if !r.InTx {
		return false, ErrNeedsTx
	}
	return true, nil
}

func (r *Rows) several(of column.Column) (bool, error) {
	if r.Policy.DigestsOfTenant(&of) {
		return of.Was != "" || r.Policy.States.Of(&of).TenantKeys < states.Require, nil
	}
	keys, err := r.Policy.DigestKeys(&of, seal.Owner{})
	return err == nil && keys.Several(&of), err
}

// ownerOf returns a row's tenant with its keys, if digests depend on them.
func (r *Rows) ownerOf(of column.Column, tenant string) (owner seal.Owner, err error) {
	if !r.Policy.DigestsOfTenant(&of) {
		return owner, nil
	}
	owner = seal.Owner{Tenant: tenant, Known: true}
	owner.Keys, err = r.Keys(tenant)
	return owner, err
}

// maxMoved is the number of rows that an update may move while digests are
// claimed: their IDs are arguments of one statement.
const maxMoved = 30_000

// Move locks the rows that an update may move. It returns their primary keys,
// and a Claim to run after the update, for rows that the index then compares
// with others. seal seals the arguments of the update's predicates.
func (r *Rows) Move(m *Move, of column.Column, seal func(args []any) error) (ids any, after Claim, err error) {
	moved, err := r.lockMoved(m, of, seal)
	if err != nil {
		return nil, after, of.Wrap("index", err)
	}
	if len(moved) > maxMoved {
		return nil, after, of.Wrap("index", fmt.Errorf("%w: an update may change at most %d rows that can be "+
			"restored or moved by it, while there are several keys, or rows without a digest: update them in parts",
			blindindex.ErrBlindIndex, maxMoved))
	}
	if len(moved) > 0 {
		after.after = func() error { return r.claimMoved(m, of, moved) }
	}
	return m.IDs(moved), after, nil
}

// lockMoved locks the rows that an update may move. If the tenant leads the
// table's key, it reads them first, and locks each tenant's rows by tenant and
// ID: that reads one partition, and a sharded table can't lock rows without
// their tenant.
func (r *Rows) lockMoved(m *Move, of column.Column, seal func(args []any) error) (moved []any, err error) {
	scoped, err := r.Tables.Scoped(r.Ctx, r.Next, r.Dialect, of)
	if err != nil {
		return nil, err
	}
	if !scoped {
		moved, _, err = r.readMoved(m, m.locked(m.candidates()), false, seal)
		return moved, err
	}
	s := m.candidates()
	ids, tenants, err := r.readMoved(m, s.AppendSelect(s.C(of.Tenant)), true, seal)
	if err != nil {
		return nil, err
	}
	byTenant := make(map[string][]any)
	for i, tenant := range tenants {
		byTenant[tenant] = append(byTenant[tenant], ids[i])
	}
	for _, tenant := range slices.Sorted(maps.Keys(byTenant)) {
		s := m.candidates()
		s.Where(entsql.EQ(s.C(of.Tenant), tenant)).Where(entsql.In(s.C(m.Spec.Node.ID.Column), byTenant[tenant]...))
		locked, _, err := r.readMoved(m, m.locked(s.OrderBy(s.C(m.Spec.Node.ID.Column))), false, seal)
		if err != nil {
			return nil, err
		}
		moved = append(moved, locked...)
	}
	return moved, nil
}

// readMoved runs a query for rows' primary keys and, withTenant, tenants.
func (r *Rows) readMoved(
	m *Move, s *entsql.Selector, withTenant bool, seal func(args []any) error,
) (ids []any, tenants []string, err error) {
	query, args := s.Query()
	if err := errors.Join(s.Err(), seal(args)); err != nil {
		return nil, nil, err
	}
	rows := new(entsql.Rows)
	if err := r.Next.Query(r.Ctx, query, args, rows); err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			id     any
			tenant sql.NullString
			dest   = []any{&id}
		)
		if withTenant {
			dest = append(dest, &tenant)
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, nil, err
		}
		ids, tenants = append(ids, m.ID(id)), append(tenants, tenant.String)
	}
	return ids, tenants, rows.Err()
}

// claimMoved claims the digests of the rows that the index now compares with
// others.
func (r *Rows) claimMoved(m *Move, of column.Column, ids []any) error {
	query, args := m.moved(r.Policy.IsScoped(&of), ids)
	rows, err := r.readSecrets(of, query, args)
	if err != nil {
		return of.Wrap("index", err)
	}
	for _, row := range rows {
		if errors.Is(row.err, tenantkey.ErrShredded) { // the secret has no digest
			continue
		}
		if row.err != nil {
			return of.Wrap("index", fmt.Errorf("%w: cannot tell whether the secret of row %v is taken: %w",
				blindindex.ErrBlindIndex, m.ID(row.id), row.err))
		}
		owner, err := r.ownerOf(of, row.tenant)
		if err != nil {
			return of.Wrap("index", err)
		}
		w, first, steps, err := Want(r.Policy, &of, row.plaintext, owner)
		if steps == nil {
			steps = [][]byte{first}
		}
		if err == nil {
			_, err = r.fill(of, of.Quoted(), w, steps)
		}
		if err == nil {
			err = Claim{
				Of: of, Table: of.Quoted(), Steps: append([][]byte{nil}, steps...),
				ID: m.ID(row.id),
			}.Run(r.Ctx, r.Next)
		}
		if err != nil {
			return of.Wrap("index", err)
		}
	}
	return nil
}
