// Package secrets has an entity with a field of each constructor, and a blind
// index.
package secrets

import (
	"entgo.io/contrib/entgql"
	"entgo.io/contrib/entproto"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/encrypted"
)

// Limits is the type of a JSON field.
type Limits struct{ Day int }

// Session has secrets.
type Session struct{ ent.Schema }

// Mixin of the Session.
func (Session) Mixin() []ent.Mixin {
	return []ent.Mixin{
		encrypted.BlindIndex("hidden_text").Unique("owner"), encrypted.BlindIndex("given_text"), encrypted.BlindIndex("given_time"),
	}
}

// Fields of the Session.
func (Session) Fields() []ent.Field {
	return []ent.Field{
		field.String("owner").Annotations(entproto.Field(2)),
		encrypted.String("hidden_text").Tenant("owner").Bound(),
		encrypted.Bytes("hidden_bytes").Optional(),
		encrypted.Time("hidden_time"),
		encrypted.JSON("hidden_limits", Limits{}),
		encrypted.JSON("hidden_names", map[string]string{}).Optional(),
		encrypted.String("given_text").Optional().APIInput(),
		encrypted.Bytes("given_bytes").APIInput(),
		encrypted.Time("given_time").APIInput().Annotations(entgql.Type("Moment")),
		encrypted.JSON("given_limits", Limits{}).Optional().APIInput(),
		encrypted.String("given_once").APIInput().Annotations(entgql.Skip(entgql.SkipMutationUpdateInput)),
	}
}

// Edges of the Session.
func (Session) Edges() []ent.Edge {
	return []ent.Edge{edge.To("parent", Session.Type).Unique().Annotations(entproto.Skip())}
}

// Annotations of the Session.
func (Session) Annotations() []schema.Annotation {
	return []schema.Annotation{
		entgql.RelayConnection(), entgql.QueryField(), entgql.Mutations(),
		entproto.Message(), entproto.Service(),
	}
}
