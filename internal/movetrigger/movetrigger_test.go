package movetrigger_test

import (
	"os"
	"strings"
	"testing"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/movetrigger"
)

// The migrations have the package's statements, word for word.
func TestMigrationsHaveThem(t *testing.T) {
	t.Parallel()
	columns := []column.Column{
		{Table: "user_credentials", Name: "api_key", Tenant: "user_id"},
		{Table: "user_credentials", Name: "secret_key", Tenant: "user_id"},
	}
	for d, file := range map[string]string{
		dialect.Postgres: "postgres/20261127140000_states.sql", dialect.SQLite: "sqlite/20261127140000_states.sql",
	} {
		text, err := os.ReadFile("../../migrate/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, stmt := range movetrigger.Statements(d, columns) {
			if !strings.Contains(string(text), stmt+";\n") {
				t.Errorf("%s lacks:\n%s", file, stmt)
			}
		}
	}
}

// A renamed table has a trigger and states under its old name.
func TestRenamed(t *testing.T) {
	t.Parallel()
	c := column.Column{Table: "now", Name: "key", Tenant: "owner", Was: "before.key,before.code"}
	for d, drop := range map[string]string{
		dialect.Postgres: `DROP TRIGGER IF EXISTS "credent_before__owner_move" ON "now"`,
		dialect.SQLite:   `DROP TRIGGER IF EXISTS "credent_before__owner_move"`,
	} {
		stmts := movetrigger.Statements(d, []column.Column{c})
		all := strings.Join(stmts, ";\n")
		if stmts[0] != drop || !strings.Contains(all, "'now.key'") || !strings.Contains(all, "'before.code'") {
			t.Errorf("%s: %s", d, all)
		}
	}
}

// Names that are too long or need quoting are hashed.
func TestNames(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, c := range []column.Column{
		{Table: strings.Repeat("x", 60), Name: "key", Tenant: "a"},
		{Table: strings.Repeat("x", 60), Name: "key", Tenant: "b"},
		{Table: `a "b"`, Name: "it's", Tenant: "o'clock", Bound: true},
	} {
		for _, d := range []string{dialect.Postgres, dialect.SQLite} {
			stmt := strings.Join(movetrigger.Statements(d, []column.Column{c}), ";\n")
			if !strings.Contains(stmt, `"credent_move_`) || seen[stmt] {
				t.Errorf("%s: %s", d, stmt)
			}
			seen[stmt] = true
		}
	}
}
