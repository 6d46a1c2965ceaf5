// Package schema declares the entities of package ent, column for column as the
// Python application's SQLAlchemy models have them. Change it, then run go
// generate ./ent and make migration.
package schema

import (
	"time"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/mixin"
	"github.com/google/uuid"
)

// Record is the mixin with the columns that both tables have: key, state and
// times.
type Record struct {
	mixin.Schema
}

// Fields of the mixin. The defaults in the database are for writers that are
// neither ent nor the Python application.
func (Record) Fields() []ent.Field {
	return []ent.Field{
		field.UUID("id", uuid.UUID{}).
			Default(uuid.New).
			Annotations(entsql.DefaultExprs(map[string]string{
				dialect.Postgres: "gen_random_uuid()",
				dialect.SQLite:   sqliteUUID,
			})),
		field.Bool("is_active").
			Default(true).
			Comment("False once disabled."),
		field.Time("created_at").
			SchemaType(timestamp).
			Default(utcNow).
			Immutable().
			Annotations(utcDefault).
			Comment("UTC."),
		field.Time("updated_at").
			SchemaType(timestamp).
			Default(utcNow).
			UpdateDefault(utcNow).
			Annotations(utcDefault).
			Comment("UTC."),
	}
}

// timestamp has no zone, since the Python application reads and writes naive
// UTC.
var timestamp = map[string]string{dialect.Postgres: "timestamp"}

var utcDefault = entsql.DefaultExprs(map[string]string{
	dialect.Postgres: "timezone('utc', now())",
	dialect.SQLite:   "CURRENT_TIMESTAMP",
})

// sqliteUUID makes a random (version 4) UUID. It has no parentheses around it,
// since SQLite reports it without.
const sqliteUUID = "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) " +
	"|| '-' || substr('89AB', 1 + (abs(random()) % 4), 1) || substr(hex(randomblob(2)), 2) " +
	"|| '-' || hex(randomblob(6)))"

// utcNow has the microseconds that Postgres stores, so that a created entity
// equals the one read back.
func utcNow() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
