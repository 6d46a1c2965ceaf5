// Package schema is a schema that the code generation must refuse.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// Session is an entity.
type Session struct{ ent.Schema }

// Fields of the Session.
func (Session) Fields() []ent.Field {
	return []ent.Field{
		field.String("api_key").GoType(encrypted.Secret{}).ValueScanner(column.NewField("api_key", 500)).Sensitive(),
		field.Bytes("certificate").GoType(encrypted.Value[[]byte]{}).
			ValueScanner(column.NewValueField[[]byte]("x", 500)),
	}
}
