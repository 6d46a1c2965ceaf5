// Package indextrigger makes and compares the triggers that empty the digest
// of a blind index when a statement changes the token and not the digest.
//
// The client writes both. The triggers guard against every other writer: the
// Python application, psql, updatable views, MERGE, upserts, and partitions
// that a statement names. Their rules, for an UPDATE of any form:
//
//   - It sets the token only, to another one: the digest becomes NULL.
//   - It sets both: the digest stays as set. Re-encryption stores a new token
//     of the same plaintext with the same digest, which must not be lost.
//   - The token becomes NULL: so does the digest.
//
// One case can't be told apart on Postgres: a MERGE in which one action sets
// the token and another action the digest. Postgres fires triggers by the
// columns of all its actions, so the digest stays.
package indextrigger

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// Column is an indexed column: one that holds tokens and has a blind index.
type Column struct {
	Schema string // on Postgres; "" means the schema that search_path finds
	Table  string
	Token  string // column of the tokens
	Index  string // column of the digests
	Key    string // column of the primary key; "" means "id"
}

func (c Column) key() string { return cmp.Or(c.Key, "id") }

// table returns the table as SQL names it. SQLite has no schemas in ent.
func (c Column) table(d string) string { return qualified(d, c.Schema, c.Table) }

func qualified(d, schema, name string) string {
	if d != dialect.Postgres {
		schema = ""
	}
	return column.QuoteTable(schema, name)
}

// Statements returns the DDL that makes a column's triggers, without
// semicolons at the end. It can be run again and again. It panics for a
// dialect other than Postgres and SQLite.
func Statements(d string, c Column) []string {
	names := c.triggers()
	var all []string
	switch d {
	case dialect.Postgres:
		all = append(all, postgresFunction(c))
		for s, name := range names {
			all = append(all, postgresDrop(c.table(d), name), postgresTrigger(c, name, step(s)))
		}
	case dialect.SQLite:
		for s, name := range names {
			all = append(all, sqliteDrop(name), sqliteTrigger(c, name, step(s)))
		}
	default:
		panic(fmt.Sprintf("encrypted: no triggers for dialect %q", d))
	}
	return all
}

// DropsOf returns the DDL that drops the triggers that a column's table has
// from when the table and the column had other names.
func DropsOf(d string, c Column, table, token string) (all []string) {
	old := Column{Table: table, Token: token}
	for _, name := range old.triggers() {
		if d == dialect.SQLite {
			all = append(all, sqliteDrop(name))
		} else {
			all = append(all, postgresDrop(c.table(d), name))
		}
	}
	if d == dialect.Postgres {
		all = append(all, "DROP FUNCTION IF EXISTS "+qualified(d, c.Schema, old.name())+"()")
	}
	return all
}

// Drops returns the statements that drop a column's triggers, if they are
// there.
func Drops(d string, c Column) (drops []string) {
	for _, name := range c.triggers() {
		if d == dialect.Postgres {
			drops = append(drops, postgresDrop(c.table(d), name))
		} else {
			drops = append(drops, sqliteDrop(name))
		}
	}
	return drops
}

// step is one of the two triggers of a column, in the order in which Postgres
// must call them.
type step int

const (
	first step = iota
	second
	steps
)

// marker is in every trigger or its function, so that triggers of
// columns without an index are found.
const marker = "credent: blind index"

// triggers returns the names of the column's triggers. Postgres calls triggers
// in the order of their names.
func (c Column) triggers() (names [steps]string) {
	for s := range names {
		names[s] = fmt.Sprintf("%s_%d", c.name(), s+1)
	}
	return names
}

const (
	prefix  = "credent_"
	maxName = 63 // bytes, of a Postgres identifier
	maxBase = maxName - len("_1")
)

// name returns the name of the column's function, on which the names of its
// triggers are built. No two columns share one: a plain name has exactly one
// double underscore, between table and column, and a hashed one has none.
func (c Column) name() string {
	plain := prefix + c.Table + "__" + c.Token
	if len(plain) <= maxBase && isPlain(c.Table) && isPlain(c.Token) {
		return plain
	}
	sum := sha256.Sum256([]byte(c.Table + "\x00" + c.Token))
	return prefix + "index_" + hex.EncodeToString(sum[:16])
}

// isPlain reports whether a name is made of lower-case words with single
// underscores between them.
func isPlain(name string) bool {
	for _, word := range strings.Split(name, "_") {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return false
		}
	}
	return true
}

func quote(name string) string { return column.QuoteName(name) }
