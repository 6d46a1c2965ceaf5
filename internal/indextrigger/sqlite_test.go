package indextrigger_test

import (
	"database/sql"
	"testing"

	"entgo.io/ent/dialect"
	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite" // the database driver

	"github.com/credent-go/credent/internal/indextrigger"
	"github.com/credent-go/credent/internal/indextrigger/indextriggertest"
)

func TestSQLite(t *testing.T) {
	t.Parallel()
	indextriggertest.SQLite(t, memory)
}

func memory(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	return db
}

func TestCompareSQLite(t *testing.T) {
	t.Parallel()
	const create = "CREATE TABLE vaults (id INTEGER PRIMARY KEY, secret text, secret_index blob)"
	missing := []string{"credent_vaults__secret_1 of vaults: missing", "credent_vaults__secret_2 of vaults: missing"}
	for name, test := range map[string]struct {
		sql    []string
		column indextrigger.Column
		want   []string
	}{
		"nothing":        {nil, vaults, nil},
		"no such table":  {[]string{"DROP TABLE vaults"}, vaults, nil},
		"no such column": {nil, indextrigger.Column{Table: "vaults", Token: "secret", Index: "digest"}, nil},
		"dropped":        {[]string{"DROP TRIGGER credent_vaults__secret_1"}, vaults, missing[:1]},
		"recreated":      {[]string{"DROP TABLE vaults", create}, vaults, missing},
		"changed": {
			[]string{"DROP TRIGGER credent_vaults__secret_1", "CREATE TRIGGER " +
				"credent_vaults__secret_1 AFTER DELETE ON vaults BEGIN SELECT 1; END"},
			vaults,
			[]string{"credent_vaults__secret_1 of vaults: changed: another definition"},
		},
		"renamed table": {[]string{"ALTER TABLE vaults RENAME TO safes"}, indextrigger.Column{
			Table: "safes",
			Token: "secret", Index: "secret_index",
		}, nil},
		"renamed columns": {[]string{"ALTER TABLE vaults RENAME secret TO a", "ALTER TABLE vaults RENAME " +
			"secret_index TO b"}, indextrigger.Column{Table: "vaults", Token: "a", Index: "b"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := memory(t)
			exec(t, db, create)
			exec(t, db, indextrigger.Statements(dialect.SQLite, vaults)...)
			exec(t, db, test.sql...)
			if diff := cmp.Diff(test.want, problems(t, db, dialect.SQLite, test.column)); diff != "" {
				t.Error(diff)
			}
			mend(t, db, dialect.SQLite, test.column)
		})
	}
}
