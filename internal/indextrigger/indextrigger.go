// Package indextrigger makes and compares the triggers that clear a blind
// index's digest when a statement changes the token but not the digest.
//
// The client writes both. The triggers guard against every other writer: the
// Python application, psql, updatable views, MERGE, upserts, and statements
// that name a partition. Their rules for an UPDATE in any form:
//
//   - It sets only the token, to another one: the digest becomes NULL.
//   - It sets both: the digest stays as set. Re-encryption stores a new token
//     of the same plaintext with the same digest, which must not be lost.
//   - The token becomes NULL: so does the digest.
//
// On Postgres one case goes undetected: a MERGE in which one action sets the
// token and another the digest. Postgres fires triggers by the columns of all
// actions, so the digest stays.
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

// Column is a column of tokens with a blind index.
type Column struct {
	Schema string // only on Postgres; "" means the schema that search_path finds
	Table  string
	Token  string // column of the tokens
	Index  string // column of the digests
	Key    string // column of the primary key; "" means "id"
}

func (c Column) key() string { return cmp.Or(c.Key, "id") }

// table returns the table's name in SQL. ent has no schemas on SQLite.
func (c Column) table(d string) string { return qualified(d, c.Schema, c.Table) }

func qualified(d, schema, name string) string {
	if d != dialect.Postgres {
		schema = ""
	}
	return column.QuoteTable(schema, name)
}

// Statements returns the DDL that creates a column's triggers, without trailing
// semicolons. It can be run repeatedly. It panics for a dialect other than
// Postgres and SQLite.
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

// DropsOf returns the DDL that drops a column's triggers with the names from
// when its table and column were named table and token.
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

// Drops returns the statements that drop a column's triggers, if they exist.
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

// step is one of a column's two triggers, in the order in which Postgres must
// call them.
type step int

const (
	first step = iota
	second
	steps
)

// marker is in every trigger or its function, so that triggers are found even
// if their column has no index any more.
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
	maxName = 63 // length of a Postgres identifier, in bytes
	maxBase = maxName - len("_1")
)

// name returns the name of the column's function, from which its triggers'
// names are built. It is unique: a plain name has exactly one double
// underscore, between table and column, and a hashed one has none.
func (c Column) name() string {
	plain := prefix + c.Table + "__" + c.Token
	if len(plain) <= maxBase && isPlain(c.Table) && isPlain(c.Token) {
		return plain
	}
	sum := sha256.Sum256([]byte(c.Table + "\x00" + c.Token))
	return prefix + "index_" + hex.EncodeToString(sum[:16])
}

// isPlain reports whether a name consists of lower-case words separated by
// single underscores.
func isPlain(name string) bool {
	for _, word := range strings.Split(name, "_") {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return false
		}
	}
	return true
}

func quote(name string) string { return column.QuoteName(name) }
