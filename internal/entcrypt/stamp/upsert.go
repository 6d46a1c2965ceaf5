package stamp

import (
	"fmt"
	"slices"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"

	"github.com/credent-go/credent/internal/entcrypt/entspec"
	"github.com/credent-go/credent/internal/entcrypt/unique"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

func errNoDigest(c column.Column) error {
	return c.Wrap("index", fmt.Errorf("%w: set %s too, to encrypted.DigestOf(secret, column, tenant)",
		blindindex.ErrBlindIndex, c.Index))
}

// OnConflict returns the argument that an upsert's setter stores in the
// conflicting row. The row's tenant is the new row's.
func OnConflict(value any, c column.Column) any { return At(value, c, nil) }

// upsert appends an option that checks the others: they must set a digest
// together with its secret, and store no token in another tenant's row.
func upsert(client string, opts []entsql.ConflictOption, specs []*sqlgraph.CreateSpec) []entsql.ConflictOption {
	columns, sourced := column.InTable(client, specs[0].Table), column.SourcedFrom(client, specs[0].Table)
	if len(columns) == 0 && len(sourced) == 0 {
		return opts
	}
	u := &upserting{columns: columns, sourced: sourced, specs: specs, opts: slices.Clip(opts)}
	name := ""
	if scoped := tenanted(columns); len(scoped) > 0 {
		name, u.guard = scoped[0].Tenant, &column.Guard{Columns: scoped}
	} else if len(sourced) > 0 {
		name, u.guard = sourced[0].SourceTenant, &column.Guard{Columns: sourced}
	}
	if value := entspec.Assigned(name, specs[0].Fields, specs[0].Edges); value != nil && u.guard != nil {
		u.guard.Stored = *value
		*value = u.guard
	}
	return append(u.opts, entsql.ResolveWith(u.check))
}

// upserting is one call of upsert.
type upserting struct {
	columns, sourced []column.Column
	specs            []*sqlgraph.CreateSpec
	opts             []entsql.ConflictOption
	guard            *column.Guard // carries a refusal that depends on the client
}

// kind says what an upsert sets a column to.
type kind int

const (
	unset    kind = iota // nothing, or to itself
	null                 // NULL
	excluded             // the new row's value
	other                // an argument or an expression
)

// kindOf uses ent's public API: setting a column again to the same value
// doesn't change the statement's text. Columns set to NULL are in another list,
// which then grows.
func (u *upserting) kindOf(set *entsql.UpdateSet, name string) kind {
	if !slices.Contains(set.UpdateColumns(), name) {
		return unset
	}
	grown := false
	text := func(change func(*entsql.UpdateSet)) string {
		b := entsql.Dialect(set.Dialect()).Insert(u.specs[0].Table).Columns(set.Columns()...).OnConflict(u.opts...)
		b.OnConflict(entsql.ResolveWith(func(s *entsql.UpdateSet) {
			before := len(s.UpdateColumns())
			change(s)
			grown = len(s.UpdateColumns()) > before
		}))
		text, _ := b.Query()
		return text
	}
	is := text(func(*entsql.UpdateSet) {})
	switch {
	case is == text(func(s *entsql.UpdateSet) { s.SetExcluded(name) }):
		return excluded
	case grown, is == text(func(s *entsql.UpdateSet) { s.Set(name, nil) }):
		return null
	case is == text(func(s *entsql.UpdateSet) { s.SetIgnore(name) }):
		return unset
	}
	return other
}

// inTarget reports whether ON CONFLICT (…) names a column, by the text that ent
// writes for the options alone.
func (u *upserting) inTarget(name string) bool {
	text, _ := entsql.Dialect(dialect.Postgres).Insert("t").Default().
		OnConflict(u.opts...).OnConflict(entsql.ConflictWhere(nil), entsql.DoNothing()).Query()
	_, list, ok := strings.Cut(text, " ON CONFLICT (")
	list, ok2 := strings.CutSuffix(list, ") DO NOTHING")
	return ok && ok2 && slices.Contains(strings.Split(list, ", "), `"`+name+`"`)
}

// check is the upsert's last option. ent may run it more than once.
func (u *upserting) check(set *entsql.UpdateSet) {
	for _, c := range u.columns {
		if c.Index == "" {
			continue
		}
		switch secret, index := u.kindOf(set, c.Name), u.kindOf(set, c.Index); {
		case secret == unset && index == excluded: // the secret is immutable
			set.SetIgnore(c.Index)
		case secret != index:
			set.Set(c.Index, &column.Refusal{Err: errNoDigest(c)})
		case secret == unset:
			u.checkMove(set, c)
		}
	}
	_, args := set.Query()
	for _, arg := range args {
		if _, ok := arg.(*column.Refusal); ok {
			return // the driver returns its error
		}
	}
	for _, arg := range args {
		if a := rawArg(arg); a != nil {
			u.stamp(a)
		}
	}
	if err := u.checkTenant(set, args); err != nil {
		u.refuse(args, err)
	}
}

// checkMove refuses an upsert, while the keyring has several keys, that leaves
// a row's secret alone but makes the unique index compare the row with others:
// the secret's digests wouldn't be claimed.
func (u *upserting) checkMove(set *entsql.UpdateSet, c column.Column) {
	cfg, err := blindindex.Of(c)
	if err != nil {
		return
	}
	for _, name := range set.UpdateColumns() {
		if !unique.Depends(cfg, name) || u.kindOf(set, name) == unset {
			continue
		}
		for _, spec := range u.specs {
			if f := entspec.Field(spec.Fields, c.Index); f != nil {
				if d, ok := f.Value.(*column.Digest); ok {
					d.Alone = fmt.Errorf("%w: an upsert that sets %s must set the secret too, as UpdateNewValues "+
						"does, while there are several keys", blindindex.ErrBlindIndex, name)
				}
			}
		}
	}
}

// stamp gives a setter's secret its row. The tenant is the new row's.
func (u *upserting) stamp(a *column.Arg) {
	a.Pinned = true
	if len(u.specs) > 1 {
		a.Refuse = a.Column.Wrap("encrypt", fmt.Errorf("%w: the upsert has several", ErrManyRows))
		return
	}
	a.Schema = u.specs[0].Schema
	switch of := ownerOf(u.columns, u.specs[0]); {
	case !a.Owned:
		a.Tenant, a.Owned = of.Tenant, of.Known
	case of.Known && a.Tenant != of.Tenant:
		a.Scoped = a.Column.Wrap("encrypt", fmt.Errorf("%w: a setter says another %s than the row has",
			seal.ErrWrongLocation, a.Column.Tenant))
	}
}

// checkTenant returns why an upsert could leave a token in another tenant's
// row, or nil. The conflicting row belongs to the new row's tenant if the
// conflict columns include the tenant. Otherwise the upsert must set the tenant
// to the new row's, and every secret.
func (u *upserting) checkTenant(set *entsql.UpdateSet, args []any) error {
	if len(u.sourced) > 0 && u.kindOf(set, u.sourced[0].SourceTenant) != unset &&
		!u.inTarget(u.sourced[0].SourceTenant) {
		return errMovesSource(u.sourced[0])
	}
	scoped := tenanted(u.columns)
	if len(scoped) == 0 {
		return nil
	}
	tenant, via := scoped[0].Tenant, scoped[0].Via
	refuse := func(c column.Column, what string) error {
		return c.Wrap("encrypt", fmt.Errorf("%w: %s: let the upsert set %s and all secrets too, as UpdateNewValues "+
			"does, or have %[3]s in its conflict columns", seal.ErrWrongLocation, what, tenant))
	}
	to := u.kindOf(set, tenant)
	if via != "" && u.kindOf(set, via) != unset && (u.kindOf(set, via) != excluded || to != excluded) {
		return refuse(scoped[0], "it sets "+via)
	}
	sure, moved := u.inTarget(tenant), false
	switch to {
	case unset:
	case excluded:
		moved, sure = !sure, true
	default:
		return refuse(scoped[0], "it sets "+tenant+" to another value")
	}
	for _, c := range scoped {
		switch stored := u.kindOf(set, c.Name); {
		case moved && stored == unset:
			return refuse(c, "it sets "+tenant+" and must set this too")
		case stored == unset, stored == null:
		case !sure:
			return refuse(c, "the conflicting row may be another tenant's")
		case stored == other && !isSecret(args, c):
			return refuse(c, "it sets this to a value that isn't a secret")
		}
	}
	return nil
}

// isSecret reports whether a setter's secret for a column is among the
// arguments.
func isSecret(args []any, c column.Column) bool {
	return slices.ContainsFunc(args, func(arg any) bool {
		a, ok := arg.(*column.Arg)
		_, bare := fieldcrypt.AsSecret(arg) // the driver refuses it
		return bare || ok && a.Raw && a.Column.Name == c.Name
	})
}

// refuse makes the driver return err if the keys of one of the columns depend
// on the tenant.
func (u *upserting) refuse(args []any, err error) {
	if u.guard != nil {
		u.guard.Refuse = err
		u.guard.Moving = len(u.sourced) > 0
	}
	for _, arg := range args {
		if a, ok := arg.(*column.Arg); ok {
			a.Scoped = err
		}
	}
}
