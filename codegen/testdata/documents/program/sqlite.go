//go:build ignore

package program

import (
	"database/sql"
	"database/sql/driver"
	"slices"

	"entgo.io/ent/dialect"
)

// registerSQLite registers the database driver under the name that ent.Open
// takes.
func registerSQLite(d driver.Driver) {
	if !slices.Contains(sql.Drivers(), dialect.SQLite) {
		sql.Register(dialect.SQLite, d)
	}
}
