package migrate

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/sqlite"
	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql/schema"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/indextrigger"
)

// ErrUnknownColumn means that [Diff] got tables, but the process doesn't import
// their generated package, so it can't know which of their columns have a blind
// index.
var ErrUnknownColumn = errors.New("the generated package of the tables is not imported")

// indexedColumns returns the given tables' columns with a blind index or,
// without tables, all such columns that the process knows.
func indexedColumns(tables []*schema.Table) (indexed []indextrigger.Column) {
	for _, c := range column.All() {
		of := indextrigger.Column{Schema: c.Schema, Table: c.Table, Token: c.Name, Index: c.Index, Key: c.ID}
		i := slices.IndexFunc(tables, func(t *schema.Table) bool {
			return t.Name == c.Table && hasColumn(t, c.Name) && hasColumn(t, c.Index)
		})
		if i >= 0 {
			of.Schema = cmp.Or(tables[i].Schema, of.Schema)
		}
		// Two packages may share a table.
		if c.Index != "" && (i >= 0 || len(tables) == 0) && !slices.Contains(indexed, of) {
			indexed = append(indexed, of)
		}
	}
	return indexed
}

// hasColumn searches the column list, because ent fills the table's map later.
func hasColumn(t *schema.Table, name string) bool {
	return slices.ContainsFunc(t.Columns, func(c *schema.Column) bool { return c.Name == name })
}

// checkKnown returns an [ErrUnknownColumn] if a table has a digest column and
// an encrypted column that the process doesn't know.
func checkKnown(tables []*schema.Table) error {
	known := column.All()
	for _, t := range tables {
		if !slices.ContainsFunc(t.Columns, func(c *schema.Column) bool {
			return c.Nullable && c.SchemaType[dialect.Postgres] == "bytea"
		}) {
			continue
		}
		for _, c := range t.Columns {
			isKnown := slices.ContainsFunc(known, func(k column.Column) bool {
				return k.Table == t.Name && k.Name == c.Name
			})
			if !isKnown && hasGeneratedCheck([]*schema.Table{t}, t.Name, c.Name) {
				return fmt.Errorf("migrate: %w: nothing says which column of %s has a blind index: import package "+
					"ent, not only ent/migrate, in the program that calls Diff", ErrUnknownColumn, t.Name)
			}
		}
	}
	return nil
}

// triggerDiffer finds the statements for index triggers that a new file needs,
// in a dev database to which a directory was replayed.
type triggerDiffer struct {
	*linter
	dialect string
	tables  []*schema.Table
}

// plan adds statements for triggers to a plan's changes: triggers of removed
// columns are dropped first, but after the renames, and missing or changed
// triggers are created last. It runs the changes.
func (d *triggerDiffer) plan(ctx context.Context, renames, changes []*migrate.Change) ([]*migrate.Change, error) {
	if err := d.try(ctx, renames); err != nil {
		return nil, err
	}
	columns, err := located(ctx, d.conn, d.dialect, indexedColumns(d.tables))
	if err != nil {
		return nil, err
	}
	var tables []indextrigger.Column
	for _, t := range d.tables {
		tables = append(tables, indextrigger.Column{Schema: t.Schema, Table: t.Name})
	}
	if tables, err = located(ctx, d.conn, d.dialect, tables); err != nil {
		return nil, err
	}
	drops, err := indextrigger.Obsolete(ctx, d.conn, d.dialect, tables, columns)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	all := append(triggerChanges("drop the triggers of a blind index that is gone", drops), changes...)
	if err := d.try(ctx, all); err != nil {
		return nil, err
	}
	all = append(slices.Clone(renames), all...)
	// The changes may have created the tables.
	if columns, err = located(ctx, d.conn, d.dialect, indexedColumns(d.tables)); err != nil {
		return nil, err
	}
	problems, err := indextrigger.Compare(ctx, d.conn, d.dialect, columns)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	var seen []string
	for _, p := range problems {
		if key := strings.Join(p.SQL, "\n"); !slices.Contains(seen, key) {
			seen = append(seen, key)
			all = append(all, triggerChanges(fmt.Sprintf("empty %q of %q when another writer changes %q",
				p.Column.Index, p.Table, p.Column.Token), p.SQL)...)
		}
	}
	return all, nil
}

// try runs changes.
func (d *triggerDiffer) try(ctx context.Context, changes []*migrate.Change) error {
	for _, change := range changes {
		if _, err := d.conn.ExecContext(ctx, change.Cmd); err != nil {
			return fmt.Errorf("migrate: try the changes: %w", err)
		}
	}
	return nil
}

// located corrects columns' schemas. ent's versioned migrations omit a table's
// schema, so a table that isn't in its schema is looked up in the search_path.
// For SQLite, ent knows no schemas.
func located(
	ctx context.Context, conn *sql.Conn, d string, columns []indextrigger.Column,
) ([]indextrigger.Column, error) {
	for i, c := range columns {
		if c.Schema == "" {
			continue
		}
		there, err := indextrigger.Exists(ctx, conn, d, c)
		if err != nil {
			return nil, fmt.Errorf("migrate: %w", err)
		}
		if !there || isSQLite(d) {
			columns[i].Schema = ""
		}
	}
	return columns, nil
}

func triggerChanges(comment string, statements []string) (changes []*migrate.Change) {
	for i, stmt := range statements {
		change := &migrate.Change{Cmd: stmt}
		if i == 0 {
			change.Comment = comment
		}
		changes = append(changes, change)
	}
	return changes
}

// lintTriggers returns the faults of index triggers in the dev database after
// all files have run. They are reported on the last file.
func (l *linter) lintTriggers(ctx context.Context) (found []Diagnostic, err error) {
	d := dialect.Postgres
	if l.client.Name == sqlite.DriverName {
		d = dialect.SQLite
	}
	columns, err := located(ctx, l.conn, d, indexedColumns(nil))
	if err != nil {
		return nil, err
	}
	problems, err := indextrigger.Compare(ctx, l.conn, d, columns)
	if err != nil {
		return nil, fmt.Errorf("migrate: lint: %w", err)
	}
	last := l.files[len(l.files)-1]
	if exceptionsOf(last, nil).cover(allPositions, ruleIndexTrigger, codeIndexTrigger) {
		return nil, nil
	}
	for _, p := range problems {
		found = append(found, Diagnostic{
			File: last.Name(), Line: 1, Code: codeIndexTrigger, Name: ruleIndexTrigger, Severity: SeverityError,
			Text: fmt.Sprintf("trigger %q on %q is %s, so a digest in %q can outlive its token: let migrate.Diff "+
				"write the next file (credent migrate diff NAME), or take the statements from encrypted.IndexTriggers",
				p.Trigger, p.Table, whatIsWrong(p), p.Column.Index),
		})
	}
	return found, nil
}

// whatIsWrong describes a problem.
func whatIsWrong(p indextrigger.Problem) string {
	words := [...]string{
		indextrigger.Missing: "missing", indextrigger.Disabled: "disabled", indextrigger.Changed: "changed",
	}[p.Kind]
	switch {
	case p.Detail != "":
		words += " (" + p.Detail + ")"
	case p.Inherits && p.Kind == indextrigger.Missing:
		words += " (an INHERITS child does not get the triggers of its table)"
	}
	return words
}

// checkTriggers adds faults of index triggers to the report, unless the
// comparison with the files found them. While files are pending, it ignores
// missing triggers of tables that the files create.
func (c *checker) checkTriggers(problems []indextrigger.Problem) {
	pending := slices.ContainsFunc(c.report.Findings, func(f Finding) bool {
		return f.Kind == FilePending || f.Kind == FilePartial || f.Kind == FileOutOfOrder
	})
	for _, p := range problems {
		f := Finding{Kind: DriftChanged, Object: itemKey{classTrigger, p.Table, p.Trigger}.String(), Detail: p.Detail}
		switch {
		case p.Kind == indextrigger.Disabled:
			f.Detail = "state is disabled, should be enabled"
		case p.Kind == indextrigger.Missing && p.Inherits:
			f.Kind, f.Detail = DriftMissing, "an INHERITS child does not get the triggers of "+p.Column.Table+
				": run the statements of encrypted.IndexTriggers for it"
		case p.Kind == indextrigger.Missing:
			f.Kind, f.Detail = DriftMissing, "run the statements of encrypted.IndexTriggers, or the next file of "+
				"migrate.Diff"
		}
		if pending && p.Kind != indextrigger.Disabled && !p.Inherits && slices.Contains(c.made, p.Table) {
			continue
		}
		known := slices.ContainsFunc(c.report.Findings, func(other Finding) bool {
			function := itemKey{classFunction, "", p.Function + "()"}.String()
			return other.Object == f.Object || p.Function != "" && other.Object == function
		})
		if !known {
			c.report.Findings = append(c.report.Findings, f)
		}
	}
}
