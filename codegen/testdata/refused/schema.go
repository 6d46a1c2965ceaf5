// Package schema is a schema that the code generation must refuse.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema/index"

	"github.com/credent-go/credent/encrypted"
)

// Session is an entity.
type Session struct{ ent.Schema }

// Fields of the Session.
func (Session) Fields() []ent.Field {
	return []ent.Field{
		encrypted.String("a").Unique(),
		encrypted.String("b"),
		encrypted.Bytes("c").StorageKey("column_c"),
		encrypted.Time("d").Annotations(order{OrderField: "D"}),
		encrypted.String("e").Default("PK-IN-THE-SOURCE"),
		encrypted.String("f").Annotations(entsql.Default("gAAAAA")),
		encrypted.String("g").Optional().Nillable(),
		encrypted.String("h").Optional().Immutable(),
	}
}

// Indexes of the Session.
func (Session) Indexes() []ent.Index {
	return []ent.Index{index.Fields("b"), index.Fields("h", "c"), index.Fields("b", "a").Unique()}
}

// order is what entgql.OrderField gives.
type order struct{ OrderField string }

// Name implements ent's schema.Annotation.
func (order) Name() string { return "EntGQL" }

// EncryptedType is an entity.
type EncryptedType struct{ ent.Schema }
