package indextrigger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"entgo.io/ent/dialect"
)

// Kind says what is wrong with a trigger.
type Kind int

// The kinds of problems.
const (
	Missing Kind = iota
	Disabled
	Changed
)

// Problem is a trigger of an indexed column that is missing or isn't Credent's.
type Problem struct {
	Column Column
	Kind   Kind
	// Table is the relation that needs the trigger: the column's table, or a
	// partition or INHERITS child of it.
	Table string
	// Inherits means that Table is an INHERITS child: Postgres copies a table's
	// triggers to its partitions, but not to such children.
	Inherits bool
	Trigger  string
	// Function is the trigger's function on Postgres, if there is one.
	Function string
	// Detail says what differs, or is "".
	Detail string
	// SQL fixes all problems of Table at once, as [Statements] does.
	SQL []string
}

// Querier is a database, a connection or a transaction.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Compare returns the problems of indexed columns' triggers, in the columns'
// order. It skips columns that the database lacks. It identifies triggers by
// what they do, since their names stay when a table or column is renamed.
func Compare(ctx context.Context, db Querier, d string, columns []Column) ([]Problem, error) {
	var problems []Problem
	for _, c := range columns {
		relations, err := relationsOf(ctx, db, d, c)
		if err != nil {
			return nil, fmt.Errorf("read the triggers of %s: %w", c.Table, err)
		}
		for _, r := range relations {
			if !r.complete || r.partition && lacks(problems, c) {
				continue
			}
			problems = append(problems, r.compare(d, c)...)
		}
	}
	return problems, nil
}

// Exists reports whether the database has the table, with both columns. If
// Token is "", it checks only the table.
func Exists(ctx context.Context, db Querier, d string, c Column) (bool, error) {
	relations, err := relationsOf(ctx, db, d, c)
	if err != nil {
		return false, fmt.Errorf("find %s: %w", c.Table, err)
	}
	return slices.ContainsFunc(relations, func(r relation) bool { return r.root && (r.complete || c.Token == "") }), nil
}

// lacks reports whether the column's table itself lacks a trigger. Partitions
// get the table's.
func lacks(problems []Problem, c Column) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool {
		return p.Column == c && p.Kind == Missing && p.Table == c.Table && !p.Inherits
	})
}

// Obsolete returns the statements that drop Credent's triggers from tables if
// they serve none of the columns. On Postgres such a trigger fails every update
// once its column is gone. Of tables, only Schema and Table are used.
func Obsolete(ctx context.Context, db Querier, d string, tables, columns []Column) ([]string, error) {
	var drops []string
	for _, table := range tables {
		relations, err := relationsOf(ctx, db, d, table)
		if err != nil {
			return nil, fmt.Errorf("read the triggers of %s: %w", table.Table, err)
		}
		for _, r := range relations {
			if !r.partition {
				drops = append(drops, r.obsolete(d, table, columns)...)
			}
		}
	}
	// Drop triggers before the function that they use.
	slices.SortStableFunc(drops, func(a, b string) int {
		return strings.Compare(b[:len("DROP T")], a[:len("DROP T")])
	})
	return slices.Compact(drops), nil
}

// obsolete returns the statements that drop the relation's triggers of Credent
// that serve none of the columns, and functions that no other trigger needs.
func (r relation) obsolete(d string, table Column, columns []Column) (drops []string) {
	isObsolete := func(t trigger) bool {
		return t.ours && !slices.ContainsFunc(columns, func(c Column) bool {
			return c.Table == table.Table && c.Schema == table.Schema && (t.is(d, c, first) || t.is(d, c, second))
		})
	}
	for _, t := range r.triggers {
		if !isObsolete(t) {
			continue
		}
		needed := t.shared || slices.ContainsFunc(r.triggers, func(other trigger) bool {
			return other.schema == t.schema && other.routine == t.routine && !isObsolete(other)
		})
		drops = append(drops, t.drop(d, r, needed)...)
	}
	return drops
}

// relation is a table, a partition or an INHERITS child of one.
type relation struct {
	schema, name string
	as           string // the schema in statements; "" if the column has none
	root         bool
	partition    bool
	complete     bool // it has both columns, and may have triggers
	triggers     []trigger
}

// trigger is a relation's trigger, as in the catalogs.
type trigger struct {
	name    string
	text    string // SQLite's definition, or as in postgresText
	body    string // its function's body
	state   string // pg_trigger.tgenabled
	ours    bool
	shared  bool // other tables also use its function
	schema  string
	routine string // its function
}

// is reports whether the trigger does what the column's trigger does.
func (t trigger) is(d string, c Column, s step) bool {
	if d == dialect.SQLite {
		return squeeze(t.text) == squeeze(sqliteTrigger(c, t.name, s))
	}
	return t.text == postgresText(c, s) && squeeze(t.body) == squeeze(postgresBody(c))
}

// squeeze normalizes white space, which editors change.
func squeeze(text string) string { return strings.Join(strings.Fields(text), " ") }

func (t trigger) enabled() bool { return t.state == "" || t.state == "O" || t.state == "A" }

func (t trigger) drop(d string, r relation, keepFunction bool) []string {
	if d == dialect.SQLite {
		return []string{sqliteDrop(t.name)}
	}
	drops := []string{postgresDrop(r.written(), t.name)}
	if !keepFunction {
		schema := t.schema
		if schema == r.schema {
			schema = r.as
		}
		drops = append(drops, "DROP FUNCTION IF EXISTS "+qualified(d, schema, t.routine)+"()")
	}
	return drops
}

// written returns the relation's name in SQL.
func (r relation) written() string { return qualified(dialect.Postgres, r.as, r.name) }

// compare returns the problems of the column's triggers on a relation.
func (r relation) compare(d string, c Column) (problems []Problem) {
	own := c
	own.Schema, own.Table = r.as, r.name
	var best [steps]trigger // enabled, if there is one
	var found [steps]bool
	for s := range steps {
		for _, t := range r.triggers {
			if t.is(d, c, s) && (!found[s] || !best[s].enabled()) {
				best[s], found[s] = t, true
			}
		}
	}
	for s, name := range own.triggers() {
		p := Problem{
			Column: c, Table: r.name, Inherits: !r.root && !r.partition,
			Trigger: name, SQL: Statements(d, own),
		}
		named := slices.IndexFunc(r.triggers, func(t trigger) bool { return t.name == name })
		switch {
		case found[s] && best[s].enabled():
			inOrder := d == dialect.SQLite || !found[first] || best[first].name < best[second].name
			if inOrder || step(s) == first {
				continue
			}
			p.Kind, p.Detail = Changed, "Postgres calls it before "+best[first].name
		case found[s]:
			p.Kind, p.Trigger, p.Function = Disabled, best[s].name, best[s].routine
			p.SQL = []string{"ALTER TABLE " + r.written() + " ENABLE TRIGGER " + quote(best[s].name)}
		case named < 0:
			p.Kind = Missing
		default:
			p.Kind, p.Function, p.Detail = Changed, r.triggers[named].routine, "another definition"
			if d == dialect.Postgres && r.triggers[named].text == postgresText(c, step(s)) {
				p.Detail = "another body of function " + r.triggers[named].routine + "()"
			}
		}
		problems = append(problems, p)
	}
	return problems
}

func relationsOf(ctx context.Context, db Querier, d string, c Column) ([]relation, error) {
	if d == dialect.SQLite {
		return sqliteRelations(ctx, db, c)
	}
	return postgresRelations(ctx, db, c)
}

// sqliteRelations reads sqlite_master. It compares names like SQLite, ignoring
// case.
func sqliteRelations(ctx context.Context, db Querier, c Column) (_ []relation, err error) {
	rows, err := db.QueryContext(ctx, `SELECT t.name,
  (SELECT count(*) FROM pragma_table_xinfo(t.name) x WHERE lower(x.name) IN (lower(?2), lower(?3))) = 2,
  coalesce(g.name, ''), coalesce(g.sql, '')
FROM sqlite_master t LEFT JOIN sqlite_master g ON g.type = 'trigger' AND g.tbl_name = t.name COLLATE NOCASE
WHERE t.type = 'table' AND t.name = ?1 COLLATE NOCASE ORDER BY g.name`, c.Table, c.Token, c.Index)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var all []relation
	for rows.Next() {
		var t trigger
		r := relation{root: true}
		if err := rows.Scan(&r.name, &r.complete, &t.name, &t.text); err != nil {
			return nil, err
		}
		if len(all) == 0 {
			all = append(all, r)
		}
		if t.name != "" {
			t.ours = strings.Contains(t.text, marker)
			all[0].triggers = append(all[0].triggers, t)
		}
	}
	return all, rows.Err()
}

// postgresText returns the text that postgresTriggers reads for one of
// Credent's triggers: tgtype (a row trigger before updates is 1 + 2 + 16), its
// columns, its arguments, and its function's language.
func postgresText(c Column, s step) string {
	of := ""
	if s == first {
		of = c.Index
	}
	return fmt.Sprintf("19|%s|%s\\000|plpgsql", of, postgresArgs[s])
}

// postgresTriggers reads the triggers of a table and of everything that
// inherits from it. The text never equals postgresText for a trigger with a
// condition, or with a function that has settings or runs as its owner. Before
// version 13, a partitioned table can't have such triggers, and its partitions
// need them.
const postgresTriggers = `WITH RECURSIVE tree(oid, root) AS (
  SELECT c.oid, true FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relname = $2::text AND CASE WHEN $1::text = '' THEN c.oid = pg_catalog.to_regclass(pg_catalog.quote_ident($2::text))
    ELSE n.nspname = $1::text END
  UNION SELECT i.inhrelid, false FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
)
SELECT n.nspname::text, c.relname::text, tree.root, c.relispartition AND NOT tree.root AND (
    SELECT pg_catalog.bool_and(p.relkind = 'p' AND pg_catalog.current_setting('server_version_num')::int >= 130000)
    FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class p ON p.oid = i.inhparent WHERE i.inhrelid = c.oid),
  c.relkind IN ('r', 'p', 'f') AND (
    c.relkind <> 'p' OR pg_catalog.current_setting('server_version_num')::int >= 130000
  ) AND (
    SELECT count(*) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname IN ($3::text, $4::text)
    AND a.attnum > 0 AND NOT a.attisdropped) = 2,
  coalesce(g.tgname::text, ''), coalesce(g.tgenabled::text, ''),
  coalesce(pg_catalog.concat_ws('|', g.tgtype,
    coalesce((SELECT pg_catalog.string_agg(a.attname, ',') FROM pg_catalog.pg_attribute a
      WHERE a.attrelid = c.oid AND a.attnum = ANY (g.tgattr)), ''),
    pg_catalog.encode(g.tgargs, 'escape'), l.lanname,
    CASE WHEN g.tgqual IS NOT NULL THEN 'WHEN' END, CASE WHEN f.prosecdef THEN 'SECURITY DEFINER' END,
    pg_catalog.array_to_string(f.proconfig, ' ')), ''),
  coalesce(f.prosrc, ''), coalesce(fn.nspname::text, ''), coalesce(f.proname::text, ''),
  EXISTS (SELECT FROM pg_catalog.pg_trigger o JOIN pg_catalog.pg_class oc ON oc.oid = o.tgrelid
    WHERE o.tgfoid = f.oid AND o.tgrelid <> c.oid AND NOT oc.relispartition)
FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_trigger g ON g.tgrelid = c.oid AND g.tgconstraint = 0
LEFT JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
LEFT JOIN pg_catalog.pg_language l ON l.oid = f.prolang
ORDER BY NOT tree.root, 1, 2, g.tgname COLLATE "C"`

func postgresRelations(ctx context.Context, db Querier, c Column) (_ []relation, err error) {
	rows, err := db.QueryContext(ctx, postgresTriggers, c.Schema, c.Table, c.Token, c.Index)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var all []relation
	for rows.Next() {
		var (
			r relation
			t trigger
		)
		if err := rows.Scan(&r.schema, &r.name, &r.root, &r.partition, &r.complete,
			&t.name, &t.state, &t.text, &t.body, &t.schema, &t.routine, &t.shared); err != nil {
			return nil, err
		}
		if n := len(all); n == 0 || all[n-1].schema != r.schema || all[n-1].name != r.name {
			if c.Schema != "" || n > 0 && r.schema != all[0].schema {
				r.as = r.schema
			}
			all = append(all, r)
		}
		if t.name != "" {
			t.ours = strings.Contains(t.body, marker)
			last := &all[len(all)-1]
			last.triggers = append(last.triggers, t)
		}
	}
	return all, rows.Err()
}
