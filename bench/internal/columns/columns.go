// Package columns has the columns of Credent's two tables for the clients
// measured beside it. The tables are Credent's own; the schemas that use the
// package have the same fields with another type for the secrets.
package columns

import (
	"time"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	"entgo.io/ent/schema/field"
	"github.com/google/uuid"
)

// Record returns the columns that both tables have.
func Record() []ent.Field {
	return []ent.Field{
		field.UUID("id", uuid.UUID{}).Default(uuid.New),
		field.Bool("is_active").Default(true),
		field.Time("created_at").SchemaType(timestamp).Default(utcNow).Immutable(),
		field.Time("updated_at").SchemaType(timestamp).Default(utcNow).UpdateDefault(utcNow),
	}
}

// Account returns the columns of user_accounts.
func Account() []ent.Field {
	return append(Record(),
		field.String("user_id").MaxRuneLen(255).NotEmpty().Unique(),
		field.String("account_name").MaxRuneLen(255).NotEmpty(),
	)
}

// Credential returns the columns of user_credentials, with the given secrets.
// The blind index's digest is a bytes field.
func Credential(apiKey, secretKey ent.Field) []ent.Field {
	return append(Record(),
		field.Bytes("api_key_index").Optional(),
		field.UUID("user_account_id", uuid.UUID{}),
		field.String("user_id").MaxRuneLen(255).NotEmpty(),
		field.String("credential_type").MaxRuneLen(50).NotEmpty(),
		apiKey,
		secretKey,
		field.Time("expires_at").SchemaType(timestamp).Optional().Nillable(),
	)
}

var timestamp = map[string]string{dialect.Postgres: "timestamp"}

func utcNow() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
