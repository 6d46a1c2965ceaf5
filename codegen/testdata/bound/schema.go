// Package schema is a schema that the code generation must accept.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
	"github.com/google/uuid"

	"github.com/credent-go/credent/encrypted"
)

// Session is an entity.
type Session struct{ ent.Schema }

// Fields of the Session.
func (Session) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("owner_id", uuid.UUID{}).StorageKey("owner"),
		encrypted.String("a").Tenant("owner_id").Bound(),
		encrypted.Bytes("b").Tenant("owner_id"),
		encrypted.Time("c"),
	}
}

// Device is an entity.
type Device struct{ ent.Schema }

// Fields of the Device.
func (Device) Fields() []ent.Field {
	return []ent.Field{field.Uint32("org"), encrypted.String("a").Tenant("org").Bound()}
}
