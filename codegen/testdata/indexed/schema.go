// Package indexed is a schema with blind indexes of every kind, one of them in
// a mixin with its field.
package indexed

import (
	"strings"

	"entgo.io/ent"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/mixin"

	"github.com/credent-go/credent/encrypted"
)

// Tokened is a mixin with an encrypted field.
type Tokened struct{ mixin.Schema }

// Fields of the mixin.
func (Tokened) Fields() []ent.Field { return []ent.Field{encrypted.String("token")} }

// Session is an entity.
type Session struct{ ent.Schema }

// Mixin has the indexes.
func (Session) Mixin() []ent.Mixin {
	return []ent.Mixin{
		Tokened{},
		encrypted.BlindIndex("token").Unique("title").Bits(160).IndexName("session_token"),
		encrypted.BlindIndex("email").Normalize(strings.ToLower).StorageKey("email_digest"),
		encrypted.BlindIndex("certificate"),
		encrypted.BlindIndex("born").Unique(),
	}
}

// Fields of the Session.
func (Session) Fields() []ent.Field {
	return []ent.Field{
		field.String("title"),
		encrypted.String("email").Optional(),
		encrypted.Bytes("certificate"),
		encrypted.Time("born").StorageKey("birth"),
	}
}
