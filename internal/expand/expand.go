// Package expand makes the SQL that turns a plaintext column of any type into
// an encrypted one: it adds a column for tokens, which rotate.Encrypt fills
// while services write plaintext, and swaps the two once it is full.
//
// A cast can't do that. Postgres casts bytes to `\xff00` and times to its own
// format, and the original type would be lost.
package expand

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// suffix follows the plaintext column's name in the name of the column for
// tokens.
const suffix = "_encrypted"

// Tokens returns the name of the column for a plaintext column's tokens.
func Tokens(name string) string { return name + suffix }

// Plaintext returns the name of the plaintext column for a column that is named
// like one for tokens.
func Plaintext(tokens string) (name string, ok bool) { return strings.CutSuffix(tokens, suffix) }

// maxName is the length of an identifier on Postgres, in bytes.
const maxName = 63

// CheckName returns an error if Postgres would truncate the name of the column
// for tokens.
func CheckName(name string) error {
	if len(Tokens(name)) > maxName {
		return fmt.Errorf("the name %q is longer than the %d bytes that Postgres allows", Tokens(name), maxName)
	}
	return nil
}

// Columns returns the statements that add a column for tokens. When a writer
// changes the plaintext, a trigger sets the token to NULL, so that an old token
// can't be taken for the new value.
func Columns(d string, c column.Column) []string {
	c = in(d, c)
	statements := []string{fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s varchar(%d) NULL", c.Quoted(), tokens(c), c.Size)}
	if d == dialect.Postgres {
		return append(statements, function(c), fmt.Sprintf(
			"CREATE TRIGGER %s BEFORE UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION %s()",
			quote(trigger(c)), c.Quoted(), column.QuoteTable(c.Schema, trigger(c))))
	}
	return append(statements, fmt.Sprintf(
		"CREATE TRIGGER %s AFTER UPDATE OF %s ON %s\nWHEN %s\nBEGIN\n  UPDATE %s SET %s = NULL WHERE %s IS "+
			"NEW.%[7]s;\nEND",
		quote(trigger(c)), quote(c.Name), c.Quoted(), sqliteChanged(c), c.Quoted(), tokens(c), quote(c.Key())))
}

// sqliteChanged returns a condition that is true if the plaintext's value or
// type changed.
func sqliteChanged(c column.Column) string {
	return fmt.Sprintf("NEW.%s IS NOT OLD.%[1]s OR typeof(NEW.%[1]s) IS NOT typeof(OLD.%[1]s)", quote(c.Name))
}

// function returns the statement that creates a trigger's function. It names
// every operator's schema, so that it doesn't depend on search_path.
func function(c column.Column) string {
	return "CREATE OR REPLACE FUNCTION " + column.QuoteTable(c.Schema, trigger(c)) +
		"() RETURNS trigger LANGUAGE plpgsql AS $credent$" +
		strings.NewReplacer("{plaintext}", quote(c.Name), "{tokens}", tokens(c)).Replace(`
BEGIN
  IF NOT COALESCE(NEW.{plaintext}::pg_catalog.text COLLATE pg_catalog."C" OPERATOR(pg_catalog.=) OLD.{plaintext}::pg_catalog.text,
      NEW.{plaintext} IS NULL AND OLD.{plaintext} IS NULL) THEN
    NEW.{tokens} := NULL;
  END IF;
  RETURN NEW;
END
`) + "$credent$"
}

// Swap returns the statements that drop the plaintext column and rename the
// column for tokens to its name. They fail first if a row has plaintext without
// a token.
func Swap(d string, c column.Column) []string {
	c = in(d, c)
	var statements []string
	left := fmt.Sprintf("%s IS NOT NULL AND %s IS NULL", quote(c.Name), tokens(c))
	if d == dialect.Postgres {
		statements = []string{
			fmt.Sprintf("DO $credent$\nBEGIN\n  LOCK TABLE %s IN ACCESS EXCLUSIVE MODE;\n"+
				"  IF EXISTS (SELECT FROM %[1]s WHERE %s) THEN\n    RAISE EXCEPTION '%s';\n  END IF;\nEND\n$credent$",
				c.Quoted(), left, strings.NewReplacer("'", "''", "%", "%%").Replace(advice(c))),
			fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", quote(trigger(c)), c.Quoted()),
			fmt.Sprintf("DROP FUNCTION IF EXISTS %s()", column.QuoteTable(c.Schema, trigger(c))),
		}
	} else {
		guard := quote(trigger(c))
		statements = []string{
			fmt.Sprintf("CREATE TABLE %s (n integer CONSTRAINT %s CHECK (n = 0))", guard, quote(advice(c))),
			fmt.Sprintf("INSERT INTO %s SELECT count(*) FROM %s WHERE %s", guard, c.Quoted(), left),
			"DROP TABLE " + guard,
			"DROP TRIGGER IF EXISTS " + quote(trigger(c)),
		}
	}
	return append(statements,
		fmt.Sprintf("ALTER TABLE %s DROP COLUMN %s", c.Quoted(), quote(c.Name)),
		fmt.Sprintf("ALTER TABLE %s RENAME COLUMN %s TO %s", c.Quoted(), tokens(c), quote(c.Name)))
}

// Undo returns the statements that drop the column for tokens.
func Undo(d string, c column.Column) []string {
	c = in(d, c)
	drop := fmt.Sprintf("ALTER TABLE %s DROP COLUMN %s", c.Quoted(), tokens(c))
	if d == dialect.Postgres {
		return []string{
			fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", quote(trigger(c)), c.Quoted()),
			fmt.Sprintf("DROP FUNCTION IF EXISTS %s()", column.QuoteTable(c.Schema, trigger(c))), drop,
		}
	}
	return []string{"DROP TRIGGER IF EXISTS " + quote(trigger(c)), drop}
}

func advice(c column.Column) string {
	return fmt.Sprintf("rows of %s are not encrypted yet: run rotate.Encrypt (credent encrypt), then apply this file "+
		"again", c)
}

// trigger returns the name of the column's trigger and its function.
func trigger(c column.Column) string {
	name := "credent_plain_" + c.Table + "__" + c.Name
	if len(name) > maxName {
		sum := sha256.Sum256([]byte(c.Table + "\x00" + c.Name))
		name = "credent_plain_" + hex.EncodeToString(sum[:16])
	}
	return name
}

// in omits the schema except on Postgres, like ent.
func in(d string, c column.Column) column.Column {
	if d != dialect.Postgres {
		c.Schema = ""
	}
	return c
}

func tokens(c column.Column) string { return quote(Tokens(c.Name)) }

func quote(name string) string { return column.QuoteName(name) }

var newline = regexp.MustCompile(`\s*\n\s*`)

// Script returns statements in one line.
func Script(statements []string) string {
	return newline.ReplaceAllString(strings.Join(statements, "; ")+";", " ")
}
