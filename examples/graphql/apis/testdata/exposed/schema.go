// Package exposed has encrypted fields that annotations put into responses.
package exposed

import (
	"entgo.io/contrib/entgql"
	"entgo.io/contrib/entoas"
	"entgo.io/contrib/entproto"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"
	"github.com/ogen-go/ogen"

	"github.com/credent-go/credent/encrypted"
)

// Session has secrets.
type Session struct{ ent.Schema }

// Fields of the Session.
func (Session) Fields() []ent.Field {
	return []ent.Field{
		field.String("owner").Annotations(entproto.Field(2)),
		encrypted.String("a").Annotations(entproto.Field(3)),
		encrypted.String("b").APIInput().Annotations(entoas.Schema(ogen.String())),
		encrypted.Time("c").Annotations(entoas.Example("CANARY")),
		encrypted.Bytes("d").Annotations(entgql.OrderField("D")),
	}
}

// Annotations of the Session.
func (Session) Annotations() []schema.Annotation { return []schema.Annotation{entproto.Message()} }
