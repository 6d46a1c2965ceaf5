// Package schema is a schema that the code generation must accept.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// Session is an entity.
type Session struct{ ent.Schema }

// Fields of the Session.
func (Session) Fields() []ent.Field {
	return []ent.Field{
		field.Bytes("api_key").GoType(fieldcrypt.Secret{}).ValueScanner(fieldcrypt.Column("sessions", "api_key", 500)).Sensitive(),
	}
}
