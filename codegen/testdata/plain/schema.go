// Package schema is a schema that the code generation must refuse.
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
		field.String("refresh_token"),
		field.String("private_key").Annotations(encrypted.Plain(" ")),
		field.Bytes("client_secret"),
		field.String("password_hash"),
		field.String("title"),
	}
}
