// Package schema declares the entity that the tests of package sequence write
// with every ent method.
package schema

import (
	"strings"

	"entgo.io/ent"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/credent-go/credent/encrypted"
)

// Owner is a tenant.
type Owner struct {
	ent.Schema
}

// Fields of the Owner.
func (Owner) Fields() []ent.Field {
	return []ent.Field{field.String("id")}
}

// Edges of the Owner.
func (Owner) Edges() []ent.Edge {
	return []ent.Edge{edge.To("notes", Note.Type)}
}

// Note has secrets without a blind index, with one, and with a unique one.
type Note struct {
	ent.Schema
}

// Fields of the Note.
func (Note) Fields() []ent.Field {
	return []ent.Field{
		field.String("title").Unique(),
		field.String("owner_id"),
		encrypted.String("body").Tenant("owner_id").Optional(),
		encrypted.String("email").Tenant("owner_id").Optional(),
		encrypted.Bytes("code").Tenant("owner_id").Optional(),
	}
}

// Edges of the Note.
func (Note) Edges() []ent.Edge {
	return []ent.Edge{
		edge.From("owner", Owner.Type).Ref("notes").Field("owner_id").Unique().Required(),
	}
}

// Mixin adds the blind indexes.
func (Note) Mixin() []ent.Mixin {
	return []ent.Mixin{
		encrypted.BlindIndex("email").AcrossTenants().Normalize(strings.ToLower),
		encrypted.BlindIndex("code").AcrossTenants().Unique(),
	}
}

// Indexes of the Note.
func (Note) Indexes() []ent.Index {
	return []ent.Index{index.Fields("owner_id", "title").Unique()}
}
