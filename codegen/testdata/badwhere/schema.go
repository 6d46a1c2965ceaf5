// Package badwhere is a schema whose blind index has a condition and isn't
// unique.
package badwhere

import (
	"entgo.io/ent"

	"github.com/credent-go/credent/encrypted"
)

// Session is an entity.
type Session struct{ ent.Schema }

// Mixin has the blind index.
func (Session) Mixin() []ent.Mixin {
	return []ent.Mixin{encrypted.BlindIndex("token").Where("title IS NULL")}
}

// Fields of the Session.
func (Session) Fields() []ent.Field { return []ent.Field{encrypted.String("token")} }
