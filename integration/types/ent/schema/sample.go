// Package schema declares an entity with plaintext columns of every type, which
// the tests of package types encrypt.
package schema

import (
	"encoding/json"

	"entgo.io/ent"

	"github.com/credent-go/credent/encrypted"
)

// Sample has an encrypted field for each type of plaintext column.
type Sample struct {
	ent.Schema
}

// Fields of the Sample.
func (Sample) Fields() []ent.Field {
	return []ent.Field{
		encrypted.Bytes("content"),                                      // bytea NOT NULL
		encrypted.Time("moment").Optional(),                             // timestamptz
		encrypted.Time("wall").Optional(),                               // timestamp
		encrypted.Time("day").Optional(),                                // date
		encrypted.JSON("document", map[string]any{}).Optional(),         // jsonb
		encrypted.JSON("source", json.RawMessage{}).Optional(),          // json
		encrypted.JSON("big", int64(0)).Optional(),                      // bigint
		encrypted.JSON("small", int16(0)).Optional(),                    // bigint
		encrypted.JSON("ratio", float64(0)).Optional(),                  // double precision
		encrypted.JSON("amount", json.Number("")).Size(2000).Optional(), // numeric
		encrypted.JSON("flag", false).Optional(),                        // boolean
		encrypted.String("code").Optional(),                             // bigint
		encrypted.String("label").Optional(),                            // bytea
	}
}

// Mixin adds the blind index.
func (Sample) Mixin() []ent.Mixin {
	return []ent.Mixin{encrypted.BlindIndex("code").Unique()}
}
