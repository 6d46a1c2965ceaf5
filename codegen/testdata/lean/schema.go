// Package lean is a schema that generated code needs nothing of: it has no
// function that a service calls.
package lean

import (
	"net/url"

	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/mixin"

	"github.com/credent-go/credent/encrypted"
)

// Tokened is a mixin of several entities.
type Tokened struct{ mixin.Schema }

// Fields of the mixin.
func (Tokened) Fields() []ent.Field {
	return []ent.Field{encrypted.String("token").Tenant("owner").Bound(), field.String("owner")}
}

// Device is an entity.
type Device struct{ ent.Schema }

// Mixin of the Device.
func (Device) Mixin() []ent.Mixin {
	return []ent.Mixin{
		Tokened{},
		encrypted.BlindIndex("token").Unique("owner").Bits(160).Where("removed IS NULL"),
		encrypted.BlindIndex("seen"),
	}
}

// Fields of the Device.
func (Device) Fields() []ent.Field {
	return []ent.Field{
		encrypted.Bytes("certificate").Size(900).Optional(),
		encrypted.Time("seen").StorageKey("seen_at").WasNamed("last_seen"),
		encrypted.JSON("homes", map[string]*url.URL{}),
		encrypted.JSON("scopes", []string{}),
		field.Time("removed").Optional().Nillable(),
	}
}

// Edges of the Device.
func (Device) Edges() []ent.Edge {
	return []ent.Edge{edge.To("groups", Group.Type).Through("memberships", Membership.Type)}
}

// Group is an entity without secrets.
type Group struct{ ent.Schema }

// Edges of the Group.
func (Group) Edges() []ent.Edge {
	return []ent.Edge{edge.From("devices", Device.Type).Ref("groups").Through("memberships", Membership.Type)}
}

// Membership is an edge schema with a secret.
type Membership struct{ ent.Schema }

// Annotations of the Membership.
func (Membership) Annotations() []schema.Annotation { return nil }

// Mixin of the Membership.
func (Membership) Mixin() []ent.Mixin { return []ent.Mixin{Tokened{}} }

// Fields of the Membership.
func (Membership) Fields() []ent.Field {
	return []ent.Field{field.Int("device_id"), field.Int("group_id")}
}

// Edges of the Membership.
func (Membership) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("device", Device.Type).Unique().Required().Field("device_id"),
		edge.To("group", Group.Type).Unique().Required().Field("group_id"),
	}
}
