package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/credent-go/credent/internal/hookpoint"
)

// UserAccount is a user who has credentials.
type UserAccount struct {
	ent.Schema
}

// Mixin gives the columns that both tables have.
func (UserAccount) Mixin() []ent.Mixin {
	return []ent.Mixin{Record{}}
}

// Fields of the UserAccount.
func (UserAccount) Fields() []ent.Field {
	return []ent.Field{
		field.String("user_id").
			SchemaType(varchar(255)).
			MaxRuneLen(255).
			NotEmpty().
			Unique().
			Comment("The user's ID in the system that signs users in."),
		field.String("account_name").
			SchemaType(varchar(255)).
			MaxRuneLen(255).
			NotEmpty().
			Comment("A name for people."),
	}
}

// Edges of the UserAccount.
func (UserAccount) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("credentials", UserCredential.Type).
			// migrate.Diff makes it a key of two columns.
			StorageKey(edge.Symbol("user_credentials_user_id_user_account_id_fkey")).
			Annotations(entsql.OnDelete(entsql.Cascade)),
	}
}

// Indexes of the UserAccount.
func (UserAccount) Indexes() []ent.Index {
	return []ent.Index{
		// Redundant beside the unique constraint; the Python models declare it.
		index.Fields("user_id").StorageKey("idx_user_accounts_user_id"),
		// What the foreign key of a credential refers to.
		index.Fields("user_id", "id").Unique().StorageKey("user_accounts_user_id_id_key"),
	}
}

// Hooks of the UserAccount: the rules that every client keeps, however it was
// built.
func (UserAccount) Hooks() []ent.Hook { return []ent.Hook{hookpoint.Hook} }

// Annotations of the UserAccount.
func (UserAccount) Annotations() []schema.Annotation {
	return []schema.Annotation{entsql.Table("user_accounts")}
}
