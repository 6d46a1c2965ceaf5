// Package schema is a schema with blind indexes that the code generation must
// refuse.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/encrypted"
)

// Session is an entity.
type Session struct{ ent.Schema }

// Mixin has the indexes.
func (Session) Mixin() []ent.Mixin {
	return []ent.Mixin{
		encrypted.BlindIndex("missing"),
		encrypted.BlindIndex("title"),
		encrypted.BlindIndex("scopes").Unique(),
		encrypted.BlindIndex("lone").AcrossTenants(),
		encrypted.BlindIndex("shared").Unique("title"),
	}
}

// Fields of the Session.
func (Session) Fields() []ent.Field {
	return []ent.Field{
		field.String("title"),
		encrypted.JSON("scopes", []string{}),
		encrypted.String("lone"),
		encrypted.String("shared").Tenant("owner"),
		field.Int("owner"),
	}
}
