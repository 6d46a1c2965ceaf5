package migrate

import (
	"regexp"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/schema"
	"ariga.io/atlas/sql/sqlcheck"
	"entgo.io/ent/dialect"
	entschema "entgo.io/ent/dialect/sql/schema"

	entmigrate "github.com/credent-go/credent/ent/migrate"
	"github.com/credent-go/credent/internal/expand"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// tokenPrefix is the start of every token, which an encrypted column's CHECK
// tests.
const tokenPrefix = "gAAAA"

// findEncryptedColumn finds changes that endanger encrypted columns' tokens.
func findEncryptedColumn(file *sqlcheck.File) (found []sqlcheck.Diagnostic) {
	eachColumn(file, func(stmt *migrate.Stmt, table *schema.Table, change schema.Change) {
		switch c := change.(type) {
		case *schema.DropColumn:
			if isEncrypted(file, table, c.C) && !isSwapped(file, table, c.C.Name) &&
				file.ColumnSpan(table, c.C) != sqlcheck.SpanTemporary {
				found = append(found, finding(codeDropEncrypted, stmt, "encrypted column %q is dropped, and no "+
					"backup of the key brings it back", c.C.Name))
			}
		case *schema.ModifyColumn:
			if isEncrypted(file, table, c.From) {
				found = append(found, findRetyped(stmt, c)...)
			}
		case *schema.AddIndex:
			found = append(found, findIndexed(file, stmt, table, c.I)...)
		}
	})
	for _, change := range file.Changes {
		for _, c := range change.Changes {
			if add, ok := c.(*schema.AddTable); ok {
				for _, index := range add.T.Indexes {
					found = append(found, findIndexed(file, change.Stmt, add.T, index)...)
				}
			}
		}
	}
	return slices.Concat(found, findUnchecked(file), findRenamed(file), findCasts(file))
}

// findCasts finds columns that are plaintext of another type than text before
// the file and encrypted after it, without the token column that [Diff] adds.
// It compares the two states, because SQLite requires a new table for such a
// change.
func findCasts(file *sqlcheck.File) (found []sqlcheck.Diagnostic) {
	for _, s := range file.From.Schemas {
		for _, before := range s.Tables {
			after := tableIn(file.To, before)
			if after == nil {
				continue
			}
			for _, c := range before.Columns {
				now, ok := after.Column(c.Name)
				if !ok || isTextColumn(c) || !isTextColumn(now) || isSwapped(file, before, c.Name) ||
					!isDeclaredEncrypted(before.Name, c.Name) && !hasTokenCheck(after, c.Name) {
					continue
				}
				found = append(found, finding(codeCast, firstWith(file, c.Name, before.Name),
					"plaintext column %q is cast from %s to text, "+
						"and nothing can tell afterwards what it was: let migrate.Diff write the two files that "+
						"convert it", c.Name, typeOf(c)))
			}
		}
	}
	return found
}

// isSwapped reports whether a file puts the token column in a plaintext
// column's place.
func isSwapped(file *sqlcheck.File, table *schema.Table, name string) bool {
	before, after := tableIn(file.From, table), tableIn(file.To, table)
	if before == nil || after == nil {
		return false
	}
	plaintext, ok := before.Column(name)
	_, beside := before.Column(expand.Tokens(name))
	_, still := after.Column(expand.Tokens(name))
	now, ok2 := after.Column(name)
	return ok && ok2 && beside && !still && !isTextColumn(plaintext) && isTextColumn(now)
}

func isTextColumn(c *schema.Column) bool {
	if c.Type == nil {
		return false
	}
	if _, ok := c.Type.Type.(*schema.StringType); ok {
		return true
	}
	_, isText := kindOf(dialect.Postgres, c)
	return isText
}

// isDeclaredEncrypted reports whether a column is encrypted in an ent schema:
// in a generated package of the process, or in Credent's own. This package
// doesn't import Credent's, so that a program with its own tables doesn't get
// ours.
func isDeclaredEncrypted(table, name string) bool {
	return hasGeneratedCheck(entmigrate.Tables, table, name) ||
		slices.ContainsFunc(column.All(), func(c column.Column) bool { return c.Table == table && c.Name == name })
}

// hasGeneratedCheck reports whether a generated table has the CHECK that
// package codegen adds for an encrypted column.
func hasGeneratedCheck(tables []*entschema.Table, table, column string) bool {
	for _, t := range tables {
		if t.Name == table && t.Annotation != nil && t.Annotation.Checks[table+"_"+column+"_encrypted"] != "" {
			return true
		}
	}
	return false
}

// isEncrypted reports whether a column is encrypted in the ent schema or was in
// the database before the file: a field may have just been removed from the
// schema.
func isEncrypted(file *sqlcheck.File, table *schema.Table, column *schema.Column) bool {
	if isDeclaredEncrypted(table.Name, column.Name) {
		return true
	}
	before := tableIn(file.From, table)
	return before != nil && hasTokenCheck(before, column.Name)
}

// hasTokenCheck reports whether a table has a CHECK for tokens in a column.
func hasTokenCheck(table *schema.Table, column string) bool { return tokenCheck(table, column) != nil }

// tokenCheck returns a table's CHECK for tokens in a column, or nil.
func tokenCheck(table *schema.Table, column string) *schema.Check {
	for _, attr := range table.Attrs {
		check, ok := attr.(*schema.Check)
		if ok && strings.Contains(check.Expr, tokenPrefix) && mentions(check.Expr, column) {
			return check
		}
	}
	return nil
}

func findRetyped(stmt *migrate.Stmt, c *schema.ModifyColumn) []sqlcheck.Diagnostic {
	if !c.Change.Is(schema.ChangeType) || c.From.Type == nil || c.To.Type == nil {
		return nil
	}
	from, fromText := c.From.Type.Type.(*schema.StringType)
	to, toText := c.To.Type.Type.(*schema.StringType)
	switch {
	case fromText && toText && to.Size != 0 && (from.Size == 0 || to.Size < from.Size):
		return []sqlcheck.Diagnostic{finding(codeShrinkEncrypted, stmt,
			"encrypted column %q is shortened to %d characters, which its tokens may not fit", c.From.Name, to.Size)}
	case !fromText && toText: // findCasts reports it
	case !fromText || !toText || from.T != to.T:
		return []sqlcheck.Diagnostic{finding(codeTypeEncrypted, stmt,
			"encrypted column %q gets another type", c.From.Name)}
	}
	return nil
}

func findIndexed(
	file *sqlcheck.File, stmt *migrate.Stmt, table *schema.Table, index *schema.Index,
) (found []sqlcheck.Diagnostic) {
	for _, column := range table.Columns {
		if indexes(index, column) && isEncrypted(file, table, column) {
			found = append(found, finding(codeIndexEncrypted, stmt, "index %q is on encrypted column %q, where equal "+
				"values have different tokens: it finds nothing", index.Name, column.Name))
		}
	}
	return found
}

// indexes reports whether an index contains a column, alone or in an
// expression.
func indexes(index *schema.Index, column *schema.Column) bool {
	return slices.ContainsFunc(index.Parts, func(part *schema.IndexPart) bool {
		if part.C != nil {
			return part.C.Name == column.Name
		}
		x, ok := part.X.(*schema.RawExpr)
		return ok && mentions(x.X, column.Name)
	})
}

// mentions reports whether an expression contains a word.
func mentions(expr, word string) bool {
	return regexp.MustCompile(`\b` + regexp.QuoteMeta(word) + `\b`).MatchString(expr)
}

// findUnchecked finds columns that had a CHECK for tokens before the file, and
// exist without one after it. It compares the two states, because Atlas treats
// a CHECK as unchanged if another of the same name replaces it.
func findUnchecked(file *sqlcheck.File) (found []sqlcheck.Diagnostic) {
	for _, s := range file.From.Schemas {
		for _, before := range s.Tables {
			after := tableIn(file.To, before)
			if after == nil {
				continue
			}
			for _, column := range after.Columns {
				if check := tokenCheck(before, column.Name); check != nil && !hasTokenCheck(after, column.Name) {
					found = append(found, finding(codeDropTokenCheck, firstWith(file, check.Name, before.Name),
						"encrypted column %q loses the CHECK that keeps plaintext out of it", column.Name))
				}
			}
		}
	}
	return found
}

// firstWith returns the first statement that contains one of the words. Earlier
// words take precedence.
func firstWith(file *sqlcheck.File, words ...string) *migrate.Stmt {
	for _, word := range words {
		for _, change := range file.Changes {
			if word != "" && mentions(change.Stmt.Text, word) {
				return change.Stmt
			}
		}
	}
	return file.Changes[0].Stmt // some statement must have done it
}

// tableIn returns a table by name, or nil.
func tableIn(realm *schema.Realm, table *schema.Table) *schema.Table {
	for _, s := range realm.Schemas {
		if table.Schema != nil && s.Name != table.Schema.Name {
			continue
		}
		if found, ok := s.Table(table.Name); ok {
			return found
		}
	}
	return nil
}

func sizeOf(column *schema.Column) int {
	if text, ok := column.Type.Type.(*schema.StringType); ok {
		return text.Size
	}
	return 0
}
