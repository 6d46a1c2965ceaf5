package migrate

import (
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/schema"
	"ariga.io/atlas/sql/sqlcheck"

	"github.com/credent-go/credent/internal/expand"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// place is a database column.
type place struct{ schema, table, column string }

func placeOf(t *schema.Table, column string) place {
	p := place{table: t.Name, column: column}
	if t.Schema != nil {
		p.schema = t.Schema.Name
	}
	return p
}

// sameName reports whether tokens and digests of both places are
// interchangeable. They don't depend on the Postgres schema.
func (p place) sameName(q place) bool { return p.table == q.table && p.column == q.column }

// names returns the ent schemas' columns that have, or once had, a place's
// name.
func (p place) names() (found []column.Column) {
	for _, c := range column.All() {
		if p.sameName(place{"", c.Table, c.Name}) || hadName(c, p) {
			found = append(found, c)
		}
	}
	return found
}

func hadName(c column.Column, p place) bool {
	for old := range c.Earlier() {
		if p.sameName(place{"", old.Table, old.Name}) {
			return true
		}
	}
	return false
}

// isDeclaredRename reports whether an ent schema's column had the first name
// earlier, and has the second one or had it in between.
func isDeclaredRename(from, to place) bool {
	return slices.ContainsFunc(to.names(), func(c column.Column) bool { return hadName(c, from) })
}

// move is a statement that renames a table or a column.
type move struct {
	stmt     *migrate.Stmt
	from, to place // without a column for a table
}

// renaming compares a database's names before and after a file.
type renaming struct {
	file  *sqlcheck.File
	moves []move
	taken map[place]bool // columns after the file that existed before it
}

func newRenaming(file *sqlcheck.File) *renaming {
	r := &renaming{file: file, taken: make(map[place]bool)}
	for _, change := range file.Changes {
		for _, c := range change.Changes {
			switch c := c.(type) {
			case *schema.RenameTable:
				r.moves = append(r.moves, move{change.Stmt, placeOf(c.From, ""), placeOf(c.To, "")})
			case *schema.ModifyTable:
				for _, part := range c.Changes {
					if rename, ok := part.(*schema.RenameColumn); ok {
						r.moves = append(r.moves, move{
							change.Stmt, placeOf(c.T, rename.From.Name),
							placeOf(c.T, rename.To.Name),
						})
					}
				}
			}
		}
	}
	for t, c := range columnsIn(file.From) {
		if to, _, is := r.follow(placeOf(t, c.Name)); is {
			r.taken[to] = true
		}
	}
	return r
}

// columnsIn yields a realm's columns with their tables.
func columnsIn(realm *schema.Realm) iter.Seq2[*schema.Table, *schema.Column] {
	return func(yield func(*schema.Table, *schema.Column) bool) {
		for _, s := range realm.Schemas {
			for _, t := range s.Tables {
				for _, c := range t.Columns {
					if !yield(t, c) {
						return
					}
				}
			}
		}
	}
}

// follow returns a column's place after the file, according to its renames
// alone, the last statement that renamed it, and whether it exists.
func (r *renaming) follow(p place) (to place, last *migrate.Stmt, is bool) {
	for _, m := range r.moves {
		switch m.from {
		case p:
			p, last = m.to, m.stmt
		case place{p.schema, p.table, ""}:
			p, last = place{m.to.schema, m.to.table, p.column}, m.stmt
		}
	}
	return p, last, hasPlace(r.file.To, p)
}

// hasPlace reports whether a database has a column.
func hasPlace(realm *schema.Realm, p place) bool {
	s, ok := realm.Schema(p.schema)
	if !ok {
		return false
	}
	t, ok := s.Table(p.table)
	if !ok {
		return false
	}
	_, ok = t.Column(p.column)
	return ok
}

// copies matches statements that fill a new table from another.
var copies = regexp.MustCompile(`(?is)\bINSERT\s+INTO\s+` + name + `.*\bFROM\s+` + name)

// isCopied reports whether one of the file's statements fills a table, named as
// after the file, from another, named as before the file.
func (r *renaming) isCopied(from, to place) bool {
	for _, change := range r.file.Changes {
		for _, m := range copies.FindAllStringSubmatch(code(change.Stmt), -1) {
			source, _, _ := r.follow(place{from.schema, from.table, ""})
			target, _, _ := r.follow(place{to.schema, plain(m[1]), ""})
			if target.table == to.table && (plain(m[2]) == from.table || plain(m[2]) == source.table) {
				return true
			}
		}
	}
	return false
}

// successors returns the new columns that a missing column may have become: in
// its table, or in a table that replaces it.
func (r *renaming) successors(
	gone place, was *schema.Column, fits func(*schema.Table, *schema.Column) bool,
) (found []place) {
	renamed, _, _ := r.follow(gone)
	for t, c := range columnsIn(r.file.To) {
		p := placeOf(t, c.Name)
		if r.taken[p] {
			continue
		}
		isOld := hasPlace(r.file.From, place{gone.schema, gone.table, c.Name})
		switch isNew := tableIn(r.file.From, t) == nil; {
		case t.Name == gone.table || t.Name == renamed.table:
			if sameType(c, was) || fits(t, c) {
				found = append(found, p)
			}
		case !isNew, isOld && c.Name != gone.column: // another of its columns
		case r.isCopied(gone, p) && (sameType(c, was) || fits(t, c)), c.Name == gone.column && fits(t, c):
			found = append(found, p)
		}
	}
	return found
}

// isThere reports whether a column of that name exists after the file, in any
// schema.
func (r *renaming) isThere(p place) bool {
	for t, c := range columnsIn(r.file.To) {
		if p.sameName(placeOf(t, c.Name)) {
			return true
		}
	}
	return false
}

// findRenamed finds encrypted columns that are renamed, or that are in a
// renamed table, without a declaration in the ent schema, and digests that are
// left behind. A dropped and an added column count as a rename too.
func findRenamed(file *sqlcheck.File) (found []sqlcheck.Diagnostic) {
	r := newRenaming(file)
	for t, c := range columnsIn(file.From) {
		p := placeOf(t, c.Name)
		if of, ok := expand.Plaintext(c.Name); ok && isSwapped(file, t, of) {
			continue // its tokens are bound to its new name
		}
		wasEncrypted := hasTokenCheck(t, c.Name) || len(p.names()) > 0 || isDeclaredEncrypted(t.Name, c.Name)
		if wasEncrypted {
			found = append(found, r.findColumn(p, c)...)
			continue
		}
		if to, stmt, is := r.follow(p); is && !p.sameName(to) && isDeclaredEncrypted(to.table, to.column) {
			found = append(found, undeclared(stmt, p, to))
		} else if of, is := r.digestsOf(t, c); is {
			found = append(found, r.findDigests(p, c, of)...)
		}
	}
	return found
}

func (r *renaming) findColumn(p place, c *schema.Column) (found []sqlcheck.Diagnostic) {
	to, stmt, is := r.follow(p)
	switch {
	case is && (p.sameName(to) || isDeclaredRename(p, to)), !is && r.isThere(p):
		return nil
	case is:
		return []sqlcheck.Diagnostic{undeclared(stmt, p, to)}
	}
	became := r.successors(p, c, func(t *schema.Table, c *schema.Column) bool {
		return hasTokenCheck(t, c.Name) || isDeclaredEncrypted(t.Name, c.Name)
	})
	if len(became) == 0 || slices.ContainsFunc(became, func(q place) bool { return isDeclaredRename(p, q) }) {
		return nil
	}
	return []sqlcheck.Diagnostic{undeclared(r.drops(to), p, became[0])}
}

// drops returns the statement that drops a column.
func (r *renaming) drops(p place) *migrate.Stmt {
	for _, change := range r.file.Changes {
		for _, c := range change.Changes {
			switch c := c.(type) {
			case *schema.DropTable:
				if c.T.Name == p.table {
					return change.Stmt
				}
			case *schema.ModifyTable:
				if c.T.Name == p.table && schema.Changes(c.Changes).IndexDropColumn(p.column) >= 0 {
					return change.Stmt
				}
			}
		}
	}
	return firstWith(r.file, p.column, p.table)
}

// undeclared describes a rename that the ent schema doesn't declare.
func undeclared(stmt *migrate.Stmt, from, to place) sqlcheck.Diagnostic {
	declare := fmt.Sprintf("WasNamed(%q) to the field of column %q", from.column, to.column)
	switch {
	case from.column == to.column:
		declare = fmt.Sprintf("encrypted.TableWasNamed(%q) to the Annotations of the entity", from.table)
	case from.table != to.table:
		declare = fmt.Sprintf("WasNamed(%q) to the field of column %q", from.table+"."+from.column, to.column)
	}
	where := fmt.Sprintf("of table %q in the ent schema", to.table)
	for _, c := range to.names() {
		where = "of " + c.Entity + " in the ent schema"
	}
	return finding(codeRenameEncrypted, stmt, "encrypted column \"%s.%s\" becomes \"%s.%s\": bound tokens would not "+
		"open, and a blind index find nothing. Add %s, %s, generate, and lint in a program that imports the "+
		"generated package", from.table, from.column, to.table, to.column, declare, where)
}

// digestsOf returns the encrypted column that a digest column belongs to,
// according to the ent schema or its name.
func (r *renaming) digestsOf(t *schema.Table, c *schema.Column) (of place, is bool) {
	if c.Type == nil {
		return of, false
	}
	if _, binary := c.Type.Type.(*schema.BinaryType); !binary {
		return of, false
	}
	for _, known := range column.All() {
		if known.Table == t.Name && known.Index == c.Name {
			return placeOf(t, known.Name), true
		}
	}
	of = placeOf(t, strings.TrimSuffix(c.Name, "_index"))
	return of, of.column != c.Name && (hasTokenCheck(t, of.column) || len(of.names()) > 0)
}

// findDigests finds digests that the ent schema expects elsewhere after the
// file, or that are dropped where new ones start.
func (r *renaming) findDigests(p place, c *schema.Column, of place) []sqlcheck.Diagnostic {
	to, stmt, is := r.follow(p)
	if !is {
		if _, _, stays := r.follow(of); !stays && !r.isThere(of) || r.isThere(p) {
			return nil
		}
		became := r.successors(p, c, func(*schema.Table, *schema.Column) bool { return false })
		if len(became) == 0 {
			return nil
		}
		return []sqlcheck.Diagnostic{finding(codeRenameEncrypted, r.drops(to), "column %q has the digests of "+
			"encrypted column %q, and is dropped where %q is added: rename it, or lookups find nothing, and a unique "+
			"value can be stored again, until rotate has run", p.column, of.column, became[0].column)}
	}
	now, _, _ := r.follow(of)
	for _, known := range now.names() {
		if to.column != p.column && known.Index != "" && known.Index != to.column &&
			now.sameName(place{"", known.Table, known.Name}) {
			return []sqlcheck.Diagnostic{finding(codeRenameEncrypted, stmt, "column %q has the digests of encrypted "+
				"column %q, and becomes %q, where the ent schema has %q: rename it to that, or set StorageKey of the "+
				"BlindIndex", p.column, now.column, to.column, known.Index)}
		}
	}
	return nil
}
