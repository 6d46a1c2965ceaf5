package encrypted

import (
	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/indextrigger"
	"github.com/credent-go/credent/internal/movetrigger"
)

// IndexTriggers returns the statements that make the triggers of blind
// indexes, for a dialect of ent: Postgres or SQLite.
//
// The triggers guard against writers other than the client: a statement that
// changes a token and doesn't set its digest makes the digest NULL, so no row
// is found by a secret it no longer has. Re-encryption, which sets both, keeps
// the digest.
//
// Triggers made under an earlier name of the column are dropped: on Postgres
// every update would fail in them, since their function has the old name of a
// renamed column.
//
// migrate.Diff of this module writes the statements into migration files. Call
// IndexTriggers if you use another tool, or run the statements after each
// client.Schema.Create of ent's, which may rebuild a SQLite table. They can be
// run again and again.
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
				c = c.InSchema("") // like ent, which ignores it for SQLite
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

// TenantTriggers returns the statements that make the triggers that tie tokens
// to their tenant, for a dialect of ent: Postgres or SQLite.
//
// The triggers guard against writers other than the client: a statement that
// changes a row's tenant and keeps tokens that depend on it is refused, on
// Postgres at the end of the transaction and on SQLite at once. Tokens depend
// on the tenant if the field is declared Bound, or if the table credent_states
// has the column's binding or tenants' keys at accept or above. Without the
// table there are no such states in the database, and on SQLite columns that
// aren't Bound need it; [StatesTable] makes it.
//
// The client's own update of one row that sets the tenant and all secrets
// passes. If the tenant is copied from another table (CopiedFrom), a program
// that moves it on SQLite first replaces the tokens with "gAAAA", and stores
// the secrets again afterwards, in one transaction.
//
// migrate.Diff doesn't write these statements, and lint doesn't report missing
// ones: put them into a migration file. They can be run again and again. They
// are for the given columns, or for all of [Columns] if none is given; columns
// without a tenant have none. It panics for another dialect.
func TenantTriggers(entDialect string, columns ...Column) (statements []string) {
	if len(columns) == 0 {
		columns = Columns()
	}
	tables := make(map[[3]string][]Column)
	var order [][3]string
	for _, c := range columns {
		if entDialect == dialect.SQLite {
			c = c.InSchema("")
		}
		key := [3]string{c.Schema, c.Table, c.Tenant}
		if c.Tenant == "" {
			continue
		}
		if tables[key] == nil {
			order = append(order, key)
		}
		tables[key] = append(tables[key], c)
	}
	for _, key := range order {
		statements = append(statements, movetrigger.Statements(entDialect, tables[key])...)
	}
	return statements
}

// StatesTable returns the statements that make the table of states, for a
// schema without Credent's own migrations. Services need SELECT on it, and only
// its owner should write.
func StatesTable(entDialect string) []string { return movetrigger.Table(entDialect) }
