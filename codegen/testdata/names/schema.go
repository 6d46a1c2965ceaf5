// Package names is a schema whose table and columns are renamed from one
// release to the next.
package names

import (
	"os"

	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/mixin"

	"github.com/credent-go/credent/encrypted"
)

// release is the one that the code is generated for: before any rename; ahead,
// which knows the coming names; column, in which a column is renamed; table, in
// which its table is, too; after, in which nothing is declared any more.
func release() string { return os.Getenv("NAMES") }

// Contact is a mixin of two entities.
type Contact struct{ mixin.Schema }

// Fields of the mixin.
func (Contact) Fields() []ent.Field {
	mail := encrypted.String("mail").Optional()
	switch release() {
	case "before":
		mail.StorageKey("email")
	case "ahead":
		mail.StorageKey("email").WasNamed("mail")
	case "column", "table":
		mail.WasNamed("email")
	}
	return []ent.Field{mail}
}

// Person is an entity.
type Person struct{ ent.Schema }

// Mixin of the Person.
func (Person) Mixin() []ent.Mixin {
	return []ent.Mixin{
		Contact{},
		encrypted.BlindIndex("mail").Unique().StorageKey("mail_digest"),
		encrypted.BlindIndex("ssn").StorageKey("ssn_digest"),
	}
}

// Fields of the Person.
func (Person) Fields() []ent.Field {
	return []ent.Field{
		field.String("name"),
		field.String("owner"),
		encrypted.String("ssn").Tenant("owner").Bound(),
		encrypted.Bytes("scan").Tenant("owner").Optional(),
	}
}

// Annotations of the Person.
func (Person) Annotations() []schema.Annotation {
	switch release() {
	case "before", "column":
		return []schema.Annotation{entsql.Table("patients")}
	case "ahead":
		return []schema.Annotation{entsql.Table("patients"), encrypted.TableWasNamed("people")}
	case "table":
		return []schema.Annotation{entsql.Table("people"), encrypted.TableWasNamed("patients")}
	}
	return []schema.Annotation{entsql.Table("people")}
}

// Clinic has the mixin, too.
type Clinic struct{ ent.Schema }

// Mixin of the Clinic.
func (Clinic) Mixin() []ent.Mixin {
	return []ent.Mixin{Contact{}, encrypted.BlindIndex("mail").StorageKey("mail_digest")}
}
