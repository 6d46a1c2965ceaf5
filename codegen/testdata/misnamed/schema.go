// Package misnamed is a schema with earlier names that can't be.
package misnamed

import (
	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/mixin"

	"github.com/credent-go/credent/encrypted"
)

// Person is an entity.
type Person struct{ ent.Schema }

// Fields of the Person.
func (Person) Fields() []ent.Field {
	return []ent.Field{
		encrypted.String("a").WasNamed("public.people.a"),
		encrypted.String("b").WasNamed("old.", "x"),
		encrypted.String("c").WasNamed("people.c"),
		encrypted.String("d").WasNamed("old_d", "people.old_d"),
		encrypted.String("e").WasNamed("g"), // swapped with the next
		encrypted.String("g").WasNamed("e"),
		encrypted.String("h").WasNamed("older").WasNamed("oldest"),
		encrypted.String("i").WasNamed("oldest"),
		encrypted.String("j").WasNamed(""),
		encrypted.String("k").WasNamed("a,b"),
	}
}

// Annotations of the Person.
func (Person) Annotations() []schema.Annotation { return []schema.Annotation{entsql.Table("people")} }

// Signed is a mixin of two entities.
type Signed struct{ mixin.Schema }

// Fields of the mixin.
func (Signed) Fields() []ent.Field {
	return []ent.Field{encrypted.String("signature").WasNamed("letters.sign")}
}

// Letter is an entity.
type Letter struct{ ent.Schema }

// Mixin of the Letter.
func (Letter) Mixin() []ent.Mixin { return []ent.Mixin{Signed{}} }

// Bill is an entity.
type Bill struct{ ent.Schema }

// Mixin of the Bill.
func (Bill) Mixin() []ent.Mixin { return []ent.Mixin{Signed{}} }

// Annotations of the Bill.
func (Bill) Annotations() []schema.Annotation {
	return []schema.Annotation{encrypted.TableWasNamed("letters")} // which another has now
}

// Note is an entity.
type Note struct{ ent.Schema }

// Fields of the Note.
func (Note) Fields() []ent.Field { return []ent.Field{encrypted.String("text")} }

// Annotations of the Note.
func (Note) Annotations() []schema.Annotation {
	return []schema.Annotation{encrypted.TableWasNamed("notes")}
}
