package record

import (
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"

	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// New is a row that an INSERT makes. It stands in the statement for a plain
// value of the row, or goes with one of its secrets.
type New struct {
	Stored any // the value it stands for; nil beside a secret
	Table  string
	ID     string // primary key, "" if the database makes it
	Tenant string
	Fields string // names of the columns that are set
	Upsert bool   // the row may be there already
	Moved  []Row  // rows of other tables that become the row's
}

// Value implements driver.Valuer, for statements that don't pass Credent's
// driver.
func (n *New) Value() (driver.Value, error) {
	return driver.DefaultParameterConverter.ConvertValue(n.Stored)
}

// String prints the value it stands for, as loggers of arguments do.
func (n *New) String() string { return fmt.Sprint(n.Stored) }

// newOf returns the row that an argument carries, or nil.
func newOf(arg any) *New {
	switch arg := arg.(type) {
	case *New:
		return arg
	case *column.Arg:
		n, _ := arg.Row.(*New)
		return n
	case *column.Guard:
		return newOf(arg.Stored)
	}
	return nil
}

// Carry makes a spec of a new row carry it. It adds no argument and no text.
func Carry(client string, spec *sqlgraph.CreateSpec) {
	n := &New{Table: table(spec.Schema, spec.Table), Upsert: len(spec.OnConflict) > 0}
	if spec.ID != nil {
		n.ID = Text(spec.ID.Value)
	}
	if name := tenantOf(client, spec.Table); name != "" {
		n.Tenant = valueOf(name, spec.Fields, spec.Edges)
	}
	n.Fields = names(client, spec.Table, spec.Fields, spec.Edges)
	n.Moved = adopted(client, spec.Edges)
	var plain *sqlgraph.FieldSpec
	for _, f := range spec.Fields {
		if arg, ok := f.Value.(*column.Arg); ok {
			arg.Row = n
			return
		}
		if plain == nil && isPlain(f) {
			plain = f
		}
	}
	if plain != nil {
		n.Stored = plain.Value
		plain.Value = n
	}
}

// isPlain reports whether a New can stand for a field's value: ent sends it as
// an argument, as it is.
func isPlain(f *sqlgraph.FieldSpec) bool {
	if f.Type == field.TypeJSON || f.Value == nil {
		return false
	}
	switch f.Value.(type) {
	case entsql.Querier, entsql.ParamFormatter, *column.Digest, *column.Guard, *column.Refusal:
		return false
	}
	return true
}

func table(schema, name string) string {
	if schema == "" {
		return name
	}
	return schema + "." + name
}

// tenantOf returns a table's column with a row's tenant, or "".
func tenantOf(client, table string) string {
	for _, c := range column.InTable(client, table) {
		if c.Tenant != "" {
			return c.Tenant
		}
	}
	for _, c := range column.SourcedFrom(client, table) {
		return c.SourceTenant
	}
	return ""
}

// valueOf returns the text of a column that a spec sets, or "".
func valueOf(name string, fields []*sqlgraph.FieldSpec, edges []*sqlgraph.EdgeSpec) string {
	for _, f := range fields {
		if f.Column == name {
			if g, ok := f.Value.(*column.Guard); ok {
				return Text(g.Stored)
			}
			return Text(f.Value)
		}
	}
	for _, e := range edges {
		if isOwn(e) && len(e.Target.Nodes) == 1 && slices.Contains(e.Columns, name) {
			if g, ok := e.Target.Nodes[0].(*column.Guard); ok {
				return Text(g.Stored)
			}
			return Text(e.Target.Nodes[0])
		}
	}
	return ""
}

// isOwn reports whether an edge's foreign key is in the row itself.
func isOwn(e *sqlgraph.EdgeSpec) bool {
	return e.Rel == sqlgraph.M2O || e.Rel == sqlgraph.O2O && (e.Inverse || e.Bidi)
}

// names returns the columns that a spec sets, without digests'.
func names(client, table string, fields []*sqlgraph.FieldSpec, edges []*sqlgraph.EdgeSpec) string {
	indexes := column.InTable(client, table)
	list := make([]string, 0, len(fields)+len(edges))
	for _, f := range fields {
		if !slices.ContainsFunc(indexes, func(c column.Column) bool { return c.Index == f.Column }) {
			list = append(list, f.Column)
		}
	}
	for _, e := range edges {
		if isOwn(e) {
			list = append(list, e.Columns...)
		}
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), ",")
}

// adopted returns the rows of other tables with secrets that edges give to
// another row, or take away.
func adopted(client string, edges []*sqlgraph.EdgeSpec) (rows []Row) {
	for _, e := range edges {
		if isOwn(e) || e.Rel == sqlgraph.M2M || len(column.InTable(client, e.Table)) == 0 {
			continue
		}
		for _, id := range e.Target.Nodes {
			rows = append(rows, Row{
				Action: Update, Table: table(e.Schema, e.Table), ID: Text(id), Note: strings.Join(e.Columns, ","),
			})
		}
	}
	return rows
}
