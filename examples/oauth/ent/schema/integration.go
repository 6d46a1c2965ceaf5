// Package schema declares the entities of package ent: the accounts that users
// have connected with other services.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"example.com/oauth/webhook"
	"github.com/google/uuid"

	"github.com/credent-go/credent/encrypted"
)

// Integration is a user's account with a provider.
type Integration struct {
	ent.Schema
}

// Mixin adds the column for finding an account with a provider, which can be
// connected to one user only.
func (Integration) Mixin() []ent.Mixin {
	return []ent.Mixin{encrypted.BlindIndex("refresh_token").Unique().AcrossTenants()}
}

// Fields of the Integration.
func (Integration) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("id", uuid.UUID{}).Default(uuid.New),
		field.String("user_id").NotEmpty(),
		field.String("provider").NotEmpty(),
		encrypted.String("refresh_token").MaxBytes(2000).Tenant("user_id").Bound(),
		encrypted.JSON("webhook", webhook.Config{}).Size(2000).Optional().Tenant("user_id").Bound(),
		encrypted.Bytes("client_certificate").MaxBytes(4000).Optional().Tenant("user_id").Bound(),
	}
}

// Edges of the Integration.
func (Integration) Edges() []ent.Edge {
	return []ent.Edge{edge.To("grants", Grant.Type)}
}

// Indexes of the Integration.
func (Integration) Indexes() []ent.Index {
	return []ent.Index{index.Fields("user_id", "provider").Unique()}
}
