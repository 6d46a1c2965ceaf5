// Package softdelete is a schema whose rows are marked as deleted.
package softdelete

import (
	"strings"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/encrypted"
)

// Member is an entity.
type Member struct{ ent.Schema }

// Mixin of the Member.
func (Member) Mixin() []ent.Mixin {
	return []ent.Mixin{
		encrypted.BlindIndex("email").Normalize(strings.ToLower).Unique("org").Where("deleted_at IS NULL"),
		encrypted.BlindIndex("phone").Unique().Where("(deleted_at IS NULL) AND (org_id > 0)").
			IndexName("member_phone_live"), encrypted.BlindIndex("badge").Unique().Where("deleted_at IS NULL"),
	}
}

// Fields of the Member.
func (Member) Fields() []ent.Field {
	return []ent.Field{
		field.Int("id"),
		field.Int("org").StorageKey("org_id").SchemaType(map[string]string{dialect.Postgres: "bigint"}),
		field.String("name").Default(""),
		field.Time("deleted_at").Optional().Nillable(),
		encrypted.String("email"),
		encrypted.String("phone").Optional(),
		encrypted.String("badge").Optional(),
	}
}
