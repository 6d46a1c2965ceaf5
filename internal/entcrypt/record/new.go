package record

import (
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"

	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/entcrypt/entspec"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// New describes a row that an INSERT makes. It replaces a plain value of the
// row in the statement, or is attached to one of the row's secrets.
type New struct {
	Stored any // the value it replaces; nil if attached to a secret
	Table  string
	ID     string // primary key; "" if the database makes it
	Tenant string
	Fields string // names of the columns set
	Upsert bool   // the row may exist already
	Moved  []Row  // other tables' rows that become the row's
}

// Value implements driver.Valuer, for statements that don't pass Credent's
// driver.
func (n *New) Value() (driver.Value, error) {
	return driver.DefaultParameterConverter.ConvertValue(n.Stored)
}

// String prints the value it replaces, for loggers of arguments.
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

// Carry makes the spec of a new row carry a [New]. It adds no argument or text.
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
		return
	}
	carryByEdge(n, spec)
}

// carryByEdge makes a row's foreign key carry n, if no field of the row can.
func carryByEdge(n *New, spec *sqlgraph.CreateSpec) {
	for i, e := range spec.Edges {
		if !entspec.IsOwn(e) || len(e.Target.Nodes) != 1 {
			continue
		}
		own := *e
		n.Stored = e.Target.Nodes[0]
		own.Target = &sqlgraph.EdgeTarget{Nodes: []driver.Value{n}, IDSpec: e.Target.IDSpec}
		spec.Edges[i] = &own
		if e.Bidi { // ent stores it in the other row too, by an UPDATE
			own.Bidi, own.Inverse = false, true
			other := *e
			other.Bidi = false
			spec.Edges = append(spec.Edges, &other)
		}
		return
	}
}

// isPlain reports whether a New can replace a field's value: ent sends the
// value as an argument, unchanged.
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

// tenantOf returns the tenant's column of a table, or "".
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

// valueOf returns the text that a spec sets a column to, or "".
func valueOf(name string, fields []*sqlgraph.FieldSpec, edges []*sqlgraph.EdgeSpec) string {
	value := entspec.Assigned(name, fields, edges)
	if value == nil {
		return ""
	}
	if guard, ok := (*value).(*column.Guard); ok {
		return Text(guard.Stored)
	}
	return Text(*value)
}

// names returns the columns that a spec sets, without blind indexes.
func names(client, table string, fields []*sqlgraph.FieldSpec, edges []*sqlgraph.EdgeSpec) string {
	indexes := column.InTable(client, table)
	return strings.Join(slices.DeleteFunc(entspec.Columns(fields, edges), func(name string) bool {
		return slices.ContainsFunc(indexes, func(c column.Column) bool { return c.Index == name })
	}), ",")
}

// adopted returns rows of other tables with secrets that edges add to the row
// or remove from it.
func adopted(client string, edges []*sqlgraph.EdgeSpec) (rows []Row) {
	for _, e := range edges {
		if entspec.IsOwn(e) && !e.Bidi || e.Rel == sqlgraph.M2M || len(column.InTable(client, e.Table)) == 0 {
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
