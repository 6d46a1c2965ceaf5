package condition

import (
	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql/sqlgraph"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// Keyer is a client's driver that says which columns' tokens are under tenants'
// keys. A driver around it doesn't, and neither does a transaction's: their
// statements read the keys first.
type Keyer interface{ Keyed(c *column.Column) bool }

// Demand lets a new row depend on its tenant's key, if the client's driver
// wants that.
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

// DemandOnce lets a bulk depend on the keys of its rows' tenants, in the first
// row that has any.
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
