package stamp

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/entcrypt/entspec"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

// Update completes the spec of an update. An update of many rows may set a
// secret if it matches one row: Update finds the row over drv, and pins it.
// none is true if no row matches.
func Update(
	ctx context.Context, client string, drv dialect.Driver, spec *sqlgraph.UpdateSpec, one bool,
) (none bool, err error) {
	u := &updating{spec: spec, columns: column.InTable(client, spec.Node.Table)}
	u.guardSource(column.SourcedFrom(client, spec.Node.Table))
	if len(u.columns) == 0 {
		return false, nil
	}
	u.emptyIndexes()
	secret := u.secret()
	if one {
		u.ids = []any{spec.Node.ID.Value}
	} else if secret != nil || len(spec.Modifiers) > 0 {
		if u.ids, err = u.find(ctx, drv); err != nil || len(u.ids) == 0 {
			return err == nil, err
		}
	}
	if secret != nil && len(u.ids) > 1 {
		return false, secret.Wrap("encrypt", fmt.Errorf("%w: the update matches several", ErrManyRows))
	}
	u.stamp()
	if secret != nil && !one {
		u.pin()
	}
	if len(spec.Modifiers) > 0 {
		spec.AddModifier(u.checkModifiers)
	}
	u.move(drv.Dialect())
	return false, nil
}

// updating is one call of Update.
type updating struct {
	spec    *sqlgraph.UpdateSpec
	columns []column.Column
	ids     []any // of the matching rows, at most two; nil if unknown
}

func (u *updating) sets(name string) bool   { return entspec.Field(u.spec.Fields.Set, name) != nil }
func (u *updating) clears(name string) bool { return entspec.Field(u.spec.Fields.Clear, name) != nil }

// secret returns a column that the update sets, or nil.
func (u *updating) secret() *column.Column {
	for i := range u.columns {
		if f := entspec.Field(u.spec.Fields.Set, u.columns[i].Name); f != nil {
			if _, ok := f.Value.(*column.Arg); ok {
				return &u.columns[i]
			}
		}
	}
	return nil
}

// emptyIndexes clears the digests of secrets that the update clears.
func (u *updating) emptyIndexes() {
	for _, c := range u.columns {
		if c.Index != "" && u.clears(c.Name) && !u.clears(c.Index) {
			u.spec.ClearField(c.Index, field.TypeBytes)
		}
	}
}

// stamp gives the secrets their row, and guards a change of the row's tenant:
// tokens that the update keeps would belong to the wrong tenant.
func (u *updating) stamp() {
	var id any
	if len(u.ids) == 1 {
		id = u.ids[0]
	}
	to, moved := u.guardTenant(id)
	at := column.Place{Schema: u.spec.Node.Schema, ID: id}
	if moved {
		at.Tenant, at.Owned = to.Tenant, to.Known
	}
	u.spec.Fields.Set = complete(u.columns, u.spec.Fields.Set, at)
}

// guardTenant guards a change of the tenant. It returns the tenant that the
// update sets, and whether it sets one.
func (u *updating) guardTenant(id any) (to seal.Owner, moved bool) {
	scoped := tenanted(u.columns)
	if len(scoped) == 0 {
		return to, false
	}
	c := scoped[0]
	kept := slices.DeleteFunc(slices.Clone(scoped),
		func(c column.Column) bool { return u.sets(c.Name) || u.clears(c.Name) })
	tenant := entspec.Assigned(c.Tenant, u.spec.Fields.Set, u.spec.Edges.Add)
	via := entspec.Assigned(c.Via, u.spec.Fields.Set, u.spec.Edges.Add)
	if tenant != nil {
		to.Tenant, to.Known = TenantText(*tenant)
		moved = true
	} else if u.emptiesTenant(c.Tenant) {
		u.guardEmptied(scoped)
	}
	guard := &column.Guard{Columns: kept, Schema: u.spec.Node.Schema, ID: id}
	target := tenant
	switch {
	case via != nil && (tenant == nil || len(kept) > 0):
		guard.Refuse = c.Wrap("encrypt", fmt.Errorf("%w: an update that sets %s must set %s and all secrets too",
			seal.ErrWrongLocation, c.Via, c.Tenant))
		if target = via; tenant == nil {
			guard.Columns = scoped
		}
	case via != nil: // if the tenant doesn't change, the database copies the new account's
		guard.Columns, guard.Differs = scoped, true
	case tenant == nil || len(kept) == 0:
		return to, moved
	}
	if id == nil && guard.Refuse == nil {
		guard.Refuse = c.Wrap("encrypt", fmt.Errorf("%w: choose one row by its id to change its %s",
			seal.ErrWrongLocation, c.Tenant))
	}
	guard.Stored = *target
	*target = guard
	return to, moved
}

// emptiesTenant reports whether the update clears the tenant's column, as a
// field or as the foreign key of an edge.
func (u *updating) emptiesTenant(name string) bool {
	return u.clears(name) || slices.ContainsFunc(u.spec.Edges.Clear, func(e *sqlgraph.EdgeSpec) bool {
		return entspec.IsOwn(e) && slices.Equal(e.Columns, []string{name})
	})
}

// guardEmptied guards an update that leaves secrets in a row without a tenant.
func (u *updating) guardEmptied(scoped []column.Column) {
	left := slices.DeleteFunc(slices.Clone(scoped), func(c column.Column) bool { return u.clears(c.Name) })
	if len(left) == 0 {
		return
	}
	refuse := left[0].Wrap("encrypt", fmt.Errorf("%w: an update that clears %s must clear all secrets too",
		seal.ErrWrongLocation, left[0].Tenant))
	u.spec.AddModifier(func(b *entsql.UpdateBuilder) { carry(b, &column.Guard{Columns: left, Refuse: refuse}) })
}

// pin restricts the update to the row it found, so that it doesn't change a row
// that begins to match meanwhile.
func (u *updating) pin() {
	before, name, id := u.spec.Predicate, u.spec.Node.ID.Column, u.ids[0]
	u.spec.Predicate = func(s *entsql.Selector) {
		if before != nil {
			before(s)
		}
		s.Where(entsql.EQ(s.C(name), id))
	}
}

// find returns the IDs of the rows that the update matches, at most two. It
// uses the spec's predicate, since the caller's interceptors could narrow a
// query of the client.
func (u *updating) find(ctx context.Context, drv dialect.Driver) (ids []any, err error) {
	b, node := entsql.Dialect(drv.Dialect()), u.spec.Node
	s := b.Select().From(b.Table(node.Table).Schema(node.Schema)).WithContext(ctx)
	s.Select(s.C(node.ID.Column)).Limit(2)
	if u.spec.Predicate != nil {
		u.spec.Predicate(s)
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	query, args := s.Query()
	rows := &entsql.Rows{}
	if err := drv.Query(ctx, query, args, rows); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id any
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		if raw, ok := id.([]byte); ok && node.ID.Type != field.TypeBytes {
			id = string(raw)
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// guardSource guards a change of the column that the database copies other
// tables' tenants from.
func (u *updating) guardSource(sourced []column.Column) {
	if len(sourced) == 0 {
		return
	}
	c := sourced[0]
	refuse := errMovesSource(c)
	if value := entspec.Assigned(c.SourceTenant, u.spec.Fields.Set, u.spec.Edges.Add); value != nil {
		*value = &column.Guard{Columns: sourced, Stored: *value, Refuse: refuse, Moving: true}
		return
	}
	if len(u.spec.Modifiers) > 0 {
		u.spec.AddModifier(func(b *entsql.UpdateBuilder) {
			if slices.Contains(columnsOf(b), c.SourceTenant) {
				carry(b, &column.Guard{Columns: sourced, Refuse: refuse, Moving: true})
			}
		})
	}
}

func errMovesSource(c column.Column) error {
	return c.Wrap("encrypt", fmt.Errorf("%w: tokens depend on %s.%s: change that by an update of the client that "+
		"sets it, in a transaction, which re-encrypts them", seal.ErrWrongLocation, c.Source, c.SourceTenant))
}

func columnsOf(b *entsql.UpdateBuilder) []string {
	return (&entsql.UpdateSet{UpdateBuilder: b}).UpdateColumns()
}

// carry adds a guard to a statement, in a condition that is always true.
func carry(b *entsql.UpdateBuilder, guard *column.Guard) {
	guard.Stored = 1
	b.Where(entsql.P(func(b *entsql.Builder) { b.WriteString("CAST(").Arg(guard).WriteString(" AS INTEGER) = 1") }))
}

// rawArg returns the argument if it is raw SQL's secret or digest, or nil.
func rawArg(arg any) *column.Arg {
	a, _ := arg.(*column.Arg)
	if d, ok := arg.(*column.Digest); ok {
		a = d.Of()
	}
	if a != nil && a.Raw {
		return a
	}
	return nil
}

// checkModifiers is an update's last modifier. It checks the columns that the
// caller's modifiers have set.
func (u *updating) checkModifiers(b *entsql.UpdateBuilder) {
	names := columnsOf(b)
	for _, c := range u.columns {
		if c.Index != "" && slices.Contains(names, c.Name) && !slices.Contains(names, c.Index) {
			b.Set(c.Index, &column.Refusal{Err: errNoDigest(c)}) // AddError would lose the wrapped error
		}
	}
	if scoped := tenanted(u.columns); len(scoped) > 0 {
		for _, name := range []string{scoped[0].Tenant, scoped[0].Via} {
			if name == "" || !slices.Contains(names, name) ||
				entspec.Assigned(name, u.spec.Fields.Set, u.spec.Edges.Add) != nil {
				continue
			}
			carry(b, &column.Guard{Columns: scoped, Refuse: scoped[0].Wrap("encrypt",
				fmt.Errorf("%w: set %s by the update, not by a modifier", seal.ErrWrongLocation, name))})
		}
	}
	pinned := false
	_, args := b.Query()
	for _, arg := range args {
		a := rawArg(arg)
		if a == nil {
			continue
		}
		if a.Pinned = true; len(u.ids) > 1 {
			a.Refuse = a.Column.Wrap("encrypt", fmt.Errorf("%w: the update matches several", ErrManyRows))
			continue
		}
		a.ID, a.Schema = u.ids[0], u.spec.Node.Schema
		if !pinned {
			b.Where(entsql.EQ(u.spec.Node.ID.Column, u.ids[0]))
			pinned = true
		}
	}
}
