package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// ErrChanged means that a statement affected different rows than were looked up
// for the trail.
var ErrChanged = errors.New("another transaction changed which rows match: roll back and try again")

// chunk is the number of rows that one query names.
const chunk = 1000

// Change is ent's update or removal of rows. A mutation's statements share it.
type Change struct {
	action Action
	client string
	node   *sqlgraph.NodeSpec
	where  func() func(*entsql.Selector)
	spec   *sqlgraph.UpdateSpec // nil for a removal
	one    bool
	done   bool
}

type changeKey struct{}

// Updating returns a context for the statements of an update.
func Updating(ctx context.Context, client string, spec *sqlgraph.UpdateSpec, one bool) context.Context {
	return context.WithValue(ctx, changeKey{}, &Change{
		action: Update, client: client, node: spec.Node, spec: spec, one: one,
		where: func() func(*entsql.Selector) { return spec.Predicate },
	})
}

// Deleting returns a context for the statement of a removal.
func Deleting(ctx context.Context, client string, spec *sqlgraph.DeleteSpec) context.Context {
	return context.WithValue(ctx, changeKey{}, &Change{
		action: Delete, client: client, node: spec.Node,
		where: func() func(*entsql.Selector) { return spec.Predicate },
	})
}

// ChangeOf returns the change that a context's statements make, or nil. The
// first statement executed makes it.
func ChangeOf(ctx context.Context) *Change {
	if c, _ := ctx.Value(changeKey{}).(*Change); c != nil && !c.done && c.node.ID != nil {
		return c
	}
	return nil
}

// Query runs a query over the statement's connection. The query's predicates
// may look up secrets.
type Query func(ctx context.Context, query string, args, rows any) error

// look returns the rows that the change is about to affect, locked if the
// database can, and other tables' rows that go with them.
func (c *Change) look(ctx context.Context, d string, query Query) (*looked, error) {
	tenant := tenantOf(c.client, c.node.Table)
	b := entsql.Dialect(d)
	t := b.Table(c.node.Table).Schema(c.node.Schema)
	s := b.Select().From(t).WithContext(ctx)
	s.Select(s.C(c.node.ID.Column))
	if tenant != "" {
		s.AppendSelect(s.C(tenant))
	}
	if where := c.where(); where != nil {
		where(s)
	}
	if c.one {
		s.Where(entsql.EQ(s.C(c.node.ID.Column), c.node.ID.Value))
	}
	if d == dialect.Postgres {
		s.ForUpdate()
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	found := &looked{change: c, dialect: d, query: query}
	err := found.each(ctx, s, tenant != "", func(id any, of string) {
		found.ids = append(found.ids, id)
		found.rows = append(found.rows,
			Row{Action: c.action, Table: table(c.node.Schema, c.node.Table), ID: Text(id), Tenant: of})
	})
	if err != nil {
		return nil, fmt.Errorf("credent: the rows for the trail: %w", err)
	}
	if c.spec != nil {
		c.describe(found, tenant)
	}
	if c.action == Delete || found.moves {
		err = found.lookFurther(ctx)
	}
	return found, err
}

// describe notes the columns that an update sets, and moves to another tenant.
func (c *Change) describe(found *looked, tenant string) {
	edges := slices.Concat(c.spec.Edges.Add, c.spec.Edges.Clear)
	note := names(c.client, c.node.Table, slices.Concat(c.spec.Fields.Set, c.spec.Fields.Clear), edges)
	to := ""
	if tenant != "" {
		to = valueOf(tenant, c.spec.Fields.Set, c.spec.Edges.Add)
	}
	for i := range found.rows {
		row := &found.rows[i]
		row.Note = note
		if to != "" && to != row.Tenant {
			row.Action, row.Note = Move, note+"; from the tenant "+row.Tenant
			row.Tenant, found.moves, found.to = to, true, to
		}
	}
	found.also = adopted(c.client, edges)
}

// looked holds the rows of a [Change].
type looked struct {
	change  *Change
	dialect string
	query   Query
	ids     []any
	rows    []Row
	also    []Row // other tables' rows, changed by edges
	moves   bool
	to      string
	further []further
}

// further holds rows of a table that takes its tenant from the changed one.
type further struct {
	of   column.Column
	ids  []any
	rows []Row
}

// lookFurther finds the rows that the database removes or moves with the
// changed ones.
func (l *looked) lookFurther(ctx context.Context) error {
	seen := make(map[string]bool)
	for _, c := range column.SourcedFrom(l.change.client, l.change.node.Table) {
		if l.change.node.Schema != "" && c.Schema == "" {
			c = c.InSchema(l.change.node.Schema)
		}
		if c.Via == "" || seen[c.TableName()] {
			continue
		}
		seen[c.TableName()] = true
		f := further{of: c}
		for ids := range slices.Chunk(l.ids, chunk) {
			b := entsql.Dialect(l.dialect)
			s := b.Select().From(b.Table(c.Table).Schema(c.Schema)).WithContext(ctx)
			s.Select(s.C(c.Key()), s.C(c.Tenant)).Where(entsql.In(s.C(c.Via), ids...))
			err := l.each(ctx, s, true, func(id any, tenant string) {
				row := Row{
					Action: Delete, Table: c.TableName(), ID: Text(id), Tenant: tenant,
					Note: "with its " + l.change.node.Table,
				}
				if l.moves {
					row.Action, row.Tenant = Move, l.to
					row.Note = c.Tenant + "; from the tenant " + tenant
				}
				f.ids = append(f.ids, id)
				f.rows = append(f.rows, row)
			})
			if err != nil {
				return fmt.Errorf("credent: the rows for the trail: %w", err)
			}
		}
		l.further = append(l.further, f)
	}
	return nil
}

// after returns the rows to record after the statement, which affected n rows
// and also set the columns also. Errors: [ErrChanged].
func (l *looked) after(ctx context.Context, n int64, also []string, keyID string) ([]Row, error) {
	if n >= 0 && n != int64(len(l.rows)) {
		return nil, fmt.Errorf("credent: the trail: %w", ErrChanged)
	}
	rows := l.rows
	for i := range rows {
		rows[i].KeyID = keyID
		for _, name := range also {
			if !slices.Contains(strings.FieldsFunc(rows[i].Note, isSeparator), name) {
				rows[i].Note = strings.TrimPrefix(rows[i].Note+","+name, ",")
			}
		}
	}
	rows = append(rows, l.also...)
	for _, f := range l.further {
		left := make(map[string]bool)
		if !l.moves {
			for ids := range slices.Chunk(f.ids, chunk) {
				b := entsql.Dialect(l.dialect)
				s := b.Select().From(b.Table(f.of.Table).Schema(f.of.Schema)).WithContext(ctx)
				s.Select(s.C(f.of.Key())).Where(entsql.In(s.C(f.of.Key()), ids...))
				if err := l.each(ctx, s, false, func(id any, _ string) { left[Text(id)] = true }); err != nil {
					return nil, fmt.Errorf("credent: the rows for the trail: %w", err)
				}
			}
		}
		for _, row := range f.rows {
			if !left[row.ID] {
				rows = append(rows, row)
			}
		}
	}
	return rows, nil
}

func isSeparator(r rune) bool { return r == ',' || r == ';' }

// each calls f with the primary key, and tenant, of each row of a query.
func (l *looked) each(
	ctx context.Context, s *entsql.Selector, tenants bool, f func(id any, tenant string),
) (err error) {
	query, args := s.Query()
	rows := &entsql.Rows{}
	if err := l.query(ctx, query, args, rows); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id, tenant any
		dest := []any{&id}
		if tenants {
			dest = append(dest, &tenant)
		}
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		if raw, ok := id.([]byte); ok { // text, as lib/pq returns it
			id = string(raw)
		}
		f(id, Text(tenant))
	}
	return rows.Err()
}
