// Package movetrigger has the triggers that keep tokens with their tenant: a
// row can't move to another tenant with tokens that only the earlier tenant's
// keys open.
//
// The database can't recognize such tokens. So the triggers use the column's
// states in the table credent_states: while binding or tenants' keys are accept
// or above, tokens may depend on the tenant, and must change with it. In the
// column of a Bound field they always must.
package movetrigger

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/sqldialect"
	"github.com/credent-go/credent/internal/states"
)

// Taken replaces a token until the same transaction stores it again, after its
// row's tenant has changed. SQLite's trigger accepts it. It satisfies the CHECK
// for tokens, and no key opens it.
const Taken = "gAAAA"

// message is the database's error.
const message = "credent: the secrets of this row depend on %s and would be left behind: change it with a client or " +
	"credent account move, or store them again in the same transaction"

// Statements returns the statements that create the triggers of a table's
// encrypted columns, which must have the same tenant. SQLite needs the table
// credent_states for columns that aren't declared Bound; on Postgres it may be
// missing. It panics for a dialect other than Postgres and SQLite.
func Statements(d string, columns []column.Column) []string {
	if len(columns) == 0 {
		return nil
	}
	c := columns[0]
	var drops []string
	for earlier := range c.Earlier() { // a renamed table kept its trigger
		if earlier.Table == c.Table {
			continue
		}
		on := ""
		if d == dialect.Postgres {
			on = " ON " + c.Quoted()
		}
		drops = append(drops, "DROP TRIGGER IF EXISTS "+column.QuoteName(name(earlier))+on)
	}
	switch d {
	case dialect.Postgres:
		return append(drops, postgres(columns)...)
	case dialect.SQLite:
		return append(drops, sqlite(columns)...)
	}
	panic(fmt.Sprintf("encrypted: no triggers for dialect %q", d))
}

// namesOf returns the column's current and earlier names in the table of
// states, without schemas.
func namesOf(c column.Column) []string {
	names := []string{c.InSchema("").String()}
	for earlier := range c.Earlier() {
		names = append(names, earlier.InSchema("").String())
	}
	return names
}

// name returns the name of the table's trigger and its function.
func name(c column.Column) string {
	const maxName = 63 // length of a Postgres identifier, in bytes
	if plain := "credent_" + c.Table + "__" + c.Tenant + "_move"; len(plain) <= maxName &&
		!strings.ContainsAny(plain, "\"'$ ") {
		return plain
	}
	sum := sha256.Sum256([]byte(c.Table + "\x00" + c.Tenant))
	return "credent_move_" + hex.EncodeToString(sum[:16])
}

// postgres returns a constraint trigger that checks the row at the end of the
// transaction, so that a writer may change the tenant first and then store the
// secrets.
//
// Its function runs as its owner, from whom row-level security doesn't hide the
// row, and doesn't use the session's search_path. If there are several tables
// of states, it reads only those that the table's owner owns.
func postgres(columns []column.Column) []string {
	c := columns[0]
	q := column.QuoteName
	trigger := name(c)
	function := column.QuoteTable(c.Schema, trigger)
	var read, tests []string
	for i, c := range columns {
		read = append(read, fmt.Sprintf("t.%s::text", q(c.Name)))
		var names []string
		for _, name := range namesOf(c) {
			names = append(names, sqldialect.Literal(name), "TG_TABLE_SCHEMA || "+sqldialect.Literal("."+name))
		}
		held := fmt.Sprintf("ARRAY[%s]::text[] && held", strings.Join(names, ", "))
		if c.Bound {
			held = "true"
		}
		tests = append(tests, fmt.Sprintf(`tokens[%d] COLLATE "C" = OLD.%s::text AND (%s)`, i+1, q(c.Name), held))
	}
	body := fmt.Sprintf(`
-- credent: tokens follow their tenant
DECLARE
  states pg_catalog.regclass;
  names text[];
  held text[] := '{}';
  tenant text;
  tokens text[] := '{}';
BEGIN
  EXECUTE format(%[1]s, TG_RELID::regclass) INTO tenant, tokens USING NEW.%[2]s;
  IF tenant IS NULL OR tenant COLLATE "C" = OLD.%[3]s::text THEN
    RETURN NULL;
  END IF;
  FOR states IN SELECT s.oid FROM pg_class AS s JOIN pg_class AS t ON t.relowner = s.relowner
    WHERE t.oid = TG_RELID AND s.relname = '%[4]s' AND s.relkind = 'r' LOOP
    EXECUTE format('SELECT array_agg(column_name::text) FROM %%s WHERE protection IN (''binding'', ''tenant-keys'') AND state <> ''off''', states) INTO names;
    held := held || names;
  END LOOP;
  IF %[5]s THEN
    RAISE check_violation USING MESSAGE = %[6]s, TABLE = TG_TABLE_NAME, SCHEMA = TG_TABLE_SCHEMA, CONSTRAINT = TG_NAME;
  END IF;
  RETURN NULL;
END
`, sqldialect.Literal(fmt.Sprintf("SELECT t.%s::text, ARRAY[%s] FROM %%s AS t WHERE t.%s = $1", q(c.Tenant), strings.Join(read, ", "), q(c.Key()))),
		q(c.Key()), q(c.Tenant), states.TableName, strings.Join(tests, "\n    OR "),
		sqldialect.Literal(fmt.Sprintf(message, c.Tenant)))
	return []string{
		"CREATE OR REPLACE FUNCTION " + function + "() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET " +
			"search_path = pg_catalog, pg_temp AS $credent$" +
			body + "$credent$",
		"DROP TRIGGER IF EXISTS " + q(trigger) + " ON " + c.Quoted(),
		fmt.Sprintf("CREATE CONSTRAINT TRIGGER %s AFTER UPDATE ON %s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "+
			"WHEN (OLD.%s IS DISTINCT FROM NEW.%[3]s) EXECUTE FUNCTION %s()", q(trigger), c.Quoted(),
			q(c.Tenant), function),
	}
}

// sqlite returns a trigger that refuses at once, since SQLite has no triggers
// at the end of a transaction. It accepts [Taken].
func sqlite(columns []column.Column) []string {
	q := column.QuoteName
	c := columns[0]
	var tests []string
	for _, c := range columns {
		test := fmt.Sprintf("NEW.%s IS OLD.%[1]s COLLATE BINARY AND NEW.%[1]s <> '%s'", q(c.Name), Taken)
		if !c.Bound {
			var names []string
			for _, name := range namesOf(c) {
				names = append(names, sqldialect.Literal(name))
			}
			test += fmt.Sprintf("\n    AND EXISTS (SELECT 1 FROM %s WHERE column_name IN (%s) AND protection IN "+
				"('binding', 'tenant-keys') AND state <> 'off')", q(states.TableName), strings.Join(names, ", "))
		}
		tests = append(tests, test)
	}
	return []string{
		"DROP TRIGGER IF EXISTS " + q(name(c)),
		fmt.Sprintf("CREATE TRIGGER %s AFTER UPDATE OF %s ON %s\nWHEN NEW.%s IS NOT OLD.%[2]s COLLATE BINARY AND "+
			"(%[5]s)\nBEGIN\n  -- credent: tokens follow their tenant\n  SELECT RAISE(ABORT, %[6]s);\nEND",
			q(name(c)), q(c.Tenant), q(c.Table), q(c.Tenant), strings.Join(tests, "\n  OR "),
			sqldialect.Literal(fmt.Sprintf(message, c.Tenant))),
	}
}

// Table returns the statements that create the table of states, if it is
// missing, for schemas without Credent's migrations.
func Table(d string) []string {
	at := "datetime NOT NULL DEFAULT (CURRENT_TIMESTAMP)"
	if d == dialect.Postgres {
		at = "timestamp NOT NULL DEFAULT timezone('utc', clock_timestamp())"
	}
	return []string{`CREATE TABLE IF NOT EXISTS "` + states.TableName + `" (
  "column_name" varchar(255) NOT NULL,
  "protection" varchar(20) NOT NULL,
  "state" varchar(20) NOT NULL,
  "changed_at" ` + at + `,
  PRIMARY KEY ("column_name", "protection"),
  CONSTRAINT "credent_states_protection" CHECK ("protection" IN ('encryption', 'binding', 'tenant-keys')),
  CONSTRAINT "credent_states_state" CHECK ("state" IN ('off', 'accept', 'write', 'require'))
)`}
}
