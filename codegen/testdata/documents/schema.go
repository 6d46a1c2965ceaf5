// Package documents is a schema whose secrets are stored on every path that ent
// offers.
package documents

import (
	"os"

	"entgo.io/ent"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"entgo.io/ent/schema/mixin"

	"github.com/credent-go/credent/encrypted"
)

// secret declares an encrypted text of a tenant. The schema binds it if the
// code is generated with DOCUMENTS=bound.
func secret(name, tenant string) *encrypted.Field {
	f := encrypted.String(name).Tenant(tenant)
	if os.Getenv("DOCUMENTS") == "bound" {
		return f.Bound()
	}
	return f
}

// Owner is an entity.
type Owner struct{ ent.Schema }

// Fields of the Owner.
func (Owner) Fields() []ent.Field {
	return []ent.Field{field.String("name"), encrypted.String("pin").Optional()}
}

// Edges of the Owner.
func (Owner) Edges() []ent.Edge { return []ent.Edge{edge.To("docs", Doc.Type)} }

// Doc has the tenant of an edge.
type Doc struct{ ent.Schema }

// Mixin of the Doc.
func (Doc) Mixin() []ent.Mixin { return []ent.Mixin{encrypted.BlindIndex("body").AcrossTenants()} }

// Fields of the Doc.
func (Doc) Fields() []ent.Field {
	return []ent.Field{
		field.Int("owner_id"),
		field.String("title"),
		secret("body", "owner_id").Optional(),
		encrypted.String("note").Optional(),
	}
}

// Edges of the Doc.
func (Doc) Edges() []ent.Edge {
	return []ent.Edge{edge.From("owner", Owner.Type).Ref("docs").Unique().Required().Field("owner_id")}
}

// Indexes of the Doc.
func (Doc) Indexes() []ent.Index {
	return []ent.Index{index.Fields("title").Unique(), index.Fields("owner_id", "title").Unique()}
}

// Fix has an immutable tenant with a default.
type Fix struct{ ent.Schema }

// Fields of the Fix.
func (Fix) Fields() []ent.Field {
	return []ent.Field{
		field.String("tenant").Immutable().DefaultFunc(func() string { return "default" }),
		field.String("title").Unique(),
		secret("body", "tenant"),
	}
}

// Dbd has a tenant that the database fills in.
type Dbd struct{ ent.Schema }

// Fields of the Dbd.
func (Dbd) Fields() []ent.Field {
	return []ent.Field{
		field.String("tenant").Annotations(entsql.DefaultExpr("'db'")),
		secret("body", "tenant"),
	}
}

// Numbered is a mixin with an encrypted field that can't be changed, and its
// blind index.
type Numbered struct{ mixin.Schema }

// Fields of the mixin.
func (Numbered) Fields() []ent.Field { return []ent.Field{encrypted.String("number").Immutable()} }

// Deed has all of its secrets from mixins.
type Deed struct{ ent.Schema }

// Mixin of the Deed.
func (Deed) Mixin() []ent.Mixin { return []ent.Mixin{Numbered{}, encrypted.BlindIndex("number")} }

// Fields of the Deed.
func (Deed) Fields() []ent.Field { return []ent.Field{field.String("title").Unique()} }

// Permit has secrets of each kind that each row must have.
type Permit struct{ ent.Schema }

// Fields of the Permit.
func (Permit) Fields() []ent.Field {
	return []ent.Field{
		encrypted.String("number"),
		encrypted.Time("issued"),
		encrypted.JSON("terms", map[string]int{}),
		encrypted.String("note").Optional(),
	}
}

// Account has a unique secret.
type Account struct{ ent.Schema }

// Mixin of the Account.
func (Account) Mixin() []ent.Mixin { return []ent.Mixin{encrypted.BlindIndex("email").Unique()} }

// Fields of the Account.
func (Account) Fields() []ent.Field {
	return []ent.Field{field.String("name"), encrypted.String("email")}
}

// Edges of the Account.
func (Account) Edges() []ent.Edge {
	return []ent.Edge{edge.To("groups", Group.Type).Through("memberships", Membership.Type)}
}

// Group is an entity.
type Group struct{ ent.Schema }

// Edges of the Group.
func (Group) Edges() []ent.Edge {
	return []ent.Edge{edge.From("accounts", Account.Type).Ref("groups").Through("memberships", Membership.Type)}
}

// Membership is an edge with fields and an ID of its own.
type Membership struct{ ent.Schema }

// Fields of the Membership.
func (Membership) Fields() []ent.Field {
	return []ent.Field{
		field.Int("account_id"), field.Int("group_id"), field.String("role").Default("member"),
		secret("invitation", "account_id").Optional(),
	}
}

// Edges of the Membership.
func (Membership) Edges() []ent.Edge {
	return []ent.Edge{
		edge.To("account", Account.Type).Unique().Required().Field("account_id"),
		edge.To("group", Group.Type).Unique().Required().Field("group_id"),
	}
}
