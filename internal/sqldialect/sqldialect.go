// Package sqldialect asks a database whether it is Postgres or SQLite, and
// writes text as both read it.
package sqldialect

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/nilarg"
)

// Of returns ent's name of a database's dialect: [dialect.Postgres] or
// [dialect.SQLite]. The error is Postgres' if it is neither, or can't be
// reached.
func Of(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
},
) (string, error) {
	if err := nilarg.Check("the pool", db); err != nil {
		return "", err
	}
	var version string
	err := db.QueryRowContext(ctx, "SHOW server_version_num").Scan(&version)
	if err == nil {
		return dialect.Postgres, nil
	}
	if db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version) == nil {
		return dialect.SQLite, nil
	}
	return "", fmt.Errorf("reach the database: %w", err)
}

// Literal returns a text as a string constant of SQL.
func Literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
