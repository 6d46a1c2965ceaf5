// Package schema is a schema that the code generation must accept.
package schema

import (
	"time"

	"entgo.io/ent"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/mixin"

	"github.com/credent-go/credent/encrypted"
)

// Limits is a type that generated code must import.
type Limits struct{ Requests int }

// Signed is a mixin.
type Signed struct{ mixin.Schema }

// Fields of the mixin.
func (Signed) Fields() []ent.Field {
	return []ent.Field{encrypted.String("api_key").Comment("Stored encrypted.")}
}

// Session is an entity.
type Session struct{ ent.Schema }

// Mixin of the Session.
func (Session) Mixin() []ent.Mixin { return []ent.Mixin{Signed{}} }

// Fields of the Session.
func (Session) Fields() []ent.Field {
	return []ent.Field{
		encrypted.String("key").MaxBytes(2000),
		encrypted.Bytes("certificate").StorageKey("user").Optional().Immutable(),
		encrypted.Time("seen"),
		encrypted.JSON("scopes", []string{}),
		encrypted.JSON("limits", map[string]*Limits{}).Optional(),
		encrypted.JSON("waits", []time.Duration{}),
	}
}

// Device is an entity.
type Device struct{ ent.Schema }

// Mixin of the Device.
func (Device) Mixin() []ent.Mixin { return []ent.Mixin{Signed{}} }

// Fields of the Device.
func (Device) Fields() []ent.Field {
	return []ent.Field{field.String("id").StorageKey("serial")}
}
