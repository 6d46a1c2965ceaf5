// Package schema declares Credent's entities with fernet-go in the Go type of
// the secrets.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/bench/internal/columns"
	"github.com/credent-go/credent/bench/internal/fernettype"
)

// UserAccount is a user who has credentials.
type UserAccount struct {
	ent.Schema
}

// Fields of the UserAccount.
func (UserAccount) Fields() []ent.Field { return columns.Account() }

// Edges of the UserAccount.
func (UserAccount) Edges() []ent.Edge {
	return []ent.Edge{edge.To("credentials", UserCredential.Type)}
}

// Annotations of the UserAccount.
func (UserAccount) Annotations() []schema.Annotation {
	return []schema.Annotation{entsql.Table("user_accounts")}
}

// UserCredential is one set of API keys that a user has with a broker or data
// provider.
type UserCredential struct {
	ent.Schema
}

// Fields of the UserCredential.
func (UserCredential) Fields() []ent.Field {
	return columns.Credential(secret("api_key"), secret("secret_key"))
}

// Edges of the UserCredential.
func (UserCredential) Edges() []ent.Edge {
	return []ent.Edge{
		edge.From("account", UserAccount.Type).Ref("credentials").Field("user_account_id").Unique().Required(),
	}
}

// Annotations of the UserCredential.
func (UserCredential) Annotations() []schema.Annotation {
	return []schema.Annotation{entsql.Table("user_credentials")}
}

func secret(name string) ent.Field {
	return field.String(name).GoType(fernettype.Secret{})
}
