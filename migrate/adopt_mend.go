package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// mender generates the SQL that corrects a Postgres database.
type mender struct {
	schema      string // quoted if necessary
	differences []difference
	want, have  *snapshot
}

// pairing says how a missing item and an extra one may be the same item under
// another name.
type pairing struct {
	extra itemKey
	index bool // an index instead of a constraint
}

func (m *mender) mend() []Difference {
	renamed := make(map[itemKey]itemKey) // from an extra item to the missing one
	var mended []Difference
	for _, d := range m.differences {
		if p, ok := m.pair(d); ok {
			renamed[p.extra] = d.itemKey
		}
	}
	for _, d := range m.differences {
		result := Difference{Finding: d.finding()}
		if to, ok := renamed[d.itemKey]; ok {
			result.Note = "it becomes the " + classNames[to.class] + " " + to.name
		} else {
			result.SQL, result.Note = m.one(d)
		}
		mended = append(mended, result)
	}
	return mended
}

// pair finds an extra index or constraint that differs from a missing one only
// in name, or that is the index of a missing unique constraint.
func (m *mender) pair(d difference) (pairing, bool) {
	if d.kind != DriftMissing || d.class != classIndex && d.class != classConstraint {
		return pairing{}, false
	}
	definition := d.value(d.want, "definition")
	for _, extra := range m.differences {
		if extra.kind != DriftExtra || extra.table != d.table {
			continue
		}
		if extra.class == d.class && slices.Equal(extra.have, d.want) {
			return pairing{extra: extra.itemKey}, m.firstFor(d, extra)
		}
		columns, unique := strings.CutPrefix(definition, "UNIQUE ")
		if d.class == classConstraint && unique && extra.class == classIndex &&
			extra.value(extra.have, "uniqueness") == "unique" &&
			extra.value(extra.have, "definition") == "btree "+columns && extra.value(extra.have, "state") == "valid" {
			return pairing{extra: extra.itemKey, index: true}, true
		}
	}
	return pairing{}, false
}

// firstFor reports whether a missing item is the first one that an extra one
// can become.
func (m *mender) firstFor(d, extra difference) bool {
	for _, other := range m.differences {
		if other.kind == DriftMissing && other.class == d.class && other.table == d.table &&
			slices.Equal(other.want, extra.have) {
			return other.itemKey == d.itemKey
		}
	}
	return false
}

// one returns the statements for a difference, or a note that says why there
// are none.
func (m *mender) one(d difference) (statements []string, note string) {
	table, name := m.schema+"."+quote(d.table), quote(d.name)
	alter := "ALTER TABLE " + table + " "
	switch d.class {
	case classTable:
		return m.table(d)
	case classColumn:
		return m.column(d, alter)
	case classIndex:
		return m.index(d, table)
	case classConstraint:
		return m.constraint(d, alter)
	case classRowSecurity:
		if d.changed("state") {
			statements = append(statements, alter+"DISABLE ROW LEVEL SECURITY;")
		}
		if d.changed("for the owner") {
			statements = append(statements, alter+"NO FORCE ROW LEVEL SECURITY;")
		}
		return statements, "a later migration enables it"
	case classPolicy, classTrigger, classRule:
		if d.kind == DriftExtra {
			return []string{fmt.Sprintf("DROP %s %s ON %s;", strings.ToUpper(classNames[d.class]), name, table)},
				"find out first what needs it"
		}
	case classGrant:
		if d.kind == DriftExtra && d.table != "" && !strings.Contains(d.name, " ") {
			role := d.name
			if role != "PUBLIC" {
				role = quote(role)
			}
			return []string{fmt.Sprintf("REVOKE ALL ON TABLE %s FROM %s;", table, role)}, "find out first what needs it"
		}
		if d.kind == DriftExtra && d.table == "" {
			return []string{fmt.Sprintf("REVOKE ALL ON SCHEMA %s FROM %s;", m.schema, name)},
				"find out first what needs it"
		}
	}
	return nil, "mend it by hand"
}

func (m *mender) table(d difference) ([]string, string) {
	switch {
	case d.kind == DriftExtra:
		return nil, "a later migration makes it: rename it or drop it by hand, when nothing needs its data"
	case d.kind != DriftMissing:
		return nil, "it has to be an ordinary table: mend it by hand"
	}
	var lines, after []string
	table := m.schema + "." + quote(d.table)
	for _, class := range []int{classColumn, classConstraint, classIndex} {
		for _, k := range m.want.keys(class, d.table) {
			parts := m.want.items[k]
			switch class {
			case classColumn:
				lines = append(lines, "  "+quote(k.name)+" "+columnDefinition(parts))
			case classConstraint:
				lines = append(lines, "  CONSTRAINT "+quote(k.name)+" "+d.value(parts, "definition"))
			case classIndex:
				after = append(after, indexStatement("", k, parts, table))
			}
		}
	}
	return append([]string{"CREATE TABLE " + table + " (\n" + strings.Join(lines, ",\n") + "\n);"}, after...), ""
}

func columnDefinition(parts []part) string {
	var d difference
	text := d.value(parts, "type")
	if expression := d.value(parts, "default"); expression != "" {
		text += " DEFAULT " + expression
	}
	return text + " " + d.value(parts, "nullability")
}

const handsOff = "it holds encrypted secrets, which no statement given here may change"

func (m *mender) column(d difference, alter string) ([]string, string) {
	name := quote(d.name)
	switch {
	case d.kind == DriftExtra:
		return nil, "no statement given here drops data: drop it by hand when nothing needs it"
	case d.kind == DriftMissing && m.extraColumn(d.table):
		return nil, "the table has a column that should not be there: if this is it with another name, rename it by " +
			"hand"
	case d.kind == DriftMissing && isDeclaredEncrypted(d.table, d.name):
		return nil, "it should hold encrypted secrets, which cannot be made up: add it by hand"
	case d.kind == DriftMissing && d.value(d.want, "nullability") == "NOT NULL" && d.value(d.want, "default") == "":
		return nil, "what the rows should have in it is not known: add it by hand"
	case d.kind == DriftMissing:
		return []string{alter + "ADD COLUMN " + name + " " + columnDefinition(d.want) + ";"}, ""
	case d.changed("generation") || d.changed("identity") || d.changed("collation"):
		return nil, "mend it by hand"
	}
	column := alter + "ALTER COLUMN " + name + " "
	var statements []string
	if d.changed("default") || d.changed("type") && d.value(d.have, "default") != "" {
		statements = append(statements, column+"DROP DEFAULT;")
	}
	if d.changed("type") {
		retype, note := m.retype(d)
		if note != "" {
			return nil, note
		}
		statements = append(statements, column+retype+";")
	}
	if want := d.value(d.want, "default"); want != "" && len(statements) > 0 {
		statements = append(statements, column+"SET DEFAULT "+want+";")
	}
	if d.changed("nullability") {
		if d.value(d.want, "nullability") == "NOT NULL" {
			check := quote(d.table + "_" + d.name + "_not_null")
			statements = append(statements,
				alter+"ADD CONSTRAINT "+check+" CHECK ("+name+" IS NOT NULL) NOT VALID;",
				alter+"VALIDATE CONSTRAINT "+check+";", column+"SET NOT NULL;", alter+"DROP CONSTRAINT "+check+";")
		} else {
			statements = append(statements, column+"DROP NOT NULL;")
		}
	}
	return statements, ""
}

func (m *mender) extraColumn(table string) bool {
	return slices.ContainsFunc(m.differences, func(d difference) bool {
		return d.class == classColumn && d.kind == DriftExtra && d.table == table
	})
}

// retype returns the action that changes a column's type, or a note if it may
// be wrong. Between times without and with a zone, Postgres would convert by
// the session's time zone, but the rows are in UTC.
func (m *mender) retype(d difference) (action, note string) {
	want, have := d.value(d.want, "type"), d.value(d.have, "type")
	isTime := func(t string) bool { return strings.HasPrefix(t, "timestamp") }
	switch text := sizedText.MatchString(want) && sizedText.MatchString(have); {
	case isDeclaredEncrypted(d.table, d.name) && (!text || !isNarrower(want, have)):
		return "", handsOff + ": look at its values, then change its type by hand"
	case text:
		return "TYPE " + want, ""
	case isTime(want) && isTime(have) && strings.HasSuffix(want, "without time zone") != strings.HasSuffix(have,
		"without time zone"):
		return "TYPE " + want + " USING " + quote(d.name) + " AT TIME ZONE 'UTC'", ""
	}
	return "", "what its values mean in the other type is not known: change it by hand"
}

// concurrentlyOption lets other writers pass. It isn't allowed in a
// transaction.
const concurrentlyOption = "CONCURRENTLY "

func indexStatement(option string, k itemKey, parts []part, table string) string {
	var d difference
	unique := ""
	if d.value(parts, "uniqueness") == "unique" {
		unique = "UNIQUE "
	}
	return fmt.Sprintf("CREATE %sINDEX %s%s ON %s USING %s;", unique, option, quote(k.name), table,
		d.value(parts, "definition"))
}

func (m *mender) index(d difference, table string) ([]string, string) {
	index := m.schema + "." + quote(d.name)
	if p, ok := m.pair(d); ok {
		return []string{"ALTER INDEX " + m.schema + "." + quote(p.extra.name) + " RENAME TO " + quote(d.name) + ";"}, ""
	}
	drop := "DROP INDEX CONCURRENTLY " + index + ";"
	switch {
	case d.kind == DriftMissing:
		return []string{indexStatement(concurrentlyOption, d.itemKey, d.want, table)}, ""
	case d.kind == DriftExtra:
		return []string{drop}, "find out first what needs it"
	case !d.changed("definition") && !d.changed("uniqueness"):
		return []string{"REINDEX INDEX CONCURRENTLY " + index + ";"}, ""
	}
	return []string{drop, indexStatement(concurrentlyOption, d.itemKey, d.want, table)}, ""
}

func (m *mender) constraint(d difference, alter string) ([]string, string) {
	name := quote(d.name)
	add := m.addConstraint(d, alter)
	drop := alter + "DROP CONSTRAINT " + name + ";"
	p, paired := m.pair(d)
	switch {
	case paired && p.index:
		return []string{alter + "ADD CONSTRAINT " + name + " UNIQUE USING INDEX " + quote(p.extra.name) + ";"}, ""
	case paired:
		return []string{alter + "RENAME CONSTRAINT " + quote(p.extra.name) + " TO " + name + ";"}, ""
	case d.kind == DriftMissing:
		return add, ""
	case strings.HasPrefix(d.value(d.have, "definition"), "PRIMARY KEY"):
		return nil, "foreign keys hang on it: mend it by hand"
	case d.kind == DriftExtra:
		return []string{drop}, "find out first what needs it"
	case d.value(d.have, "definition") == d.value(d.want, "definition")+" NOT VALID":
		return []string{alter + "VALIDATE CONSTRAINT " + name + ";"}, ""
	case !d.changed("definition"):
		return nil, "triggers are disabled on the table, or on the one it refers to: ENABLE TRIGGER ALL by hand, as " +
			"a superuser"
	}
	return append([]string{drop}, add...), ""
}

// uniqueDefinition matches constraints that can use an index built beforehand.
var uniqueDefinition = regexp.MustCompile(`^(UNIQUE|PRIMARY KEY) (\([^()]*\))$`)

// addConstraint adds a constraint without blocking others while it reads all
// rows or builds an index.
func (m *mender) addConstraint(d difference, alter string) []string {
	name, definition := quote(d.name), d.value(d.want, "definition")
	add := alter + "ADD CONSTRAINT " + name + " "
	if parts := uniqueDefinition.FindStringSubmatch(definition); parts != nil {
		return []string{
			"CREATE UNIQUE INDEX CONCURRENTLY " + name + " ON " + m.schema + "." + quote(d.table) +
				" " + parts[2] + ";", add + parts[1] + " USING INDEX " + name + ";",
		}
	}
	if strings.HasPrefix(definition, "CHECK ") || strings.HasPrefix(definition, "FOREIGN KEY ") {
		return []string{add + definition + " NOT VALID;", alter + "VALIDATE CONSTRAINT " + name + ";"}
	}
	return []string{add + definition + ";"}
}
