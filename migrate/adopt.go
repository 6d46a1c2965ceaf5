package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ariga.io/atlas/sql/migrate"
)

// Errors of [Adopt], to be tested with errors.Is.
var (
	// ErrNotEqual means that the tables are not those that the first migration
	// makes. The report says what differs.
	ErrNotEqual = errors.New("the tables are not those that the first migration makes")

	// ErrBadRows means that tables have rows that a later migration refuses,
	// such as plaintext where a token should be.
	ErrBadRows = errors.New("there are rows that a later migration refuses")

	// ErrNothingToAdopt means that the database has none of the tables that the
	// first migration makes. [Apply] makes them.
	ErrNothingToAdopt = errors.New("there are no tables to adopt")
)

// AdoptReport is what [Adopt] found and did.
type AdoptReport struct {
	// Already means that the database has a migration history, so that nothing
	// was done.
	Already bool
	// Version is the one that was marked as the baseline, or with Already the
	// newest applied one. It is "" if the database was refused.
	Version string
	// Differences from what the first migration makes, in an order in which
	// their SQL can be run. Any is an [ErrNotEqual].
	Differences []Difference
	// Equal is a later version whose tables the database has exactly, and
	// "" if there is none. It is looked for where there are differences: a
	// database that was migrated and has lost its history, as in a dump of one
	// schema, is taken over with [Config.Baseline].
	Equal string
	// BadRows are what a later migration refuses. Any is an [ErrBadRows],
	// except with [Config.AdoptOnly].
	BadRows []BadRows
	// Applied lists the files that were applied after the baseline was marked.
	Applied []string
}

// Difference is a finding with what mends it.
type Difference struct {
	Finding
	// SQL are statements that make the database as it should be and neither
	// change a stored secret nor destroy data. Each is run by itself, outside
	// of a transaction, and none reads rows or builds an index while a service
	// must wait; with a lock_timeout none makes it wait for its turn either.
	// They fail where the rows do not allow it. There are none where that is
	// not possible, or where one must know the data's meaning.
	SQL []string
	// Note says why there is no SQL, or what to know about it. It may be "".
	Note string
}

// BadRows counts the rows of a table that break a constraint which a later
// migration adds.
type BadRows struct {
	Table, Constraint string
	Rows              int64
}

// String returns a line for people.
func (b BadRows) String() string {
	return fmt.Sprintf("table %s: rows that %s refuses: %d", b.Table, b.Constraint, b.Rows)
}

// Adopt takes over a database that the Python application made, with tables and
// without a migration history. It compares the tables with those that the first
// migration makes, the way [Check] does. If they are equal, and their rows are
// such that the other migrations will succeed, it marks the first migration as
// the baseline, as stock Atlas does, and applies the others as [Apply] does
// with the same options, unless told [Config.AdoptOnly]. Tables of others are
// left alone. On a database with a history it does nothing.
//
// After [ErrNotEqual], [ErrBadRows] and [ErrNothingToAdopt] the database is as
// it was, and the report says why. Other errors: [ErrCannotCompare],
// [ErrLocked], [*LockError]; and Apply's errors, after which the baseline
// stays, so that Apply goes on.
func Adopt(ctx context.Context, db *sql.DB, config Config) (*AdoptReport, error) {
	cfg, err := config.settings()
	if err != nil {
		return nil, err
	}
	if cfg.baseline != "" || cfg.dryRun != nil {
		return nil, errors.New("migrate: Adopt takes neither Baseline nor DryRun")
	}
	report, err := adoptBaseline(ctx, db, cfg)
	if err != nil || report.Already || cfg.adoptOnly {
		return report, err
	}
	config.Progress = func(name string) {
		report.Applied = append(report.Applied, name)
		cfg.onFile(name)
	}
	return report, Apply(ctx, db, config)
}

func adoptBaseline(ctx context.Context, db *sql.DB, cfg *settings) (report *AdoptReport, err error) {
	conn, err := connOf(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("migrate: reach the database: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	d, err := dialectOf(ctx, conn)
	if err != nil {
		return nil, err
	}
	dir, err := cfg.directory(d)
	if err != nil {
		return nil, err
	}
	a := &adopter{applier: applier{settings: *cfg, db: db, conn: conn, dialect: d, dir: dir}}
	restore, err := a.limitBusy(ctx)
	if err != nil {
		return nil, err
	}
	defer restore()
	err = a.retry(ctx, func() error {
		a.report, a.replayed = nil, false
		tx, err := a.beginLocked(ctx)
		if err != nil {
			return err
		}
		defer tx.rollback()
		a.report = &AdoptReport{}
		if err := a.look(ctx, func() error { return a.run(ctx) }); err != nil {
			return err
		}
		return tx.commit()
	})
	return a.report, err
}

// adopter is one call of [Adopt], in a transaction with the lock.
type adopter struct {
	applier
	report *AdoptReport
	revs   *revisions
	files  []migrate.File

	replayed bool // all files
}

func (a *adopter) run(ctx context.Context) (err error) {
	if a.revs, err = findRevisions(ctx, a.conn, a.dialect); err != nil {
		return fmt.Errorf("migrate: find the history: %w", err)
	}
	applied, err := a.revs.ReadRevisions(ctx)
	if err != nil {
		return fmt.Errorf("migrate: read the history: %w", err)
	}
	if n := len(applied); n > 0 {
		a.report.Already, a.report.Version = true, applied[n-1].Version
		return nil
	}
	if a.files, err = a.dir.Files(); err != nil {
		return fmt.Errorf("migrate: read the migration files: %w", err)
	}
	if len(a.files) == 0 {
		return fmt.Errorf("migrate: %w: there are no migrations", ErrNothingToAdopt)
	}
	if _, err := a.conn.ExecContext(ctx, "SAVEPOINT credent_adopt"); err != nil {
		return fmt.Errorf("migrate: savepoint: %w", err)
	}
	if err := a.compare(ctx); err != nil {
		return err
	}
	if _, err := a.conn.ExecContext(ctx, "ROLLBACK TO SAVEPOINT credent_adopt"); err != nil {
		return fmt.Errorf("migrate: roll back to the savepoint: %w", err)
	}
	return a.markBaseline(ctx)
}

// compare returns nil if the database can be adopted.
func (a *adopter) compare(ctx context.Context) error {
	c, err := newComparer(ctx, a.db, a.conn, a.revs)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.replay(ctx, replayFile{a.files[0], -1}); err != nil {
		return err
	}
	first, err := c.scratch(ctx)
	if err != nil {
		return err
	}
	have, err := c.actual(ctx, first)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(first.tables(), func(name string) bool { return have.has(itemKey{classTable, name, ""}) }) {
		return fmt.Errorf("migrate: %w: none of %s is there", ErrNothingToAdopt, strings.Join(first.ours(), ", "))
	}
	differences := a.withoutEarly(ctx, c, compareSnapshots(first, have), have)
	if len(differences) > 0 {
		a.report.Differences = c.mend(differences, first, have)
		a.report.Equal = a.findEqual(ctx, c)
		return fmt.Errorf("migrate: %w: %s", ErrNotEqual, a.report.Differences[0].Finding)
	}
	return a.checkRows(ctx, c, first)
}

// withoutEarly takes away the columns that the database has before the
// migrations that add them, and has as they do: the Go client needs some of
// them sooner. Those migrations say IF NOT EXISTS; of one that does not, Apply
// will say what is wrong.
func (a *adopter) withoutEarly(ctx context.Context, c comparer, differences []difference, have *snapshot) []difference {
	isEarly := func(d difference) bool { return d.class == classColumn && d.kind == DriftExtra }
	if !slices.ContainsFunc(differences, isEarly) ||
		slices.ContainsFunc(differences, func(d difference) bool { return !isEarly(d) }) {
		return differences
	}
	if err := a.replayOthers(ctx, c); err != nil {
		return differences
	}
	last, err := c.scratch(ctx)
	if err != nil {
		return differences
	}
	return slices.DeleteFunc(differences, func(d difference) bool {
		return last.has(d.itemKey) && slices.Equal(last.items[d.itemKey], have.items[d.itemKey])
	})
}

// replayOthers replays the files after the first, once.
func (a *adopter) replayOthers(ctx context.Context, c comparer) error {
	if a.replayed {
		return nil
	}
	for _, f := range a.files[1:] {
		if err := c.replay(ctx, replayFile{f, -1}); err != nil {
			return err
		}
	}
	a.replayed = true
	return nil
}

// findEqual returns the later version that the database is equal to, if there
// is one.
func (a *adopter) findEqual(ctx context.Context, c comparer) string {
	if a.replayed {
		return ""
	}
	for _, f := range a.files[1:] {
		if err := c.replay(ctx, replayFile{f, -1}); err != nil {
			return "" // the answer is only of use where the files run
		}
		want, err := c.scratch(ctx)
		if err != nil {
			return ""
		}
		have, err := c.actual(ctx, want)
		if err != nil {
			return ""
		}
		if len(compareSnapshots(want, have)) == 0 {
			return f.Version()
		}
	}
	return ""
}

// checkRows replays the other files and looks for rows that break a constraint
// they add.
func (a *adopter) checkRows(ctx context.Context, c comparer, first *snapshot) error {
	if err := a.replayOthers(ctx, c); err != nil {
		if a.adoptOnly {
			return nil
		}
		return fmt.Errorf("migrate: nothing was adopted, for a later migration would fail: %w", err)
	}
	last, err := c.scratch(ctx)
	if err != nil {
		return err
	}
	for _, d := range compareSnapshots(last, first) {
		if d.class != classConstraint || d.kind != DriftMissing {
			continue
		}
		n, err := c.refused(ctx, d)
		if err != nil {
			return fmt.Errorf("migrate: count the rows that %s refuses: %w", d.name, err)
		}
		if n > 0 {
			a.report.BadRows = append(a.report.BadRows, BadRows{d.table, d.name, n})
		}
	}
	if len(a.report.BadRows) > 0 && !a.adoptOnly {
		return fmt.Errorf("migrate: %w: %s", ErrBadRows, a.report.BadRows[0])
	}
	return nil
}

// markBaseline writes the row that stock Atlas writes for a baseline.
func (a *adopter) markBaseline(ctx context.Context) error {
	if err := a.revs.create(ctx); err != nil {
		return fmt.Errorf("migrate: create the history table: %w", err)
	}
	f := a.files[0]
	if err := a.revs.WriteRevision(ctx, &migrate.Revision{
		Version: f.Version(), Description: f.Desc(), Type: migrate.RevisionTypeBaseline,
		ExecutedAt: time.Now(), OperatorVersion: operatorVersion,
	}); err != nil {
		return fmt.Errorf("migrate: mark the baseline: %w", err)
	}
	a.report.Version = f.Version()
	return nil
}
