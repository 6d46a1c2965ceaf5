package migrate

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"ariga.io/atlas/sql/migrate"
	atlas "ariga.io/atlas/sql/schema"
	"entgo.io/ent/dialect/sql/schema"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// declaredRenames returns the declared renames that the directory lacks: tables
// and encrypted columns with earlier names, and their digests. ent would drop
// and add them.
func declaredRenames(
	ctx context.Context, dev *sql.DB, path string, tables []*schema.Table,
) (_ []*migrate.Change, err error) {
	d := &namesDiffer{tables: tables}
	var renamed []column.Column
	for _, c := range column.All() {
		if c.Was != "" && d.wants(c.Table, c.Name) {
			renamed = append(renamed, c)
		}
	}
	if len(renamed) == 0 {
		return nil, nil
	}
	l, err := newLinter(ctx, dev, os.DirFS(path))
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := l.close(); err == nil {
			err = closeErr
		}
	}()
	for _, f := range l.files {
		if err := l.replay(ctx, f); err != nil {
			return nil, err
		}
	}
	if d.realm, err = l.inspect(ctx); err != nil {
		return nil, err
	}
	for _, c := range renamed {
		d.add(c)
	}
	return d.changes, nil
}

// namesDiffer compares a database's names with the wanted ones.
type namesDiffer struct {
	tables  []*schema.Table // wanted
	realm   *atlas.Realm    // with the names after the changes
	changes []*migrate.Change
}

// wants reports whether a table, and unless column is "" one of its columns, is
// wanted.
func (d *namesDiffer) wants(table, column string) bool {
	return slices.ContainsFunc(d.tables, func(t *schema.Table) bool {
		return t.Name == table && (column == "" || hasColumn(t, column))
	})
}

// table returns a table of the database, or nil.
func (d *namesDiffer) table(name string) *atlas.Table {
	return tableIn(d.realm, &atlas.Table{Name: name})
}

func (d *namesDiffer) add(c column.Column) {
	t := d.table(c.Table)
	for old := range c.Earlier() {
		if was := d.table(old.Table); t == nil && was != nil && !d.wants(old.Table, "") {
			d.rename("table", old.Table, c.Table, fmt.Sprintf("ALTER TABLE %s RENAME TO %s",
				column.QuoteName(old.Table), column.QuoteName(c.Table)))
			t, was.Name = was, c.Table
		}
	}
	if t == nil {
		return
	}
	for old := range c.Earlier() {
		d.addColumn(t, old.Name, c.Name)
		d.addColumn(t, old.Name+"_index", c.Index)
	}
}

func (d *namesDiffer) addColumn(t *atlas.Table, from, to string) {
	was, is := t.Column(from)
	if _, done := t.Column(to); !is || done || to == "" || d.wants(t.Name, from) {
		return
	}
	d.rename("column", from, to, fmt.Sprintf("ALTER TABLE %s RENAME COLUMN %s TO %s",
		column.QuoteName(t.Name), column.QuoteName(from), column.QuoteName(to)))
	was.Name = to
}

func (d *namesDiffer) rename(what, from, to, stmt string) {
	d.changes = append(d.changes,
		&migrate.Change{Cmd: stmt, Comment: fmt.Sprintf("rename the %s %q, which WasNamed declares, to %q",
			what, from, to)})
}

// withChanges returns a directory with one more file.
func withChanges(dir migrate.Dir, changes []*migrate.Change) (migrate.Dir, error) {
	if len(changes) == 0 {
		return dir, nil
	}
	version, err := nextVersion(dir, time.Now())
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	for _, change := range changes {
		text.WriteString(change.Cmd + ";\n")
	}
	if err := dir.WriteFile(version+"_renames.sql", []byte(text.String())); err != nil {
		return nil, err
	}
	sum, err := dir.Checksum()
	if err != nil {
		return nil, err
	}
	return dir, migrate.WriteSumFile(dir, sum)
}
