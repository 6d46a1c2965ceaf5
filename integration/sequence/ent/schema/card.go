package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/encrypted"
)

// Card has a secret that is looked up in its tenant's rows, and one that is
// looked up across tenants.
type Card struct {
	ent.Schema
}

// Fields of the Card.
func (Card) Fields() []ent.Field {
	return []ent.Field{
		field.String("name").Unique(),
		field.String("owner_id"),
		encrypted.String("pin").Tenant("owner_id"),
		encrypted.String("email").Tenant("owner_id").Optional(),
	}
}

// Mixin adds the blind indexes.
func (Card) Mixin() []ent.Mixin {
	return []ent.Mixin{
		encrypted.BlindIndex("pin").Unique("owner_id"),
		encrypted.BlindIndex("email").AcrossTenants(),
	}
}
