package indextrigger

import (
	"fmt"

	"entgo.io/ent/dialect"
)

// sqliteTrigger returns the statement that creates a trigger.
//
// A SQLite trigger can't assign to NEW, and can't see which columns a statement
// sets. The first trigger updates the row before the statement does, so a
// digest that the statement sets comes later and wins. If the statement sets
// none, SQLite reads the columns that it doesn't set again after BEFORE
// triggers (update.c), and finds NULL. SQLite's manual calls the result of such
// an update undefined, so the package's tests pin it for every form of
// statement, with the drivers modernc.org/sqlite and
// github.com/mattn/go-sqlite3.
//
// AFTER triggers alone would be defined, but worse. One would clear the digest,
// and another, UPDATE OF the digest, would write it again, in an order that
// SQLite doesn't define. In the wrong order each re-encryption would lose its
// digest, and RETURNING would show a digest that is gone.
//
// The second trigger is for statements that set the token to NULL and the
// digest to a value.
func sqliteTrigger(c Column, name string, s step) string {
	token, index, table := quote(c.Token), quote(c.Index), c.table(dialect.SQLite)
	event := "BEFORE UPDATE OF " + token
	when := fmt.Sprintf("OLD.%s IS NOT NULL AND NEW.%s IS NOT OLD.%[2]s COLLATE BINARY", index, token)
	row := "OLD"
	if s == second {
		event = fmt.Sprintf("AFTER UPDATE OF %s, %s", token, index)
		when = fmt.Sprintf("NEW.%s IS NULL AND NEW.%s IS NOT NULL", token, index)
		row = "NEW"
	}
	return fmt.Sprintf("CREATE TRIGGER %s %s ON %s\nWHEN %s\nBEGIN\n  -- %s\n  UPDATE %[3]s SET %[6]s = NULL WHERE "+
		"%[7]s IS %[8]s.%[7]s;\nEND", quote(name), event, table, when, marker, index, quote(c.key()), row)
}

func sqliteDrop(name string) string { return "DROP TRIGGER IF EXISTS " + quote(name) }
