package encrypted

import (
	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/indextrigger"
)

// IndexTriggers returns the statements that make the triggers of blind
// indexes, for a dialect of ent: Postgres or SQLite.
//
// The triggers guard against writers other than the client: a statement that
// changes a token and doesn't set its digest makes the digest NULL, so that no
// row is found by a secret it no longer has. Re-encryption, which sets both,
// keeps the digest.
//
// Triggers that were made under an earlier name of the column are dropped: on
// Postgres every update would fail in them, since their function has the old
// name of a renamed column.
//
// migrate.Diff of this module writes the statements into migration files. Call
// IndexTriggers if you use another tool, or run the statements after ent's
// client.Schema.Create, each time, since it may make a SQLite table anew. They
// can be run again and again.
//
// They are for the given columns, or for all of [Columns] if none is given;
// columns without a blind index have none. It panics for another dialect.
func IndexTriggers(entDialect string, columns ...Column) []string {
	if len(columns) == 0 {
		columns = Columns()
	}
	var statements []string
	for _, c := range columns {
		if c.Index != "" {
			if entDialect == dialect.SQLite {
				c = c.InSchema("") // as ent, which leaves it out for SQLite
			}
			of := indextrigger.Column{Schema: c.Schema, Table: c.Table, Token: c.Name, Index: c.Index, Key: c.ID}
			for old := range c.Earlier() {
				statements = append(statements, indextrigger.DropsOf(entDialect, of, old.Table, old.Name)...)
			}
			statements = append(statements, indextrigger.Statements(entDialect, of)...)
		}
	}
	return statements
}
