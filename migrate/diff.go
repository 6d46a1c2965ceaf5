package migrate

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"time"

	"ariga.io/atlas/sql/migrate"
	atlas "ariga.io/atlas/sql/schema"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/schema"

	entmigrate "github.com/credent-go/credent/ent/migrate"
)

// Diff compares the migration directory at path with the ent schema and writes what is missing as a new file with the
// given name, in the format of the stock Atlas command; it brings atlas.sum up to date. It reports whether there was
// anything to write. For the schema of another generated package give the Tables of its package migrate; without any, it is
// the module's own.
//
// The directory is replayed on dev, a database of the directory's dialect, which must be empty and is left empty but
// for what Atlas does not see (functions, roles): use a throw-away one, and one at a time. Errors: [ErrFileName],
// [ErrChanged]. It is safe for concurrent use.
func Diff(ctx context.Context, dev *sql.DB, path, name string, tables ...*schema.Table) (written bool, err error) {
	d, err := dialectOf(ctx, dev)
	if err != nil {
		return false, err
	}
	if err := checkDescription(name); err != nil {
		return false, err
	}
	dir, err := openDir(path)
	if err != nil {
		return false, err
	}
	if err := validate(dir); err != nil {
		return false, err
	}
	before, err := dir.Files()
	if err != nil {
		return false, fmt.Errorf("migrate: read %s: %w", path, err)
	}
	m, err := schema.NewMigrate(entsql.OpenDB(d, dev), diffOptions(d, dir)...)
	if err != nil {
		return false, fmt.Errorf("migrate: diff %s: %w", path, err)
	}
	if len(tables) == 0 {
		tables = entmigrate.Tables
	}
	diffing.Lock()
	err = m.NamedDiff(ctx, name, tables...)
	diffing.Unlock()
	if err != nil {
		return false, fmt.Errorf("migrate: diff %s: %w", path, err)
	}
	after, err := dir.Files()
	if err != nil {
		return false, fmt.Errorf("migrate: read %s: %w", path, err)
	}
	return len(after) > len(before), nil
}

// diffing guards tables of a generated package, of which there is one in the process and to which ent's NamedDiff writes.
var diffing sync.Mutex

// diffOptions says how the ent schema is compared with a directory.
func diffOptions(d string, dir migrate.Dir) []schema.MigrateOption {
	return []schema.MigrateOption{
		schema.WithDialect(d),
		schema.WithDir(dir),
		schema.WithMigrationMode(schema.ModeReplay),
		// Without it ent writes pairs of .up.sql and .down.sql files, which stock Atlas would run one after the other.
		schema.WithFormatter(formatter{dir}),
		schema.WithIndent("  "),
		// Without these ent leaves drops out, silently.
		schema.WithDropColumn(true),
		schema.WithDropIndex(true),
		schema.WithDiffHook(ignoreEqualDefaults, addIndexedColumns),
	}
}

// formatter names and words a new file as the stock command does, with a version after those of the directory.
type formatter struct{ dir migrate.Dir }

// Format implements migrate.Formatter.
func (f formatter) Format(plan *migrate.Plan) (_ []migrate.File, err error) {
	next := *plan
	if next.Version, err = nextVersion(f.dir, time.Now()); err != nil {
		return nil, err
	}
	return migrate.DefaultFormatter.Format(&next)
}

// ignoreEqualDefaults leaves out changes of a default that differ in outer parentheses only: ent puts them around every
// SQLite expression, and SQLite reports expressions without them.
func ignoreEqualDefaults(next schema.Differ) schema.Differ {
	return schema.DiffFunc(func(current, desired *atlas.Schema) ([]atlas.Change, error) {
		changes, err := next.Diff(current, desired)
		if err != nil {
			return nil, err
		}
		return slices.DeleteFunc(changes, func(change atlas.Change) bool {
			table, ok := change.(*atlas.ModifyTable)
			if !ok {
				return false
			}
			table.Changes = slices.DeleteFunc(table.Changes, func(change atlas.Change) bool {
				column, ok := change.(*atlas.ModifyColumn)
				return ok && column.Change == atlas.ChangeDefault && equalDefaults(column.From, column.To)
			})
			return len(table.Changes) == 0
		}), nil
	})
}

// addIndexedColumns lets a column be added before its index is. Where both come at once, Atlas makes a new SQLite table, copies the
// rows and drops the old table, and with it the triggers, and the rows of other tables that a cascade deletes.
func addIndexedColumns(next schema.Differ) schema.Differ {
	return schema.DiffFunc(func(current, desired *atlas.Schema) ([]atlas.Change, error) {
		changes, err := next.Diff(current, desired)
		for _, change := range changes {
			table, ok := change.(*atlas.ModifyTable)
			if !ok {
				continue
			}
			for i, change := range table.Changes {
				if added, ok := change.(*atlas.AddColumn); ok && len(added.C.Indexes) > 0 {
					column := *added.C
					column.Indexes = nil // they are changes of their own
					table.Changes[i] = &atlas.AddColumn{C: &column}
				}
			}
		}
		return changes, err
	})
}

func equalDefaults(a, b *atlas.Column) bool {
	x, ok := a.Default.(*atlas.RawExpr)
	if !ok {
		return false
	}
	y, ok := b.Default.(*atlas.RawExpr)
	return ok && (x.X == y.X || "("+x.X+")" == y.X || x.X == "("+y.X+")")
}
