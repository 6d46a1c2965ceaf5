package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"example.com/graphql/webhook"
	"github.com/google/uuid"

	"github.com/credent-go/credent/encrypted"
)

// Integration is an account's integration with a provider.
type Integration struct {
	ent.Schema
}

// Mixin adds the column for finding an integration by its API key.
func (Integration) Mixin() []ent.Mixin {
	return []ent.Mixin{encrypted.BlindIndex("api_key").Unique().AcrossTenants()}
}

// Fields of the Integration. The API sets the ones with APIInput; the service
// sets the other secrets itself.
func (Integration) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("id", uuid.UUID{}).Default(uuid.New),
		field.UUID("account_id", uuid.UUID{}).Immutable(),
		field.String("provider").NotEmpty().Annotations(entgql.OrderField("PROVIDER")),
		encrypted.String("api_key").Tenant("account_id").Bound().APIInput().Comment("The provider's key."),
		encrypted.Bytes("certificate").MaxBytes(4000).Optional().Tenant("account_id").Bound().APIInput(),
		encrypted.Time("paid_until").Optional().APIInput(),
		encrypted.JSON("webhook", webhook.Config{}).Size(2000).Optional().Tenant("account_id").Bound().APIInput(),
		encrypted.String("signing_key").Immutable(),
	}
}

// Edges of the Integration.
func (Integration) Edges() []ent.Edge {
	return []ent.Edge{
		edge.From("account", Account.Type).Ref("integrations").Field("account_id").Unique().Required().Immutable(),
	}
}

// Annotations of the Integration.
func (Integration) Annotations() []schema.Annotation {
	return []schema.Annotation{
		entgql.RelayConnection(), entgql.QueryField(),
		entgql.Mutations(entgql.MutationCreate(), entgql.MutationUpdate()),
	}
}
