package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"github.com/google/uuid"

	"github.com/credent-go/credent/encrypted"
)

// Grant is one access token from a provider, with its scopes and expiry.
type Grant struct {
	ent.Schema
}

// Fields of the Grant.
func (Grant) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("id", uuid.UUID{}).Default(uuid.New),
		encrypted.String("access_token").MaxBytes(2000).Immutable(),
		encrypted.JSON("scopes", []string{}).Immutable(),
		encrypted.Time("expires_at").Immutable(),
	}
}

// Edges of the Grant.
func (Grant) Edges() []ent.Edge {
	return []ent.Edge{edge.From("integration", Integration.Type).Ref("grants").Unique().Required()}
}
