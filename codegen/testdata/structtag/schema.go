// Package schema is a schema that the code generation must refuse.
package schema

import (
	"entgo.io/ent"

	"github.com/credent-go/credent/encrypted"
)

// Session is an entity.
type Session struct{ ent.Schema }

// Fields of the Session.
func (Session) Fields() []ent.Field {
	return []ent.Field{encrypted.String("token").StructTag(`json:"token"`)}
}
