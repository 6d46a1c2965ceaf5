// Package stitched is a schema with functions that a service calls, beside
// encrypted fields in every place.
package stitched

import (
	"context"
	"net/url"
	"strings"

	"entgo.io/ent"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/mixin"

	"github.com/credent-go/credent/encrypted"
)

// Named is a mixin with a default and a secret.
type Named struct{ mixin.Schema }

// Fields of the mixin.
func (Named) Fields() []ent.Field {
	return []ent.Field{encrypted.String("token"), field.String("name").Default("nameless")}
}

// Device is an entity.
type Device struct{ ent.Schema }

// Mixin of the Device.
func (Device) Mixin() []ent.Mixin {
	return []ent.Mixin{
		encrypted.BlindIndex("token"),
		Named{},
		encrypted.BlindIndex("email").Normalize(strings.ToLower),
	}
}

// Fields of the Device.
func (Device) Fields() []ent.Field {
	return []ent.Field{
		encrypted.String("email"),
		field.String("home").GoType(&url.URL{}).ValueScanner(field.BinaryValueScanner[*url.URL]{}),
		field.String("serial").NotEmpty(),
	}
}

// Hooks of the Device.
func (Device) Hooks() []ent.Hook {
	return []ent.Hook{func(next ent.Mutator) ent.Mutator {
		return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
			if err := m.SetField("serial", "hooked"); err != nil {
				return nil, err
			}
			return next.Mutate(ctx, m)
		})
	}}
}

// Sensor has secrets and nothing else.
type Sensor struct{ ent.Schema }

// Fields of the Sensor.
func (Sensor) Fields() []ent.Field { return []ent.Field{encrypted.String("code")} }
