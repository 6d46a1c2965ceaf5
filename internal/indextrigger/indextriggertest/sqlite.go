// Package indextriggertest has the tests of SQLite's triggers that each SQLite
// driver must pass. Some drivers are dependencies of other modules only.
package indextriggertest

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/indextrigger"
)

// shape is a table in which the rules must hold.
type shape struct {
	name   string
	column indextrigger.Column
	create string // with {table}, {key}, {token} and {index}
	pragma string
}

var plain = indextrigger.Column{Table: "vaults", Token: "secret", Index: "secret_index"}

var shapes = []shape{
	{name: "rowid", column: plain, create: `CREATE TABLE {table} ({key} INTEGER PRIMARY KEY, {token} varchar(500), {index} blob, other text)`},
	{name: "text key", column: plain, create: `CREATE TABLE {table} ({key} uuid NOT NULL PRIMARY KEY, {token} varchar(500), {index} blob, other text)`},
	{name: "without rowid", column: plain, create: `CREATE TABLE {table} ({key} text NOT NULL PRIMARY KEY, {token} varchar(500), {index} blob, other text) WITHOUT ROWID`},
	{
		name:   "indexes",
		column: plain,
		create: `CREATE TABLE {table} (other text, {index} blob, {token} varchar(500), {key} text PRIMARY KEY); ` +
			`CREATE UNIQUE INDEX vaults_index ON {table} ({index}); CREATE INDEX both ON {table} ({token}, {index}, other)`,
	},
	{
		name:   "unique in WITHOUT ROWID",
		column: plain,
		create: `CREATE TABLE {table} (other text, {index} blob UNIQUE, {token} varchar(500) UNIQUE, {key} text PRIMARY KEY) WITHOUT ROWID`,
	},
	{name: "no case", column: plain, create: `CREATE TABLE {table} ({key} INTEGER PRIMARY KEY, {token} varchar(500) COLLATE NOCASE, {index} blob, other text)`},
	{
		name: "recursive triggers", column: plain, pragma: "PRAGMA recursive_triggers = on",
		create: `CREATE TABLE {table} ({key} INTEGER PRIMARY KEY, {token} varchar(500), {index} blob, other text)`,
	},
	{
		name:   "another trigger",
		column: plain,
		create: `CREATE TABLE {table} ({key} INTEGER PRIMARY KEY, {token} varchar(500), {index} blob, other text, touched int DEFAULT 0); ` +
			`CREATE TRIGGER touch AFTER UPDATE ON {table} BEGIN UPDATE {table} SET touched = touched + 1 WHERE {key} = NEW.{key}; END`,
	},
	{
		name:   "generated column",
		column: plain,
		create: `CREATE TABLE {table} ({key} INTEGER PRIMARY KEY, {token} varchar(500), {index} blob, other text, ` +
			`indexed GENERATED ALWAYS AS ({index} IS NOT NULL) STORED); CREATE INDEX of_generated ON {table} (indexed)`,
	},
	{
		name:   "quoted names",
		column: indextrigger.Column{Table: `my "vaults"; --`, Token: "the `secret`, 'now'", Index: `select "index"`, Key: `a "key" b`},
		create: `CREATE TABLE {table} ({key} INTEGER PRIMARY KEY, {token} varchar(500), {index} blob, other text)`,
	},
	{
		name:   "keyword names",
		column: indextrigger.Column{Table: "order", Token: "new", Index: "old", Key: "rowid_"},
		create: `CREATE TABLE {table} ({key} text PRIMARY KEY, {token} varchar(500), {index} blob, other text)`,
	},
}

const absent = "<NULL>"

// cases are statements about a table in which row 1 has the token a and the
// digest A, and row 2 has b and B; and what row 1 has then.
var cases = []struct {
	name, sql     string
	token, digest string
}{
	{"token only", "UPDATE {table} SET {token} = 'x' WHERE {key} = 1", "x", absent},
	{"token by case only", "UPDATE {table} SET {token} = 'A' WHERE {key} = 1", "A", absent},
	{"token to the same", "UPDATE {table} SET {token} = 'a' WHERE {key} = 1", "a", "A"},
	{"token to itself", "UPDATE {table} SET {token} = {token} WHERE {key} = 1", "a", "A"},
	{"token by digest", "UPDATE {table} SET {token} = 'x' WHERE {index} = 'A'", "x", absent},
	{"token and other", "UPDATE {table} SET other = 'o', {token} = 'x' WHERE {key} = 1", "x", absent},
	{"both, other digest", "UPDATE {table} SET {token} = 'x', {index} = 'X' WHERE {key} = 1", "x", "X"},
	{"both, same digest", "UPDATE {table} SET {token} = 'x', {index} = 'A' WHERE {key} = 1", "x", "A"},
	{"both, digest to itself", "UPDATE {table} SET {index} = {index}, {token} = 'x' WHERE {key} = 1", "x", "A"},
	{"both, in a row value", "UPDATE {table} SET ({token}, {index}) = ('x', 'A') WHERE {key} = 1", "x", "A"},
	{"both, no digest", "UPDATE {table} SET {token} = 'x', {index} = NULL WHERE {key} = 1", "x", absent},
	{"digest only", "UPDATE {table} SET {index} = 'X' WHERE {key} = 1", "a", "X"},
	{"no digest only", "UPDATE {table} SET {index} = NULL WHERE {key} = 1", "a", absent},
	{"neither", "UPDATE {table} SET other = 'o' WHERE {key} = 1", "a", "A"},
	{"token to NULL", "UPDATE {table} SET {token} = NULL WHERE {key} = 1", absent, absent},
	{
		"token to NULL, digest to itself", "UPDATE {table} SET {token} = NULL, {index} = {index} WHERE {key} = 1",
		absent, absent,
	},
	{
		"token to NULL, digest to another", "UPDATE {table} SET {token} = NULL, {index} = 'X' WHERE {key} = 1",
		absent, absent,
	},
	{"from NULL", "UPDATE {table} SET {token} = NULL, {index} = NULL WHERE {key} = 1; UPDATE {table} SET {token} = " +
		"'x' WHERE {key} = 1", "x", absent},
	{"from NULL, both", "UPDATE {table} SET {token} = NULL WHERE {key} = 1; UPDATE {table} SET {token} = 'x', " +
		"{index} = 'X' WHERE {key} = 1", "x", "X"},
	{"token and key", "UPDATE {table} SET {key} = 3, {token} = 'x' WHERE {key} = 1; UPDATE {table} SET {key} = 1 " +
		"WHERE {key} = 3", "x", absent},
	{"both and key", "UPDATE {table} SET {key} = 3, {token} = 'x', {index} = 'A' WHERE {key} = 1; UPDATE {table} SET " +
		"{key} = 1 WHERE {key} = 3", "x", "A"},
	{"token to NULL, digest and key", "UPDATE {table} SET {key} = 3, {token} = NULL, {index} = 'X' WHERE {key} = 1; " +
		"UPDATE {table} SET {key} = 1 WHERE {key} = 3", absent, absent},
	{
		"token of many", "UPDATE {table} SET {token} = {token} || 'x' WHERE {key} IN (1, 2) AND {index} IS NOT NULL",
		"ax", absent,
	},
	{"both of many", "UPDATE {table} SET {token} = {token} || 'x', {index} = {index}", "ax", "A"},
	{"token of some", "UPDATE {table} SET {token} = CASE {key} WHEN 1 THEN {token} ELSE 'x' END", "a", "A"},
	{
		"from a table", "UPDATE {table} SET {token} = s.v FROM (SELECT 1 AS k, 'x' AS v) AS s WHERE {key} = s.k", "x",
		absent,
	},
	{
		"in a CTE", "WITH s(v) AS (SELECT 'x') UPDATE {table} SET {token} = (SELECT v FROM s) WHERE {key} = 1", "x",
		absent,
	},
	{"upsert of the token", "INSERT INTO {table} ({key}, {token}) VALUES (1, 'x') ON CONFLICT ({key}) DO UPDATE SET " +
		"{token} = excluded.{token}", "x", absent},
	{"upsert of both", "INSERT INTO {table} ({key}, {token}, {index}) VALUES (1, 'x', 'X') ON CONFLICT ({key}) DO " +
		"UPDATE SET {token} = excluded.{token}, {index} = excluded.{index}", "x", "X"},
	{"upsert of both, same digest", "INSERT INTO {table} ({key}, {token}) VALUES (1, 'x') ON CONFLICT ({key}) DO " +
		"UPDATE SET {token} = excluded.{token}, {index} = 'A'", "x", "A"},
	{"upsert of the digest", "INSERT INTO {table} ({key}, {token}, {index}) VALUES (1, 'x', 'X') ON CONFLICT ({key}) " +
		"DO UPDATE SET {index} = excluded.{index}", "a", "X"},
	{"upsert of other", "INSERT INTO {table} ({key}, {token}) VALUES (1, 'x') ON CONFLICT ({key}) DO UPDATE SET " +
		"other = 'o'", "a", "A"},
	{"upsert to NULL", "INSERT INTO {table} ({key}) VALUES (1) ON CONFLICT ({key}) DO UPDATE SET {token} = " +
		"excluded.{token}", absent, absent},
	{"upsert to NULL, digest to another", "INSERT INTO {table} ({key}) VALUES (1) ON CONFLICT ({key}) DO UPDATE SET " +
		"{token} = NULL, {index} = 'X'", absent, absent},
	{"upsert of many", "INSERT INTO {table} ({key}, {token}) VALUES (1, 'x'), (2, 'y'), (3, 'z') ON CONFLICT ({key}) " +
		"DO UPDATE SET {token} = excluded.{token}", "x", absent},
	{
		"upsert that does nothing", "INSERT INTO {table} ({key}, {token}) VALUES (1, 'x') ON CONFLICT ({key}) DO " +
			"NOTHING",
		"a", "A",
	},
	{"replace", "REPLACE INTO {table} ({key}, {token}) VALUES (1, 'x')", "x", absent},
	{"replace both", "INSERT OR REPLACE INTO {table} ({key}, {token}, {index}) VALUES (1, 'x', 'A')", "x", "A"},
	{"update or replace", "UPDATE OR REPLACE {table} SET {key} = 1, {token} = 'x' WHERE {key} = 2", "x", absent},
	{
		"update or replace both", "UPDATE OR REPLACE {table} SET {key} = 1, {token} = 'x', {index} = 'B' WHERE {key} " +
			"= 2",
		"x", "B",
	},
	{"update or ignore", "UPDATE OR IGNORE {table} SET {token} = 'x', {key} = {key} WHERE {key} = 1", "x", absent},
	{"through a view", `CREATE TRIGGER on_v INSTEAD OF UPDATE ON v BEGIN UPDATE {table} SET {token} = NEW.{token} WHERE {key} = NEW.{key}; END; ` +
		`UPDATE v SET {token} = 'x' WHERE {key} = 1`, "x", absent},
}

// SQLite runs every statement on a table of every shape, in a database of its
// own which open makes.
func SQLite(t *testing.T, open func(t *testing.T) *sql.DB) {
	t.Helper()
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range cases {
				db := open(t)
				db.SetMaxOpenConns(1)
				run := func(query string) {
					t.Helper()
					if _, err := db.ExecContext(t.Context(), s.fill(query)); err != nil {
						t.Fatalf("%s: %s: %v", c.name, s.fill(query), err)
					}
				}
				if s.pragma != "" {
					run(s.pragma)
				}
				run(s.create)
				run("CREATE VIEW v AS SELECT * FROM {table}")
				run("INSERT INTO {table} ({key}, {token}, {index}) VALUES (1, 'a', 'A'), (2, 'b', 'B')")
				for range 2 {
					for _, stmt := range indextrigger.Statements(dialect.SQLite, s.column) {
						if _, err := db.ExecContext(t.Context(), stmt); err != nil {
							t.Fatalf("%s: %v", stmt, err)
						}
					}
				}
				run(c.sql)
				if got, want := s.read(t, db, 1), [2]string{c.token, c.digest}; got != want {
					t.Errorf("%s: got %q, want %q", c.name, got, want)
				}
				s.checkOthers(t, c.name, db)
			}
		})
	}
	t.Run("returning", func(t *testing.T) {
		t.Parallel()
		db := open(t)
		db.SetMaxOpenConns(1)
		for _, stmt := range append([]string{
			"CREATE TABLE vaults (id INTEGER PRIMARY KEY, secret text, secret_index blob)",
			"INSERT INTO vaults VALUES (1, 'a', 'A')",
		}, indextrigger.Statements(dialect.SQLite, plain)...) {
			if _, err := db.ExecContext(t.Context(), stmt); err != nil {
				t.Fatalf("%s: %v", stmt, err)
			}
		}
		var digest sql.NullString
		err := db.QueryRowContext(t.Context(), "UPDATE vaults SET secret = 'x' RETURNING secret_index").Scan(&digest)
		if err != nil || digest.Valid {
			t.Errorf("got %v, %v", digest, err)
		}
	})
}

// fill puts the names of a shape into a statement.
func (s shape) fill(query string) string {
	quote := func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
	key := s.column.Key
	if key == "" {
		key = "id"
	}
	return strings.NewReplacer("{table}", quote(s.column.Table), "{key}", quote(key),
		"{token}", quote(s.column.Token), "{index}", quote(s.column.Index)).Replace(query)
}

// read returns the token and the digest of a row.
func (s shape) read(t *testing.T, db *sql.DB, key int) (row [2]string) {
	t.Helper()
	query := s.fill(fmt.Sprintf("SELECT coalesce({token}, '%s'), coalesce({index}, '%[1]s') FROM {table} WHERE {key} "+
		"= %d", absent, key))
	if err := db.QueryRowContext(t.Context(), query).Scan(&row[0], &row[1]); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return row
}

// checkOthers makes sure that the other row doesn't keep the digest of a token
// that changed, and that the indexes have what the table has.
func (s shape) checkOthers(t *testing.T, name string, db *sql.DB) {
	t.Helper()
	var n int
	query := s.fill("SELECT count(*) FROM {table} WHERE {key} = 2 AND {token} <> 'b' AND {index} IS NOT NULL")
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil || n != 0 && name != "both of many" {
		t.Errorf("%s: the other row keeps the digest of another token: %d, %v", name, n, err)
	}
	var result string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&result); err != nil || result != "ok" {
		t.Errorf("%s: %s, %v", name, result, err)
	}
}
