package migrate

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ariga.io/atlas/sql/migrate"
	"entgo.io/ent/dialect"

	entmigrate "github.com/credent-go/credent/ent/migrate"
)

// Classes of compared items, in the order in which differences are listed.
const (
	classTable = iota
	classColumn
	classIndex
	classConstraint
	classRowSecurity
	classPolicy
	classTrigger
	classRule
	classFunction
	classGrant
)

var classNames = [...]string{
	"table", "column", "index", "constraint", "row-level security", "policy", "trigger", "rule", "function", "grant",
}

// itemKey identifies a compared item.
type itemKey struct {
	class int
	table string // "" for functions, and for grants on the schema
	name  string
}

// String returns the name that a finding has.
func (k itemKey) String() string {
	switch {
	case k.class == classTable:
		return "table " + k.table
	case k.class == classColumn:
		return "column " + k.table + "." + k.name
	case k.class == classRowSecurity:
		return "row-level security of " + k.table
	case k.class == classGrant && k.table == "":
		return "grant to " + k.name + " on the schema"
	case k.class == classGrant:
		return "grant to " + k.name + " on " + k.table
	case k.table == "":
		return classNames[k.class] + " " + k.name
	}
	return classNames[k.class] + " " + k.name + " on " + k.table
}

// part is a property of an item, as the database writes it.
type part struct{ label, value string }

// snapshot is a schema's content. It contains the schema's name as the database
// writes it.
type snapshot struct {
	items  map[itemKey][]part
	unsafe []Finding
}

func (s *snapshot) tables() []string {
	var names []string
	for k := range s.items {
		if k.class == classTable {
			names = append(names, k.table)
		}
	}
	return names
}

// ours returns the names of this module's tables: those that migrations
// created, and those that they will create.
func (s *snapshot) ours() []string {
	names := s.tables()
	for _, t := range entmigrate.Tables {
		names = append(names, t.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// keys returns a table's items of a class, ordered by name.
func (s *snapshot) keys(class int, table string) []itemKey {
	var keys []itemKey
	for k := range s.items {
		if k.class == class && k.table == table {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b itemKey) int { return cmp.Compare(a.name, b.name) })
	return keys
}

// add reads the items of a class: table, name, then one column per property,
// with the property's name.
func (s *snapshot) add(ctx context.Context, conn *sql.Conn, class int, query string, args ...any) (err error) {
	rows, err := conn.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	labels, err := rows.Columns()
	if err != nil {
		return err
	}
	values := make([]sql.NullString, len(labels))
	targets := make([]any, len(labels))
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		var parts []part
		for i := 2; i < len(labels); i++ {
			parts = append(parts, part{labels[i], values[i].String})
		}
		s.items[itemKey{class, values[0].String, values[1].String}] = parts
	}
	return rows.Err()
}

// difference is an item that is missing, extra or different.
type difference struct {
	itemKey
	kind       Kind
	want, have []part // nil if extra or missing
}

// compareSnapshots returns the differences in a fixed order. It omits the items
// of missing or extra tables.
func compareSnapshots(want, have *snapshot) []difference {
	all := maps.Clone(want.items)
	maps.Copy(all, have.items)
	keys := slices.SortedFunc(maps.Keys(all), func(a, b itemKey) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.table, b.table), cmp.Compare(a.name, b.name))
	})
	var differences []difference
	for _, k := range keys {
		w, wanted := want.items[k]
		h, there := have.items[k]
		d := difference{itemKey: k, want: w, have: h}
		switch table := (itemKey{classTable, k.table, ""}); {
		case k.class != classTable && k.table != "" && (!want.has(table) || !have.has(table)):
			continue
		case !there:
			d.kind = DriftMissing
		case !wanted:
			d.kind = DriftExtra
		case slices.Equal(w, h):
			continue
		default:
			d.kind = DriftChanged
			if k.class == classColumn && isNarrower(d.value(w, "type"), d.value(h, "type")) {
				d.kind = DriftNarrower
			}
		}
		differences = append(differences, d)
	}
	return slices.DeleteFunc(slices.Clone(differences), func(d difference) bool { return isExplained(d, differences) })
}

// isExplained reports whether an SQLite table's text differs only because of a
// difference that is listed separately.
func isExplained(d difference, all []difference) bool {
	if d.class != classTable || d.kind != DriftChanged || d.changed("kind") || !d.changed("definition") {
		return false
	}
	return slices.ContainsFunc(all, func(other difference) bool {
		return other.table == d.table && (other.class == classColumn || other.class == classConstraint)
	})
}

func (s *snapshot) has(k itemKey) bool {
	_, ok := s.items[k]
	return ok
}

func (d *difference) value(parts []part, label string) string {
	i := slices.IndexFunc(parts, func(p part) bool { return p.label == label })
	if i < 0 {
		return ""
	}
	return parts[i].value
}

// changed reports whether a property differs.
func (d *difference) changed(label string) bool {
	return d.value(d.want, label) != d.value(d.have, label)
}

// finding describes a difference.
func (d *difference) finding() Finding {
	f := Finding{Kind: d.kind, Object: d.String()}
	if d.want == nil || d.have == nil {
		return f
	}
	var details []string
	for _, p := range d.want {
		have := d.value(d.have, p.label)
		switch {
		case have == p.value:
		case strings.Contains(have+p.value, "\n"):
			details = append(details, "another "+p.label)
		default:
			details = append(details, fmt.Sprintf("%s is %s, should be %s", p.label, cmp.Or(have, "none"),
				cmp.Or(p.value, "none")))
		}
	}
	f.Detail = strings.Join(details, "; ")
	return f
}

var sizedText = regexp.MustCompile(`^(?:character varying|varchar|text)(?:\((\d+)\))?$`)

// isNarrower reports whether a text column's limit is too small.
func isNarrower(want, have string) bool {
	w, h := sizedText.FindStringSubmatch(want), sizedText.FindStringSubmatch(have)
	return w != nil && h != nil && textSize(h[1]) < textSize(w[1])
}

func textSize(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return int(^uint(0) >> 1) // no limit
	}
	return n
}

// comparer replays migration files separately from the real tables.
type comparer interface {
	// replay runs a file, in the order of versions. Errors: [*StatementError].
	replay(ctx context.Context, f replayFile) error
	// scratch returns what the replayed files have created so far.
	scratch(ctx context.Context) (*snapshot, error)
	// actual returns the database's items: of our tables, and of the functions
	// in want.
	actual(ctx context.Context, want *snapshot) (*snapshot, error)
	// mend finds SQL that corrects differences.
	mend(differences []difference, want, have *snapshot) []Difference
	// refused counts the database's rows that violate a constraint.
	refused(ctx context.Context, constraint difference) (rows int64, err error)
	// close removes the rest of the replay.
	close()
}

// beginCompare begins a transaction for the comparison, to be rolled back. It
// sees a consistent state of the history and the tables, even while another
// process migrates.
func beginCompare(ctx context.Context, conn *sql.Conn, d string) (*transaction, error) {
	if isSQLite(d) {
		return beginWith(ctx, conn, "BEGIN")
	}
	return beginWith(ctx, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ")
}

// newComparer returns a comparer on a connection with an open transaction.
// Errors: [ErrCannotCompare].
func newComparer(ctx context.Context, db *sql.DB, conn *sql.Conn, revs *revisions) (comparer, error) {
	drv, err := newDriver(conn, revs)
	if err != nil {
		return nil, err
	}
	if revs.dialect == dialect.SQLite {
		return newSQLiteComparer(ctx, db, conn, drv)
	}
	return newPostgresComparer(ctx, conn, drv)
}

// transactionControl matches statements that would end the transaction that
// hides the replay.
var transactionControl = regexp.MustCompile(`(?is)^\s*(?:BEGIN|START|COMMIT|END|ROLLBACK|ABORT|PREPARE\s+TRANSACTION|SAVEPOINT|RELEASE)\b`)

// replayStatements runs a file's statements on a connection, each edited by
// edit.
func replayStatements(ctx context.Context, conn *sql.Conn, drv *driver, f replayFile, edit func(string) string) error {
	stmts, err := migrate.FileStmtDecls(drv, f.File)
	if err != nil {
		return fmt.Errorf("migrate: %s: %w", f.Name(), err)
	}
	if f.statements >= 0 {
		stmts = stmts[:min(f.statements, len(stmts))]
	}
	for _, stmt := range stmts {
		err := errTransactionControl
		if !transactionControl.MatchString(stmt.Text) {
			_, err = conn.ExecContext(ctx, edit(stmt.Text))
		}
		if err != nil {
			return &StatementError{File: f.Name(), Line: lineOf(f.File, stmt.Pos), Err: err}
		}
	}
	return nil
}

var errTransactionControl = errors.New("a file that begins or ends transactions cannot be replayed")
