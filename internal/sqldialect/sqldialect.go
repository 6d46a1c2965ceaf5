// Package sqldialect finds out whether a database is Postgres or SQLite, and
// quotes text for both.
package sqldialect

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/nilarg"
)

// Of returns a database's dialect: [dialect.Postgres] or [dialect.SQLite]. If
// the database is neither or can't be reached, it returns the error of the
// query for Postgres.
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

// Literal returns a text as a SQL string literal.
func Literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
