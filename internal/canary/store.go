package canary

import (
	"context"
	"database/sql"
	"fmt"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// CreateTable returns the statements that create the table, for schemas without
// Credent's migrations.
func CreateTable(d string) []string {
	text := map[string]string{dialect.Postgres: "character varying", dialect.SQLite: "varchar"}[d]
	if text == "" {
		return nil
	}
	return []string{fmt.Sprintf(`CREATE TABLE IF NOT EXISTS "%s" (
  "table_name" %s(255) NOT NULL,
  "column_name" %[2]s(255) NOT NULL,
  "%s" %[2]s(500) NOT NULL,
  PRIMARY KEY ("table_name", "column_name"),
  CONSTRAINT "%[1]s_%[3]s_encrypted" CHECK ("%[3]s" LIKE 'gAAAA%%')
)`, Table, text, Token)}
}

// unreadable returns why the role can't read canaries, or "".
func (db DB) unreadable(ctx context.Context) (string, error) {
	t, err := db.describe(ctx, "", Table)
	if err != nil {
		return "", err
	}
	if t.hidden {
		return "row-level security hides " + Table, nil
	}
	return t.lacks(Table, "table_name", "column_name", Token), nil
}

// HasTable reports whether the database has the table.
func (db DB) HasTable(ctx context.Context) (bool, error) {
	t, err := db.describe(ctx, "", Table)
	return len(t.columns) > 0, err
}

const (
	whereColumn = ` WHERE "table_name" = $1 AND "column_name" = $2`
	readToken   = `SELECT "` + Token + `" FROM "` + Table + `"` + whereColumn
	insertToken = `INSERT INTO "` + Table + `" ("table_name", "column_name", "` + Token + `") VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	// Arguments are in the text's order, since some SQLite drivers count them
	// by it.
	updateToken = `UPDATE "` + Table + `" SET "` + Token + `" = $1 WHERE "table_name" = $2 AND "column_name" = $3 AND "` + Token + `" = $4`
	deleteToken = `DELETE FROM "` + Table + `"` + whereColumn
)

// Read returns a column's canary, or "".
func (db DB) Read(ctx context.Context, of column.Column) (token string, err error) {
	of = db.named(of)
	err = db.query(ctx, func(scan func(...any) error) error { return scan(&token) }, readToken, of.TableName(), of.Name)
	return token, err
}

// insert stores a column's canary, unless there is one.
func (db DB) insert(ctx context.Context, of column.Column, token string) error {
	of = db.named(of)
	return db.On.Exec(ctx, insertToken, []any{of.TableName(), of.Name, token}, nil)
}

// replace replaces a column's canary, if it is still before, and reports
// whether it was.
func (db DB) replace(ctx context.Context, of column.Column, before, token string) (bool, error) {
	of = db.named(of)
	var result sql.Result
	if err := db.On.Exec(ctx, updateToken, []any{token, of.TableName(), of.Name, before}, &result); err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// Drop deletes the canary of a column without tokens.
func (db DB) Drop(ctx context.Context, of column.Column) error {
	of = db.named(of)
	return db.On.Exec(ctx, deleteToken, []any{of.TableName(), of.Name}, nil)
}
