// Package billing is a schema whose tables are in a schema of Postgres.
package billing

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/encrypted"
)

// Invoice is an entity.
type Invoice struct{ ent.Schema }

// Annotations of the Invoice.
func (Invoice) Annotations() []schema.Annotation {
	return []schema.Annotation{entsql.Schema("billing")}
}

// Mixin of the Invoice.
func (Invoice) Mixin() []ent.Mixin {
	return []ent.Mixin{encrypted.BlindIndex("memo").Unique().AcrossTenants()}
}

// Fields of the Invoice.
func (Invoice) Fields() []ent.Field {
	return []ent.Field{
		field.Int("number").Unique(),
		field.String("customer"),
		encrypted.String("memo").Tenant("customer").Bound(),
	}
}
