package migrate

import (
	"fmt"
	"regexp"
	"strings"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/sqlcheck"

	"github.com/credent-go/credent/internal/sqldialect"
)

var (
	truncates  = regexp.MustCompile(`(?is)^\s*TRUNCATE\b`)
	locksTable = regexp.MustCompile(`(?is)^\s*LOCK\b`)
	vacuums    = regexp.MustCompile(`(?is)^\s*VACUUM\b`)
	clusters   = regexp.MustCompile(`(?is)^\s*CLUSTER\b`)
	isSerial   = regexp.MustCompile(`^nextval\(`)
)

const fillIn = "-- then fill in the old rows in batches of some thousand, each in a transaction of its own:"

// findRewritten finds tables that are rewritten to a new file on disk.
func (s *seen) findRewritten(stmt *migrate.Stmt, o *observation) (found []sqlcheck.Diagnostic) {
	if truncates.MatchString(code(stmt)) {
		return nil // TRUNCATE takes no time
	}
	for _, id := range sortedKeys(o.after.tables) {
		before, there := o.before.tables[id]
		t := o.after.tables[id]
		if !there || before.file == t.file || !s.isOld(id) || isConcurrent(stmt.Text) {
			continue
		}
		why, steps := o.rewritten(id, code(stmt))
		found = append(found, withSteps(finding(codeRewrites, stmt, "%s is written anew as a whole, and meanwhile %s "+
			"in it: %s", t.name, accessExclusive.keepsOut(), why), steps...))
	}
	return found
}

// rewritten says why a table was rewritten, and what to do instead.
func (o *observation) rewritten(id int64, text string) (why string, steps []string) {
	on := o.after.tables[id].name
	switch {
	case vacuums.MatchString(text):
		return "VACUUM without FULL frees the space for new rows; the extension pg_repack gives it back beside a " +
			"service", []string{"VACUUM " + on + ";"}
	case clusters.MatchString(text):
		return "the extension pg_repack sorts rows beside a service", nil
	case o.after.tables[id].view:
		return "with a unique index it can be refreshed CONCURRENTLY",
			[]string{inFileWithNo, "REFRESH MATERIALIZED VIEW CONCURRENTLY " + on + ";"}
	}
	for _, key := range o.columnsOf(id) {
		c := o.after.columns[key]
		before, there := o.before.columns[key]
		switch {
		case !there && c.generated:
			return fmt.Sprintf("%s is computed for every row: make it an ordinary column, filled by the service or a "+
				"trigger, and fill in the old rows", c.name), o.fillSteps(on, c, c.expr, false)
		case !there && (c.identity || isSerial.MatchString(c.expr)):
			return fmt.Sprintf("%s gets another number in each row: add it without, and fill in the old rows", c.name),
				o.fillSteps(on, c, c.expr, true)
		case !there && c.expr != "":
			return fmt.Sprintf("the default of %s is another one in each row: add the column without it, then set "+
				"it, and fill in the old rows", c.name), o.fillSteps(on, c, c.expr, true)
		case there && before.typ != c.typ:
			steps := []string{fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s;", on, quote(unquote(c.name)+"_new"), c.typ)}
			return fmt.Sprintf("%s becomes %s: add a column of that type, write both, fill in the old rows, read the "+
				"new one, and drop the old one (expand and contract, docs/migrations.md)", c.name, c.typ), steps
		}
	}
	return "do it while the service stands still", nil
}

// columnsOf returns the keys of a table's columns, in order.
func (o *observation) columnsOf(id int64) (keys [][2]int64) {
	for n := int64(1); n <= 1600; n++ { // Postgres' maximum
		if _, ok := o.after.columns[[2]int64{id, n}]; ok {
			keys = append(keys, [2]int64{id, n})
		}
	}
	return keys
}

// fillSteps returns steps that add a column without values and fill it in.
func (o *observation) fillSteps(on string, c catalogColumn, expr string, isDefault bool) []string {
	steps := []string{fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s;", on, c.name, c.typ)}
	switch {
	case c.identity:
		sequence := quote(unquote(lastPart(on)) + "_" + unquote(c.name) + "_seq")
		expr = "nextval(" + sqldialect.Literal(sequence) + ")"
		steps = append(steps, "CREATE SEQUENCE "+sequence+" OWNED BY "+on+"."+c.name+";")
	case isSerial.MatchString(c.expr):
		name, _, _ := strings.Cut(strings.TrimPrefix(c.expr, "nextval('"), "'")
		steps = append(steps, "CREATE SEQUENCE "+name+" OWNED BY "+on+"."+c.name+";")
	}
	if isDefault {
		steps = append(steps, fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s;", on, c.name, expr))
	}
	return append(steps, fillIn, fmt.Sprintf("UPDATE %s SET %s = %s WHERE %s IS NULL AND …;", on, c.name, expr, c.name))
}

// findReindexed finds indexes that are rebuilt without their table.
func (s *seen) findReindexed(stmt *migrate.Stmt, o *observation) (found []sqlcheck.Diagnostic) {
	if truncates.MatchString(code(stmt)) || isConcurrent(stmt.Text) {
		return nil
	}
	for _, id := range sortedKeys(o.after.indexes) {
		x := o.after.indexes[id]
		before, there := o.before.indexes[id]
		if !there || before.file == x.file || !s.isOld(x.table) ||
			o.before.tables[x.table].file != o.after.tables[x.table].file {
			continue
		}
		found = append(found, withSteps(finding(codeRebuildsIndex, stmt, "index %s is built anew, and meanwhile "+
			"nobody else writes to %s, nor reads it by the index: use CONCURRENTLY", x.name,
			o.after.tables[x.table].name),
			inFileWithNo, "REINDEX INDEX CONCURRENTLY "+x.name+";"))
	}
	return found
}

// findLockTable finds explicit locks.
func (s *seen) findLockTable(stmt *migrate.Stmt, o *observation) (found []sqlcheck.Diagnostic) {
	if !locksTable.MatchString(code(stmt)) {
		return nil
	}
	for _, id := range sortedKeys(o.locks) {
		if s.isOld(id) {
			found = append(found, finding(codeLocksTable, stmt, "LOCK TABLE: until the end of the file %s in %s; "+
				"leave it out, or change rows in batches, each in a transaction of its own", o.locks[id].keepsOut(),
				o.after.tables[id].name))
		}
	}
	return found
}
