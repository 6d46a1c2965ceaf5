package migrate

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"ariga.io/atlas/sql/migrate"
	atlas "ariga.io/atlas/sql/schema"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/schema"

	entmigrate "github.com/credent-go/credent/ent/migrate"
)

// Diff compares the migration directory at path with the ent schema and writes
// what is missing as a new file with the given name, in the format of the stock
// Atlas command; it updates atlas.sum. It reports whether there was anything to
// write. For another generated package's schema pass the Tables of its package
// migrate, in a process that imports the generated package too; without any, it
// is the module's own.
//
// On Postgres it writes several files if one would block a service: the first
// adds constraints to existing tables NOT VALID, NAME_validate validates them,
// and NAME_index builds an index CONCURRENTLY without a transaction. A column
// that becomes NOT NULL has a CHECK in between. Changes that it can't make in
// steps, such as a column's new type, are reported by [Lint], with what to do.
//
// The file also has the triggers of blind indexes that are missing or changed:
// they empty a digest when a writer other than the client changes its token. It
// drops triggers of columns that are gone.
//
// It renames an encrypted column or a table if the schema declares its earlier
// name (WasNamed, TableWasNamed), and its digests' column if that has the
// default name; ent would drop and add them. Write only the renames of other
// columns by hand.
//
// A plaintext column that isn't text and becomes an encrypted one is never
// cast. The file adds a column for tokens beside it and says what to run; the
// next call, with the same schema, writes the file that drops the plaintext and
// gives its name to the tokens. That file fails while a row has plaintext
// without a token. A text column becomes an encrypted one in place. Types that
// can't be converted, and tokens that would become plaintext, are an
// [ErrTypeChange].
//
// The directory is replayed on dev, a database of the directory's dialect,
// which must be empty and is left empty except for what Atlas doesn't see
// (functions, roles): use a throw-away one, and one at a time. Errors:
// [ErrFileName], [ErrChanged], [ErrUnknownColumn], [ErrTypeChange]. It is safe
// for concurrent use.
func Diff(ctx context.Context, dev *sql.DB, path, name string, tables ...*schema.Table) (written bool, err error) {
	d, err := dialectOf(ctx, dev)
	if err != nil {
		return false, err
	}
	if err := checkDescription(name); err != nil {
		return false, err
	}
	if len(tables) == 0 {
		tables = entmigrate.Tables
	}
	if err := checkKnown(tables); err != nil {
		return false, err
	}
	dir, err := openDir(path)
	if err != nil {
		return false, err
	}
	if err := validate(dir); err != nil {
		return false, err
	}
	renames, err := declaredRenames(ctx, dev, path, tables)
	if err != nil {
		return false, err
	}
	later := &steps{}
	plan, err := diffTables(ctx, dev, d, path, name, tables, renames, later)
	if err != nil {
		return false, fmt.Errorf("migrate: diff %s: %w", path, err)
	}
	if err := addTriggers(ctx, dev, d, path, tables, renames, plan); err != nil {
		return false, err
	}
	if len(plan.Changes) == 0 {
		return false, nil
	}
	files := []*migrate.Plan{plan}
	if !isSQLite(d) {
		files = later.split(plan)
	}
	if isSQLite(d) && slices.ContainsFunc(plan.Changes, makesTrigger) {
		// Triggers contain semicolons, but no blank lines.
		plan.Delimiter = "\n\n"
		for _, change := range plan.Changes {
			change.Cmd += ";"
		}
	}
	for _, plan := range files {
		if err := migrate.NewPlanner(nil, dir, migrate.PlanFormat(formatter{dir})).WritePlan(plan); err != nil {
			return false, fmt.Errorf("migrate: write to %s: %w", path, err)
		}
	}
	return true, nil
}

// diffTables returns the changes that ent finds missing after the renames.
func diffTables(
	ctx context.Context, dev *sql.DB, d, path, name string, tables []*schema.Table,
	renames []*migrate.Change, later *steps,
) (*migrate.Plan, error) {
	dir, err := loadDir(os.DirFS(path))
	if err == nil {
		dir, err = withChanges(dir, renames)
	}
	if err != nil {
		return nil, err
	}
	found := &planCatcher{plan: &migrate.Plan{Name: name}}
	conversions := &converter{dialect: d, tables: tables}
	m, err := schema.NewMigrate(entsql.OpenDB(d, dev),
		append(diffOptions(d, dir, found, later), schema.WithDiffHook(conversions.hook))...)
	if err != nil {
		return nil, err
	}
	diffing.Lock()
	defer diffing.Unlock()
	if err := m.NamedDiff(ctx, name, tables...); err != nil {
		return nil, err
	}
	found.plan.Changes = slices.Concat(conversions.before, found.plan.Changes, conversions.after)
	return found.plan, nil
}

func makesTrigger(c *migrate.Change) bool { return strings.HasPrefix(c.Cmd, "CREATE TRIGGER") }

// addTriggers adds renames and the blind indexes' triggers to a plan.
func addTriggers(
	ctx context.Context, dev *sql.DB, d, path string, tables []*schema.Table, renames []*migrate.Change,
	plan *migrate.Plan,
) (err error) {
	l, err := newLinter(ctx, dev, os.DirFS(path))
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := l.close(); err == nil {
			err = closeErr
		}
	}()
	for _, f := range l.files {
		if err := l.replay(ctx, f); err != nil {
			return err
		}
	}
	plan.Changes, err = (&triggerDiffer{linter: l, dialect: d, tables: tables}).plan(ctx, renames, plan.Changes)
	return err
}

// diffing guards the generated package's tables: the process has one copy, and
// ent's NamedDiff writes to it.
var diffing sync.Mutex

// diffOptions returns the options for comparing the ent schema with a
// directory.
func diffOptions(d string, dir migrate.Dir, found *planCatcher, later *steps) []schema.MigrateOption {
	hooks := []schema.DiffHook{addUserToAccountKey, ignoreEqualDefaults, addIndexedColumns}
	if !isSQLite(d) {
		hooks = append(hooks, later.hook)
	}
	return []schema.MigrateOption{
		schema.WithDialect(d),
		schema.WithDir(dir),
		schema.WithMigrationMode(schema.ModeReplay),
		schema.WithFormatter(found),
		schema.WithIndent("  "),
		// Without these, ent silently omits drops.
		schema.WithDropColumn(true),
		schema.WithDropIndex(true),
		schema.WithDiffHook(hooks...),
	}
}

// planCatcher keeps the plan that ent would write.
type planCatcher struct{ plan *migrate.Plan }

// Format implements migrate.Formatter.
func (c *planCatcher) Format(plan *migrate.Plan) ([]migrate.File, error) {
	c.plan = plan
	return nil, nil
}

// formatter names and writes a new file as the stock command does, with a
// version later than the directory's last one.
type formatter struct{ dir migrate.Dir }

// Format implements migrate.Formatter.
func (f formatter) Format(plan *migrate.Plan) (_ []migrate.File, err error) {
	next := *plan
	if next.Version, err = nextVersion(f.dir, time.Now()); err != nil {
		return nil, err
	}
	return migrate.DefaultFormatter.Format(&next)
}

// ignoreEqualDefaults ignores defaults that differ only in outer parentheses:
// ent adds them to every SQLite expression, and SQLite reports expressions
// without them.
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

// addIndexedColumns adds a column before its index. If both come at once, Atlas
// creates a new SQLite table, copies the rows and drops the old table, together
// with the triggers and with other tables' rows that a cascade deletes.
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
					column.Indexes = nil // they are separate changes
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
