package indextrigger_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib" // the database driver

	"github.com/credent-go/credent/internal/indextrigger"
	"github.com/credent-go/credent/internal/pgserver"
)

var server *pgserver.Server

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	var err error
	if server, err = pgserver.Start(context.Background(), pgserver.Shared()); err != nil {
		log.Print(err)
		return 1
	}
	defer func() { _ = server.Stop() }()
	return m.Run()
}

// postgres returns a session on a new database.
func postgres(t *testing.T) *sql.DB {
	t.Helper()
	url, drop, err := server.CreateDatabase(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = drop() })
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	return db
}

func exec(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, stmt := range statements {
		if _, err := db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatalf("%s: %v", stmt, err)
		}
	}
}

var vaults = indextrigger.Column{Table: "vaults", Token: "secret", Index: "secret_index"}

const columns = "(id int, secret varchar(500), secret_index bytea, other text)"

// shapes create a table vaults with its triggers, and name the table or view
// that the statements update.
var shapes = []struct {
	name, before, after, table string
	column                     indextrigger.Column
}{
	{name: "table", before: "CREATE TABLE vaults " + columns},
	{name: "unique", before: "CREATE TABLE vaults " + columns + "; CREATE UNIQUE INDEX ON vaults (secret_index)"},
	{
		name: "view", before: "CREATE TABLE vaults " + columns,
		after: "CREATE VIEW v AS SELECT * FROM vaults", table: "v",
	},
	{name: "partitioned", before: "CREATE TABLE vaults " + columns + " PARTITION BY HASH (id); " + partitions},
	{name: "partition by name", before: "CREATE TABLE vaults " + columns + " PARTITION BY RANGE (id); " +
		"CREATE TABLE part PARTITION OF vaults FOR VALUES FROM (0) TO (100)", table: "part"},
	{
		name: "partition that was attached",
		before: "CREATE TABLE vaults " + columns + " PARTITION BY RANGE (id); CREATE TABLE part (secret_index bytea, " +
			"gone int, secret varchar(500), other text, id int)",
		after: "ALTER TABLE part DROP COLUMN gone; ALTER TABLE vaults ATTACH PARTITION part FOR VALUES FROM (0) TO " +
			"(100)", table: "part",
	},
	{
		name: "renamed table", before: "CREATE TABLE vaults " + columns, after: "ALTER TABLE vaults RENAME TO safes",
		table: "safes",
	},
	{
		name: "renamed schema", before: "CREATE SCHEMA a; CREATE TABLE a.vaults " + columns,
		after: "ALTER SCHEMA a RENAME TO b", table: "b.vaults",
		column: indextrigger.Column{Schema: "a", Table: "vaults", Token: "secret", Index: "secret_index"},
	},
	{name: "wider column", before: "CREATE TABLE vaults " + columns, after: "ALTER TABLE vaults ALTER COLUMN secret " +
		"TYPE varchar(1000); ALTER TABLE vaults ALTER COLUMN secret TYPE text"},
	{name: "no case", before: "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = " +
		"false); CREATE TABLE vaults (id int, secret varchar(500) COLLATE nocase, secret_index bytea, other text)"},
	{name: "search_path of somebody", before: "CREATE TABLE vaults " + columns, after: evil, table: "public.vaults"},
	{name: "backslashes in strings", before: "SET standard_conforming_strings = off; CREATE TABLE vaults " + columns},
}

const (
	partitions = "CREATE TABLE p0 PARTITION OF vaults FOR VALUES WITH (MODULUS 2, REMAINDER 0); " +
		"CREATE TABLE p1 PARTITION OF vaults FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
	evil = "CREATE SCHEMA evil; CREATE DOMAIN evil.text AS varchar(1); " +
		"CREATE FUNCTION evil.decode(pg_catalog.text, pg_catalog.text) RETURNS bytea LANGUAGE sql AS 'SELECT " +
		"NULL::bytea'; CREATE FUNCTION evil.always(pg_catalog.text, pg_catalog.text) RETURNS bool LANGUAGE sql AS " +
		"'SELECT true'; CREATE FUNCTION evil.always(bytea, bytea) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE " +
		"FUNCTION evil.join(bytea, bytea) RETURNS bytea LANGUAGE sql AS 'SELECT $1'; CREATE OPERATOR evil.= (LEFTARG " +
		"= pg_catalog.text, RIGHTARG = pg_catalog.text, FUNCTION = evil.always); CREATE OPERATOR evil.= (LEFTARG = " +
		"bytea, RIGHTARG = bytea, FUNCTION = evil.always); CREATE OPERATOR evil.|| (LEFTARG = bytea, RIGHTARG = " +
		"bytea, FUNCTION = evil.join); SET search_path = evil, pg_catalog, public"
)

const absent = "<NULL>"

// cases are statements on a table in which row 1 has the token a and the digest
// A, and row 2 has b and B, with row 1's values afterwards.
var cases = []struct{ name, sql, token, digest string }{
	{"token only", "UPDATE {t} SET secret = 'x' WHERE id = 1", "x", absent},
	{"token by case only", "UPDATE {t} SET secret = 'A' WHERE id = 1", "A", absent},
	{"token to the same", "UPDATE {t} SET secret = 'a' WHERE id = 1", "a", "A"},
	{"both, other digest", "UPDATE {t} SET secret = 'x', secret_index = 'X' WHERE id = 1", "x", "X"},
	{"both, same digest", "UPDATE {t} SET secret = 'x', secret_index = 'A' WHERE id = 1", "x", "A"},
	{"both, digest to itself", "UPDATE {t} SET secret = 'x', secret_index = secret_index WHERE id = 1", "x", "A"},
	{"both, empty digest", "UPDATE {t} SET secret = 'x', secret_index = '' WHERE id = 1", "x", ""},
	{"empty digest to itself", "UPDATE {t} SET secret_index = '' WHERE id = 1; UPDATE {t} SET secret = 'x', " +
		"secret_index = '' WHERE id = 1", "x", ""},
	{"both, no digest", "UPDATE {t} SET secret = 'x', secret_index = NULL WHERE id = 1", "x", absent},
	{"digest only", "UPDATE {t} SET secret_index = 'X' WHERE id = 1", "a", "X"},
	{"digest only, to itself", "UPDATE {t} SET secret_index = 'A' WHERE id = 1", "a", "A"},
	{"neither", "UPDATE {t} SET other = 'o' WHERE id = 1", "a", "A"},
	{"token to NULL", "UPDATE {t} SET secret = NULL WHERE id = 1", absent, absent},
	{
		"token to NULL, digest to itself", "UPDATE {t} SET secret = NULL, secret_index = secret_index WHERE id = 1",
		absent, absent,
	},
	{
		"token to NULL, digest to another", "UPDATE {t} SET secret = NULL, secret_index = 'X' WHERE id = 1",
		absent, absent,
	},
	{"from NULL", "UPDATE {t} SET secret = NULL WHERE id = 1; UPDATE {t} SET secret = 'x' WHERE id = 1", "x", absent},
	{"from NULL, both", "UPDATE {t} SET secret = NULL WHERE id = 1; UPDATE {t} SET secret = 'x', secret_index = 'X' " +
		"WHERE id = 1", "x", "X"},
	{"token of many", "UPDATE {t} SET secret = secret || 'x'", "ax", absent},
	{
		"data-modifying CTE", "WITH u AS (UPDATE {t} SET secret = 'x' WHERE id = 1 RETURNING id) " +
			"SELECT count(*) FROM u",
		"x", absent,
	},
	{"update from", "UPDATE {t} v SET secret = s.v FROM (VALUES (1, 'x')) AS s(k, v) WHERE v.id = s.k", "x", absent},
	{"prepared", "PREPARE p AS UPDATE {t} SET secret = $1 WHERE id = $2; EXECUTE p ('x', 1)", "x", absent},
	{"cursor", "BEGIN; DECLARE c CURSOR FOR SELECT * FROM {t} WHERE id = 1 FOR UPDATE; FETCH c; UPDATE {t} SET " +
		"secret = 'x' WHERE CURRENT OF c; COMMIT", "x", absent},
}

// merges don't run on views, since Postgres 15 doesn't support MERGE on them.
var merges = []struct{ name, sql, token, digest string }{
	{"merge of the token", "MERGE INTO {t} v USING (VALUES (1, 'x')) AS s(k, v) ON v.id = s.k WHEN MATCHED THEN " +
		"UPDATE SET secret = s.v", "x", absent},
	{"merge of both", "MERGE INTO {t} v USING (VALUES (1, 'x')) AS s(k, v) ON v.id = s.k WHEN MATCHED THEN UPDATE " +
		"SET secret = s.v, secret_index = 'A'", "x", "A"},
	// A known limit, pinned here: the package comment explains it.
	{"merge of either", "MERGE INTO {t} v USING (VALUES (1, 'x')) AS s(k, v) ON v.id = s.k " +
		"WHEN MATCHED AND v.other IS NOT NULL THEN UPDATE SET secret_index = 'X' WHEN MATCHED THEN UPDATE SET secret " +
		"= s.v", "x", "A"},
}

var upserts = []struct{ name, sql, token, digest string }{
	{"upsert of the token", "INSERT INTO {t} (id, secret) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET secret = " +
		"excluded.secret", "x", absent},
	{"upsert of both", "INSERT INTO {t} (id, secret, secret_index) VALUES (1, 'x', 'A') ON CONFLICT (id) DO UPDATE " +
		"SET secret = excluded.secret, secret_index = excluded.secret_index", "x", "A"},
	{
		"upsert to NULL", "INSERT INTO {t} (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET secret = excluded.secret",
		absent, absent,
	},
	{"upsert of other", "INSERT INTO {t} (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET other = 'o'", "a", "A"},
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			db := postgres(t)
			table, column := s.table, s.column
			if table == "" {
				table = "vaults"
			}
			if column.Table == "" {
				column = vaults
			}
			exec(t, db, s.before)
			for range 2 {
				exec(t, db, indextrigger.Statements(dialect.Postgres, column)...)
			}
			exec(t, db, s.after)
			all := cases
			if s.name != "view" {
				all = append(all[:len(all):len(all)], merges...)
				exec(t, db, "CREATE UNIQUE INDEX by_id ON "+table+" (id)")
			} else {
				exec(t, db, "CREATE UNIQUE INDEX by_id ON vaults (id)")
			}
			for _, c := range append(all[:len(all):len(all)], upserts...) {
				if c.name == "cursor" && (s.name == "view" || s.name == "partitioned") {
					continue // Postgres has no such cursors
				}
				exec(t, db, "DELETE FROM "+table, "INSERT INTO "+table+" (id, secret, secret_index) VALUES (1, 'a', "+
					"'A'), (2, 'b', 'B')", strings.ReplaceAll(c.sql, "{t}", table))
				if c.name == "prepared" {
					exec(t, db, "DEALLOCATE p")
				}
				var got [2]string
				query := fmt.Sprintf("SELECT coalesce(secret, '%s'), coalesce(encode(secret_index, 'escape'), "+
					"'%[1]s') FROM %s WHERE id = 1", absent, table)
				query = strings.ReplaceAll(query, "encode", "pg_catalog.encode")
				if err := db.QueryRowContext(t.Context(), query).Scan(&got[0], &got[1]); err != nil {
					t.Fatal(err)
				}
				if want := [2]string{c.token, c.digest}; got != want {
					t.Errorf("%s: got %q, want %q", c.name, got, want)
				}
			}
		})
	}
}

// problems returns the problems that Compare finds, one per line.
func problems(t *testing.T, db *sql.DB, d string, columns ...indextrigger.Column) (lines []string) {
	t.Helper()
	found, err := indextrigger.Compare(t.Context(), db, d, columns)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		lines = append(lines, strings.TrimSuffix(fmt.Sprintf("%s of %s: %s: %s", p.Trigger, p.Table,
			[]string{"missing", "disabled", "changed"}[p.Kind], p.Detail), ": "))
	}
	return lines
}

// compareCases are changes to a table with triggers, and the problems that
// Compare finds. After running the problems' SQL it must find none.
var compareCases = []struct {
	name, sql string
	want      []string
}{
	{"nothing", "", nil},
	{"another table", "CREATE TABLE others " + columns, nil},
	{"dropped", `DROP TRIGGER "credent_vaults__secret_1" ON vaults`, []string{"credent_vaults__secret_1 of vaults: missing"}},
	{"all dropped", "DROP FUNCTION credent_vaults__secret CASCADE", []string{
		"credent_vaults__secret_1 of vaults: missing", "credent_vaults__secret_2 of vaults: missing",
	}},
	{
		"disabled", "ALTER TABLE vaults DISABLE TRIGGER credent_vaults__secret_2",
		[]string{"credent_vaults__secret_2 of vaults: disabled"},
	},
	{
		"for replicas only", "ALTER TABLE vaults ENABLE REPLICA TRIGGER credent_vaults__secret_1",
		[]string{"credent_vaults__secret_1 of vaults: disabled"},
	},
	{"always", "ALTER TABLE vaults ENABLE ALWAYS TRIGGER credent_vaults__secret_1", nil},
	{"another body", "CREATE OR REPLACE FUNCTION credent_vaults__secret() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN " +
		"RETURN NEW; END'", []string{
		"credent_vaults__secret_1 of vaults: changed: another body of function credent_vaults__secret()",
		"credent_vaults__secret_2 of vaults: changed: another body of function credent_vaults__secret()",
	}},
	{"as its owner", "ALTER FUNCTION credent_vaults__secret() SECURITY DEFINER", []string{
		"credent_vaults__secret_1 of vaults: changed: another definition", "credent_vaults__secret_2 of vaults: " +
			"changed: another definition",
	}},
	{
		"with a condition", "DROP TRIGGER credent_vaults__secret_2 ON vaults; " +
			"CREATE TRIGGER credent_vaults__secret_2 BEFORE UPDATE ON vaults FOR EACH ROW " +
			"WHEN (NEW.other <> 'o') EXECUTE FUNCTION credent_vaults__secret('clear')",
		[]string{
			"credent_vaults__secret_2 of vaults: changed: another definition",
		},
	},
	{
		"after", "DROP TRIGGER credent_vaults__secret_2 ON vaults; " +
			"CREATE TRIGGER credent_vaults__secret_2 AFTER UPDATE ON vaults FOR EACH ROW " +
			"EXECUTE FUNCTION credent_vaults__secret('clear')",
		[]string{"credent_vaults__secret_2 of vaults: changed: another definition"},
	},
	{"wrong order", "ALTER TRIGGER credent_vaults__secret_1 ON vaults RENAME TO last", []string{
		"credent_vaults__secret_2 of vaults: changed: Postgres calls it before last",
	}},
	{"renamed", "ALTER TRIGGER credent_vaults__secret_2 ON vaults RENAME TO last", nil},
	{"no such table", "DROP TABLE vaults", nil},
	{
		"no such column", "DROP TRIGGER credent_vaults__secret_1 ON vaults; " +
			"ALTER TABLE vaults DROP COLUMN secret_index",
		nil,
	},
	{"child", "CREATE TABLE child (more int) INHERITS (vaults); CREATE TABLE grandchild () INHERITS (child)", []string{
		"credent_child__secret_1 of child: missing", "credent_child__secret_2 of child: missing",
		"credent_grandchild__secret_1 of grandchild: missing", "credent_grandchild__secret_2 of grandchild: missing",
	}},
}

func TestCompare(t *testing.T) {
	t.Parallel()
	for _, c := range compareCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db := postgres(t)
			exec(t, db, "CREATE TABLE vaults "+columns)
			exec(t, db, indextrigger.Statements(dialect.Postgres, vaults)...)
			exec(t, db, c.sql)
			if diff := cmp.Diff(c.want, problems(t, db, dialect.Postgres, vaults)); diff != "" {
				t.Error(diff)
			}
			mend(t, db, dialect.Postgres, vaults)
		})
	}
}

// mend runs the SQL of all problems, and compares again.
func mend(t *testing.T, db *sql.DB, d string, columns ...indextrigger.Column) {
	t.Helper()
	for range 2 { // the first run leaves triggers with other names obsolete
		obsolete, err := indextrigger.Obsolete(t.Context(), db, d, columns, columns)
		if err != nil {
			t.Fatal(err)
		}
		exec(t, db, obsolete...)
		found, err := indextrigger.Compare(t.Context(), db, d, columns)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range found {
			exec(t, db, p.SQL...)
		}
	}
	if lines := problems(t, db, d, columns...); len(lines) > 0 {
		t.Errorf("after running the SQL: %q", lines)
	}
}

// A partition has its table's triggers, which can be disabled in it.
func TestComparePartitions(t *testing.T) {
	t.Parallel()
	db := postgres(t)
	exec(t, db, "CREATE SCHEMA a", "CREATE TABLE a.vaults "+columns+" PARTITION BY HASH (id)",
		strings.ReplaceAll(strings.ReplaceAll(partitions, "OF vaults", "OF a.vaults"), "TABLE p", "TABLE public.p"))
	column := vaults
	column.Schema = "a"
	if diff := cmp.Diff([]string{"credent_vaults__secret_1 of vaults: missing", "credent_vaults__secret_2 of vaults: " +
		"missing"},
		problems(t, db, dialect.Postgres, column)); diff != "" {
		t.Error(diff)
	}
	if got := problems(t, db, dialect.Postgres, vaults); got != nil {
		t.Errorf("a table that search_path doesn't find: %q", got)
	}
	exec(t, db, indextrigger.Statements(dialect.Postgres, column)...)
	exec(t, db, "CREATE TABLE p2 "+strings.Replace(columns, "id int", "id int, CHECK (id > 0)", 1))
	exec(t, db, "ALTER TABLE p1 DISABLE TRIGGER ALL")
	if diff := cmp.Diff([]string{
		"credent_vaults__secret_1 of p1: disabled",
		"credent_vaults__secret_2 of p1: disabled",
	},
		problems(t, db, dialect.Postgres, column)); diff != "" {
		t.Error(diff)
	}
	mend(t, db, dialect.Postgres, column)
}

// A renamed column's trigger fails every update, and Obsolete drops it.
func TestObsolete(t *testing.T) {
	t.Parallel()
	db := postgres(t)
	exec(t, db, "CREATE TABLE vaults "+columns)
	exec(t, db, indextrigger.Statements(dialect.Postgres, vaults)...)
	exec(t, db, "CREATE TRIGGER theirs BEFORE UPDATE ON vaults FOR EACH ROW EXECUTE FUNCTION "+
		"suppress_redundant_updates_trigger()",
		"ALTER TABLE vaults RENAME secret TO hidden", "INSERT INTO vaults VALUES (1, 'a', 'A')")
	if _, err := db.ExecContext(t.Context(), "UPDATE vaults SET hidden = 'x'"); err == nil {
		t.Error("an update under another name of the column went through")
	}
	renamed := vaults
	renamed.Token = "hidden"
	drops, err := indextrigger.Obsolete(t.Context(), db, dialect.Postgres, []indextrigger.Column{{Table: "vaults"}},
		[]indextrigger.Column{renamed})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		`DROP TRIGGER IF EXISTS "credent_vaults__secret_1" ON "vaults"`, `DROP TRIGGER IF EXISTS "credent_vaults__secret_2" ON "vaults"`,
		`DROP FUNCTION IF EXISTS "credent_vaults__secret"()`,
	}, drops); diff != "" {
		t.Error(diff)
	}
	exec(t, db, drops...)
	mend(t, db, dialect.Postgres, renamed)
	exec(t, db, "UPDATE vaults SET hidden = 'x'")
}

// Names fit Postgres' limit, and no two columns have the same name.
func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("table_of_things_", 4)
	seen := make(map[string]string)
	db := postgres(t)
	for _, table := range []string{"a", "a_b", "a__b", "a_", "_a", "A", `a"b`, "a$credent$b", "a b", "ä", long, long + "x", "new", "order"} {
		exec(t, db, "SET client_min_messages = error", "CREATE TABLE "+quoted(table)+" (id int)")
		for _, token := range []string{"c", "b_c", "b__c", "_c", "c_", "c_1", "C", `c"d`, "c$credent$d", "c\\d", "ç", long[:59], "new", "old"} {
			c := indextrigger.Column{Table: table, Token: token, Index: token + "_i"}
			exec(t, db, "ALTER TABLE "+quoted(table)+" ADD COLUMN "+quoted(token)+" text, ADD COLUMN "+
				quoted(c.Index)+" bytea")
			exec(t, db, indextrigger.Statements(dialect.Postgres, c)...)
			for _, stmt := range indextrigger.Statements(dialect.Postgres, c) {
				name, isFunction := strings.CutPrefix(stmt, "CREATE OR REPLACE FUNCTION ")
				if !isFunction {
					continue
				}
				name, _, _ = strings.Cut(name, "(")
				if other, ok := seen[name]; ok || len(name) > 63 {
					t.Errorf("%s.%s: %s, as %s", table, token, name, other)
				}
				seen[name] = table + "." + token
			}
			if table != long && table != long+"x" { // truncated by Postgres
				if got := problems(t, db, dialect.Postgres, c); got != nil {
					t.Errorf("%s.%s: %q", table, token, got)
				}
			}
		}
		if table == long {
			exec(t, db, "DROP TABLE "+quoted(table))
			continue
		}
		exec(t, db, "INSERT INTO "+quoted(table)+` (id, c, c_i) VALUES (1, 'a', 'A')`, "UPDATE "+quoted(table)+" SET c = 'x'")
		var n int
		if err := db.QueryRowContext(t.Context(), "SELECT count(c_i) FROM "+quoted(table)).
			Scan(&n); err != nil || n != 0 {
			t.Errorf("%s: %d, %v", table, n, err)
		}
	}
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
