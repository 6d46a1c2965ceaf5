// Package entspec reads the specs from which ent builds statements.
package entspec

import (
	"database/sql/driver"
	"slices"

	"entgo.io/ent/dialect/sql/sqlgraph"
)

// Field returns the field of a column, or nil.
func Field(fields []*sqlgraph.FieldSpec, column string) *sqlgraph.FieldSpec {
	for _, f := range fields {
		if f.Column == column {
			return f
		}
	}
	return nil
}

// IsOwn reports whether the row itself has the edge's foreign key.
func IsOwn(e *sqlgraph.EdgeSpec) bool {
	return e.Rel == sqlgraph.M2O || e.Rel == sqlgraph.O2O && (e.Inverse || e.Bidi)
}

// Columns returns the row's columns that fields and edges set, sorted.
func Columns(fields []*sqlgraph.FieldSpec, edges []*sqlgraph.EdgeSpec) []string {
	list := make([]string, 0, len(fields)+len(edges))
	for _, f := range fields {
		list = append(list, f.Column)
	}
	for _, e := range edges {
		if IsOwn(e) {
			list = append(list, e.Columns...)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Assigned returns a pointer to the value that a spec sets a column to, as a
// field or as an edge's foreign key, or nil.
func Assigned(column string, fields []*sqlgraph.FieldSpec, edges []*sqlgraph.EdgeSpec) *driver.Value {
	if f := Field(fields, column); f != nil {
		return &f.Value
	}
	for _, e := range edges {
		if IsOwn(e) && len(e.Columns) == 1 && e.Columns[0] == column && len(e.Target.Nodes) == 1 {
			return &e.Target.Nodes[0]
		}
	}
	return nil
}
