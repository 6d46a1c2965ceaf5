package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"github.com/google/uuid"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/hookpoint"
)

// UserCredential is one set of API keys that a user has with a broker or data
// provider.
type UserCredential struct {
	ent.Schema
}

// Mixin gives the columns that both tables have, and the one by which a key is
// found. That is not unique: the same key may have been registered twice before
// there was an index, and the Python application, which writes no digest, may
// do it again.
func (UserCredential) Mixin() []ent.Mixin {
	return []ent.Mixin{
		Record{},
		encrypted.BlindIndex("api_key").AcrossTenants().IndexName("idx_user_credentials_api_key_index"),
	}
}

// Fields of the UserCredential.
func (UserCredential) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("user_account_id", uuid.UUID{}).
			Comment("The account the credential belongs to."),
		field.String("user_id").
			SchemaType(varchar(255)).
			MaxRuneLen(255).
			NotEmpty().
			Comment("Copy of the account's user_id, for row-level security."),
		field.String("credential_type").
			SchemaType(varchar(50)).
			MaxRuneLen(50).
			NotEmpty().
			Comment("The broker or data provider, in lower case: alpaca, polygon, …"),
		// 500 characters, as in the Python application's EncryptedString(500).
		encrypted.String("api_key").
			Size(500).
			Tenant("user_id").
			CopiedFrom("account").
			Comment("The key, or key ID. Stored encrypted."),
		encrypted.String("secret_key").
			Size(500).
			Tenant("user_id").
			CopiedFrom("account").
			Comment("The secret that goes with the key. Stored encrypted."),
		field.Time("expires_at").
			SchemaType(timestamp).
			Optional().
			Nillable().
			Comment("From this time on the provider refuses the credential; never, if nil. UTC."),
	}
}

// Edges of the UserCredential.
func (UserCredential) Edges() []ent.Edge {
	return []ent.Edge{
		edge.From("account", UserAccount.Type).
			Ref("credentials").
			Field("user_account_id").
			Unique().
			Required(),
	}
}

// Indexes of the UserCredential.
func (UserCredential) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("user_id").StorageKey("idx_user_credentials_user_id"),
		index.Fields("user_account_id").StorageKey("idx_user_credentials_account_id"),
	}
}

// Hooks of the UserCredential: the rules that every client keeps, however it
// was built.
func (UserCredential) Hooks() []ent.Hook { return []ent.Hook{hookpoint.Hook} }

// Annotations of the UserCredential.
func (UserCredential) Annotations() []schema.Annotation {
	return []schema.Annotation{entsql.Table("user_credentials")}
}
