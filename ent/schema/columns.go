package schema

import (
	"fmt"

	"entgo.io/ent/dialect"
)

// varchar is the column type; ent's MaxLen alone checks in Go but does not size
// a Postgres column.
func varchar(size int) map[string]string {
	sized := fmt.Sprintf("varchar(%d)", size)
	return map[string]string{dialect.Postgres: sized, dialect.SQLite: sized}
}
