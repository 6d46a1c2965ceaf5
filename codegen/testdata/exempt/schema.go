// Package schema is a schema that the code generation must accept.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/encrypted"
)

// Session is an entity.
type Session struct{ ent.Schema }

// Fields of the Session.
func (Session) Fields() []ent.Field {
	return []ent.Field{
		field.String("idempotency_key").Annotations(encrypted.Plain("made by the client to find repeated requests")),
		field.Int("token_count"),
		field.String("keyboard"),
	}
}
