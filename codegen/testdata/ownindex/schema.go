// Package schema has unique indexes with conditions that a client would not
// know.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/credent-go/credent/encrypted"
)

// Own has an index of its own with the digest.
type Own struct{ ent.Schema }

// Mixin has the blind index.
func (Own) Mixin() []ent.Mixin { return []ent.Mixin{encrypted.BlindIndex("token")} }

// Fields of Own.
func (Own) Fields() []ent.Field {
	return []ent.Field{encrypted.String("token"), field.Time("removed").Optional()}
}

// Indexes of Own: the second is accepted.
func (Own) Indexes() []ent.Index {
	return []ent.Index{
		index.Fields("token_index").Unique().Annotations(entsql.IndexWhere("removed IS NULL")).StorageKey("mine"),
		index.Fields("removed", "token_index"),
	}
}

// annotated adds a condition to the blind index's own index.
type annotated struct{ *encrypted.Index }

// Indexes implements ent.Mixin.
func (a annotated) Indexes() []ent.Index {
	return []ent.Index{a.Index.Indexes()[0].(*index.Builder).Annotations(entsql.IndexWhere("title = 'a'"))}
}

// Changed has it.
type Changed struct{ ent.Schema }

// Mixin has the blind index.
func (Changed) Mixin() []ent.Mixin {
	return []ent.Mixin{annotated{encrypted.BlindIndex("token").Unique()}}
}

// Fields of Changed.
func (Changed) Fields() []ent.Field {
	return []ent.Field{encrypted.String("token"), field.String("title")}
}
