package condition

import (
	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql/sqlgraph"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// Keyer is a client's driver, which knows the columns with tokens under
// tenants' keys. Drivers that wrap it and transactions aren't Keyers: their
// statements read the keys first.
type Keyer interface{ Keyed(c *column.Column) bool }

// Demand makes a new row depend on its tenant's key, if drv is a [Keyer].
func Demand(drv dialect.Driver, fields []*sqlgraph.FieldSpec) {
	keyer, ok := drv.(Keyer)
	if !ok {
		return
	}
	for _, f := range fields {
		if arg, ok := f.Value.(*column.Arg); ok && arg.Owned && keyer.Keyed(arg.Column) {
			f.Value = &Value{Arg: arg}
			return
		}
	}
}

// DemandOnce makes a bulk depend on its tenants' keys, in one condition: the
// first row's that has one.
func DemandOnce(nodes []*sqlgraph.CreateSpec) {
	var first *Value
	for _, node := range nodes {
		for _, f := range node.Fields {
			v, ok := f.Value.(*Value)
			switch {
			case !ok:
			case first == nil:
				first = v
			default:
				first.Many = first.Many || v.Arg.Tenant != first.Arg.Tenant
				f.Value = v.Arg
			}
		}
	}
}
