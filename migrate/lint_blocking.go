package migrate

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/sqlcheck"
)

// seen records what a file's statements did to a Postgres dev database.
type seen struct {
	start   *catalog // before the file; nil on SQLite
	current *catalog
	by      map[*migrate.Stmt]*observation
}

// startFile starts observing a file.
func (l *linter) startFile(ctx context.Context) error {
	if isSQLite(l.dialect) {
		return nil
	}
	start, err := readCatalog(ctx, l.conn)
	*l.seen = seen{start: start, current: start, by: make(map[*migrate.Stmt]*observation)}
	return err
}

// observe runs a statement and records its effects.
func (l *linter) observe(ctx context.Context, f migrate.File, stmt *migrate.Stmt) error {
	locks, err := l.execObserved(ctx, f, stmt)
	if err != nil || isSQLite(l.dialect) {
		return err
	}
	after, err := readCatalog(ctx, l.conn)
	if err != nil {
		return err
	}
	l.seen.by[stmt] = &observation{before: l.seen.current, after: after, locks: locks}
	l.seen.current = after
	return nil
}

// Nobody waits for rows of a table that the file itself creates.
func (s *seen) isOld(table int64) bool {
	_, ok := s.start.tables[table]
	return ok
}

// newConstraints returns the constraints that a statement added to old tables,
// ordered by name.
func (s *seen) newConstraints(o *observation, kinds string) (found []catalogConstraint) {
	for id, c := range o.after.constraints {
		if _, there := o.before.constraints[id]; !there && s.isOld(c.table) && strings.Contains(kinds, c.kind) {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b catalogConstraint) int { return cmp.Compare(a.name, b.name) })
	return found
}

// sortedKeys gives findings a fixed order.
func sortedKeys[V any](m map[int64]V) []int64 { return slices.Sorted(maps.Keys(m)) }

const (
	inNextFile   = "-- in the next file:"
	inFileWithNo = "-- in a file of its own, which begins with \"-- atlas:txmode none\" and a blank line:"
)

// withSteps adds statements with the same result that don't block.
func withSteps(d sqlcheck.Diagnostic, steps ...string) sqlcheck.Diagnostic {
	for _, step := range steps {
		d.SuggestedFixes = append(d.SuggestedFixes, sqlcheck.SuggestedFix{Message: step})
	}
	return d
}

func stepsOf(d sqlcheck.Diagnostic) (steps []string) {
	for _, fix := range d.SuggestedFixes {
		steps = append(steps, fix.Message)
	}
	return steps
}

// findBlocking finds statements that lock readers or writers out of tables
// while they read all rows.
func (s *seen) findBlocking(file *sqlcheck.File) (found []sqlcheck.Diagnostic) {
	held := make(map[int64]heldBy)
	for _, change := range file.Changes {
		o := s.by[change.Stmt]
		for _, find := range []func(*migrate.Stmt, *observation) []sqlcheck.Diagnostic{
			s.findValidated, s.findNotNull, s.findRewritten, s.findBuilt, s.findLockTable, s.findReindexed,
		} {
			found = append(found, find(change.Stmt, o)...)
		}
		found = append(found, s.findLateValidation(file, change.Stmt, o, held)...)
		for id, mode := range o.locks {
			if h, ok := held[id]; !ok || h.mode != accessExclusive && mode == accessExclusive {
				held[id] = heldBy{mode, change.Stmt}
			}
		}
	}
	return found
}

// heldBy is a lock taken by an earlier statement of a file.
type heldBy struct {
	mode lockMode
	stmt *migrate.Stmt
}

// findValidated finds a CHECK or foreign key that is validated when it is
// added.
func (s *seen) findValidated(stmt *migrate.Stmt, o *observation) (found []sqlcheck.Diagnostic) {
	for _, c := range s.newConstraints(o, "cf") {
		if !c.valid || o.isMadeAgain(c) && o.before.tables[c.table].file != o.after.tables[c.table].file {
			continue // not valid, or rewritten, which findRewritten reports
		}
		on := o.after.tables[c.table].name
		kind, mode := "CHECK", accessExclusive
		if c.kind == "f" {
			kind, mode = "foreign key", shareRow
		}
		add := fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s %s", on, c.name, c.definition)
		var steps []string
		for _, id := range o.columnsOf(c.table) {
			if _, there := o.before.columns[id]; !there {
				column := o.after.columns[id]
				steps = append(steps, fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s;", on, column.name, column.typ))
			}
		}
		if o.isMadeAgain(c) {
			add = o.withType(c)
		}
		steps = append(steps, add+" NOT VALID;", inNextFile,
			fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s;", on, c.name))
		found = append(found, withSteps(finding(codeValidates, stmt,
			"%s %s reads all rows of %s at once, and meanwhile %s: add it NOT VALID, and validate it in the next file",
			kind, c.name, on, mode.keepsOut()), steps...))
	}
	return found
}

// isMadeAgain reports whether a constraint replaces one of the same name, as
// after a change of a column's type: Postgres then reads all rows even if the
// type needs no rewrite.
func (o *observation) isMadeAgain(c catalogConstraint) bool {
	for _, before := range o.before.constraints {
		if before.table == c.table && before.name == c.name && before.valid {
			return true
		}
	}
	return false
}

// withType returns the statement with the observed change of types, but without
// NOT VALID at its end: the constraint is dropped first, so that Postgres
// doesn't validate it.
func (o *observation) withType(c catalogConstraint) string {
	on := o.after.tables[c.table].name
	parts := []string{"DROP CONSTRAINT " + c.name}
	for _, id := range o.columnsOf(c.table) {
		if before, there := o.before.columns[id]; there && before.typ != o.after.columns[id].typ {
			parts = append(parts, fmt.Sprintf("ALTER COLUMN %s TYPE %s", o.after.columns[id].name,
				o.after.columns[id].typ))
		}
	}
	return "ALTER TABLE " + on + " " + strings.Join(append(parts, "ADD CONSTRAINT "+c.name+" "+c.definition), ", ")
}

// findNotNull finds SET NOT NULL without an equivalent valid CHECK.
func (s *seen) findNotNull(stmt *migrate.Stmt, o *observation) (found []sqlcheck.Diagnostic) {
	var ids [][2]int64
	for id, c := range o.after.columns {
		before, there := o.before.columns[id]
		if there && !before.notNull && c.notNull && s.isOld(id[0]) && !isCovered(o.before, id[0], c.name) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b [2]int64) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids {
		on, c := o.after.tables[id[0]].name, o.after.columns[id]
		check := quote(unquote(lastPart(on)) + "_" + unquote(c.name) + "_not_null")
		found = append(found, withSteps(finding(codeSetNotNull, stmt,
			"NOT NULL on %s reads all rows of %s at once, and meanwhile %s: let a valid CHECK say the same before",
			c.name, on, accessExclusive.keepsOut()),
			fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s CHECK (%s IS NOT NULL) NOT VALID;", on, check,
				c.name), inNextFile,
			fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s;", on, check),
			fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL;", on, c.name),
			fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s;", on, check)))
	}
	return found
}

func lastPart(name string) string { return name[strings.LastIndex(name, ".")+1:] }

// isCovered reports whether a valid CHECK excludes NULL from a column, so that
// Postgres needn't read the rows.
func isCovered(c *catalog, table int64, name string) bool {
	for _, k := range c.constraints {
		if k.table == table && k.kind == "c" && k.valid && notNullCheck(k.definition, name) {
			return true
		}
	}
	return false
}

// notNullCheck reports whether a definition requires that a column is not NULL,
// alone or as one of several conditions that must all hold.
func notNullCheck(definition, name string) bool {
	return strings.Contains(definition, "("+name+" IS NOT NULL)") && !strings.Contains(definition, " OR ") &&
		!strings.Contains(definition, "NOT (") && !strings.Contains(definition, "CASE")
}

// findLateValidation finds VALIDATE CONSTRAINT after a statement of the same
// file that holds a lock meanwhile.
func (s *seen) findLateValidation(
	file *sqlcheck.File, stmt *migrate.Stmt, o *observation, held map[int64]heldBy,
) (found []sqlcheck.Diagnostic) {
	for _, id := range sortedKeys(o.after.constraints) {
		c := o.after.constraints[id]
		before, there := o.before.constraints[id]
		if !there || before.valid || !c.valid {
			continue
		}
		h, ok := held[c.table]
		if !ok || !s.isOld(c.table) {
			continue
		}
		on := o.after.tables[c.table].name
		found = append(found, withSteps(finding(codeLateValidation, stmt,
			"validating %s reads all rows of %s, and the lock of line %d is kept until the end of the file, so that "+
				"meanwhile %s: validate in a file of its own", c.name, on, lineOf(file, h.stmt.Pos), h.mode.keepsOut()),
			inNextFile, fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s;", on, c.name)))
	}
	return found
}

// findBuilt finds a primary key, UNIQUE or EXCLUDE that builds its index
// immediately.
func (s *seen) findBuilt(stmt *migrate.Stmt, o *observation) (found []sqlcheck.Diagnostic) {
	for _, c := range s.newConstraints(o, "pux") {
		if _, there := o.before.indexes[c.index]; there {
			continue
		}
		on, x := o.after.tables[c.table].name, o.after.indexes[c.index]
		kind := map[string]string{"p": "PRIMARY KEY", "u": "UNIQUE", "x": "EXCLUDE"}[c.kind]
		d := finding(codeBuildsIndex, stmt, "%s %s builds its index at once, and meanwhile %s in %s: build the index "+
			"CONCURRENTLY, and add the constraint USING INDEX", kind, c.name, accessExclusive.keepsOut(), on)
		if c.kind == "x" {
			d.Text = fmt.Sprintf("EXCLUDE %s builds its index at once, and meanwhile %s in %s: Postgres cannot build "+
				"it CONCURRENTLY, so do it while the service stands still", c.name, accessExclusive.keepsOut(), on)
			found = append(found, d)
			continue
		}
		found = append(found, withSteps(d, inFileWithNo, concurrentForm(x.definition), inNextFile,
			fmt.Sprintf("ALTER TABLE %s ADD CONSTRAINT %s %s USING INDEX %s;", on, c.name, kind, c.name)))
	}
	return found
}

var indexHead = regexp.MustCompile(`^CREATE (UNIQUE )?INDEX `)

// concurrentForm turns Postgres' definition of an index into a statement that
// blocks nobody and can be repeated.
func concurrentForm(definition string) string {
	return indexHead.ReplaceAllString(definition, "CREATE ${1}INDEX CONCURRENTLY IF NOT EXISTS ") + ";"
}

// findBlockingIndex finds indexes on tables of earlier files, which may have
// rows.
func (s *seen) findBlockingIndex(file *sqlcheck.File) (found []sqlcheck.Diagnostic) {
	for _, change := range file.Changes {
		o := s.by[change.Stmt]
		if isConcurrent(change.Stmt.Text) {
			continue
		}
		for _, id := range sortedKeys(o.after.indexes) {
			x := o.after.indexes[id]
			if _, there := o.before.indexes[id]; there || !s.isOld(x.table) || ofConstraint(o.after, id) {
				continue
			}
			found = append(found, withSteps(finding(codeIndexBlocks, change.Stmt,
				"making an index on %q blocks writes to it, and it "+
					"may have rows: use CONCURRENTLY in a file of its own with atlas:txmode none, or give a reason in "+
					"\"-- atlas:nolint %s REASON\"", o.after.tables[x.table].name, ruleConcurrentIndex),
				inFileWithNo, concurrentForm(x.definition)))
		}
	}
	return found
}

func ofConstraint(c *catalog, index int64) bool {
	for _, k := range c.constraints {
		if k.index == index && strings.Contains("pux", k.kind) {
			return true
		}
	}
	return false
}

// findSeveral finds transactions that lock readers out of one table while they
// wait for another.
func (s *seen) findSeveral(file *sqlcheck.File) (found []sqlcheck.Diagnostic) {
	if withoutTransaction(file.File) {
		return nil
	}
	var first *migrate.Stmt
	locked := make(map[int64]bool)
	for _, change := range file.Changes {
		o := s.by[change.Stmt]
		var added []string
		for _, id := range sortedKeys(o.locks) {
			if o.locks[id] == accessExclusive && s.isOld(id) && !locked[id] {
				locked[id] = true
				added = append(added, s.start.tables[id].name)
			}
		}
		switch {
		case len(added) > 0 && first == nil:
			first = change.Stmt
		case len(added) > 0:
			found = append(found, withSteps(finding(codeSeveralLocks, change.Stmt,
				"while it waits for %s, the lock of line %d keeps "+
					"readers and writers out of another table: put it into a file of its own",
				strings.Join(added, ", "),
				lineOf(file, first.Pos)), inNextFile, strings.TrimSuffix(change.Stmt.Text, ";")+";"))
		}
	}
	return found
}
