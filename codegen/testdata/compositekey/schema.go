// Package schema is a schema that the code generation must refuse.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/encrypted"
)

// User is an entity.
type User struct{ ent.Schema }

// Edges of the User.
func (User) Edges() []ent.Edge {
	return []ent.Edge{edge.To("groups", Group.Type).Through("memberships", Membership.Type)}
}

// Group is an entity.
type Group struct{ ent.Schema }

// Edges of the Group.
func (Group) Edges() []ent.Edge {
	return []ent.Edge{edge.From("users", User.Type).Ref("groups").Through("memberships", Membership.Type)}
}

// Membership is an edge with fields.
type Membership struct{ ent.Schema }

// Annotations of the Membership.
func (Membership) Annotations() []schema.Annotation {
	return []schema.Annotation{field.ID("user_id", "group_id")}
}

// Fields of the Membership.
func (Membership) Fields() []ent.Field {
	return []ent.Field{field.Int("user_id"), field.Int("group_id"), encrypted.String("invitation")}
}

// Edges of the Membership.
func (Membership) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("user", User.Type).Unique().Required().Field("user_id"),
		edge.To("group", Group.Type).Unique().Required().Field("group_id"),
	}
}
