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
		field.Bool("flag"),
		field.String("maybe").Optional(),
		field.Int("org"),
		encrypted.String("a").Bound(),
		encrypted.String("b").Tenant("none"),
		encrypted.String("c").Tenant("flag"),
		encrypted.String("d").Tenant("maybe"),
		encrypted.String("e").Tenant("a"),
		encrypted.String("f").Tenant("org"),
	}
}
