package sqltext_test

import (
	"testing"

	"github.com/credent-go/credent/internal/entcrypt/sqltext"
)

func TestKinds(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]struct{ control, query, with bool }{
		"SAVEPOINT a":                            {control: true},
		" rollback to a;\n":                      {control: true},
		"SET LOCAL lock_timeout = '1s'":          {control: true},
		"SHOW search_path":                       {control: true, query: true},
		"select 1":                               {query: true},
		"SELECT(1)":                              {query: true},
		"VALUES (1), (2);":                       {query: true},
		"SELECT * INTO copied FROM rows":         {},
		"SELECT 1; DELETE FROM rows":             {},
		"SAVEPOINT a; DELETE FROM rows":          {},
		"/* SELECT */ DELETE FROM rows":          {},
		"-- SELECT\nDELETE FROM rows":            {},
		"WITH a AS (DELETE FROM rows) SELECT 1":  {with: true},
		"DELETE FROM rows RETURNING id":          {},
		"EXPLAIN ANALYZE DELETE FROM rows":       {},
		"SELECTED":                               {},
		"TRUNCATE rows":                          {},
		"PRAGMA writable_schema = 1":             {},
		"COPY rows FROM PROGRAM 'x'":             {},
		"":                                       {},
		";":                                      {},
		"é":                                      {},
		"CALL f()":                               {},
		"DO $$ BEGIN DELETE FROM rows; END $$":   {},
		"MERGE INTO rows USING x ON true":        {},
		"CREATE TABLE copied AS SELECT 1":        {},
		"REPLACE INTO rows VALUES (1)":           {},
		"SELECT 1 FROM rows FOR UPDATE":          {query: true},
		"select 1 as a, ';' as b":                {},
		"SELECT into_date FROM rows":             {query: true},
		"\tRELEASE SAVEPOINT a":                  {control: true},
		"RESET ROLE":                             {control: true},
		"LOCK TABLE rows IN SHARE MODE":          {control: true},
		"SETTINGS":                               {},
		"COMMIT":                                 {},
		"ATTACH DATABASE 'x' AS y":               {},
		"SELECT 1 UNION SELECT 2 INTO copied":    {},
		"INSERT INTO rows SELECT 1 RETURNING id": {},
	} {
		if got := sqltext.IsControl(query); got != want.control {
			t.Errorf("%q: IsControl is %t", query, got)
		}
		if got := sqltext.IsQuery(query); got != want.query {
			t.Errorf("%q: IsQuery is %t", query, got)
		}
		if got := sqltext.IsWith(query); got != want.with {
			t.Errorf("%q: IsWith is %t", query, got)
		}
	}
}
