package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"

	"github.com/credent-go/credent/internal/indextrigger"
)

// Errors of a [Report], to be tested with errors.Is.
var (
	// ErrEdited means that a migration file is not what it was when it was
	// applied, whatever atlas.sum says.
	ErrEdited = errors.New("a migration file was changed after it was applied")

	// ErrDeleted means that the file of an applied migration is missing.
	ErrDeleted = errors.New("the file of an applied migration is missing")

	// ErrDrift means that the database is not what its applied migrations make:
	// somebody changed it in another way.
	ErrDrift = errors.New("the database is not what its migrations make")
)

// ErrCannotCompare means that the role of the connection may not do what
// comparing needs: on Postgres make a schema, which is rolled back.
var ErrCannotCompare = errors.New("cannot compare the tables with the migrations")

// Kind says what a [Finding] is.
type Kind string

// Kinds of findings about the history.
const (
	FilesChanged   Kind = "files_changed"     // the directory does not match its atlas.sum; ErrChanged
	FileEdited     Kind = "file_edited"       // ErrEdited
	FileDeleted    Kind = "file_deleted"      // ErrDeleted
	FileOutOfOrder Kind = "file_out_of_order" // not applied, and older than one that is; ErrOutOfOrder
	FilePending    Kind = "file_pending"      // ErrPending
	FilePartial    Kind = "file_partial"      // ErrPartial
	FileNewer      Kind = "file_newer"        // applied, and newer than all files; ErrNewer
)

// Kinds of findings about the tables and what belongs to them. All are an
// ErrDrift.
const (
	DriftMissing  Kind = "missing"
	DriftExtra    Kind = "extra"
	DriftChanged  Kind = "changed"
	DriftNarrower Kind = "narrower" // a column that takes less than it should
	DriftUnsafe   Kind = "unsafe"   // something that makes row-level security void
)

// errKinds says which error a kind is.
var errKinds = map[Kind]error{
	FilesChanged: ErrChanged, FileEdited: ErrEdited, FileDeleted: ErrDeleted, FileOutOfOrder: ErrOutOfOrder,
	FilePending: ErrPending, FilePartial: ErrPartial, FileNewer: ErrNewer,
	DriftMissing: ErrDrift, DriftExtra: ErrDrift, DriftChanged: ErrDrift, DriftNarrower: ErrDrift,
	DriftUnsafe: ErrDrift,
}

// Finding is one thing that is not as it should be.
type Finding struct {
	Kind Kind
	// Object is what it is about: a file's name, a version that has no file, or
	// such as "column user_accounts.user_id", "policy user_accounts_tenant on
	// user_accounts", "row-level security of user_accounts".
	Object string
	// Detail says more, or is "".
	Detail string
}

// String returns a line for people.
func (f Finding) String() string {
	words := map[Kind]string{
		FilesChanged: "the files do not match atlas.sum", FileEdited: "changed after it was applied",
		FileDeleted: "applied, and the file is missing", FileOutOfOrder: "never applied, and older than the newest " +
			"applied one",
		FilePending: "pending", FilePartial: "applied in part", FileNewer: "applied, and unknown to this version of " +
			"the code",
		DriftMissing: "missing", DriftExtra: "not of the migrations", DriftChanged: "changed",
		DriftNarrower: "narrower than it should be",
		DriftUnsafe:   "unsafe",
	}
	line := f.Object + ": " + words[f.Kind]
	if f.Detail != "" {
		line += ": " + f.Detail
	}
	return line
}

// Report is what [Check] found.
type Report struct {
	// Current is the newest applied version, or "".
	Current string
	// Layout is the database's.
	Layout Layout
	// Findings lists what is wrong: first the history, in the order of
	// versions, then the tables.
	Findings []Finding
	// NotCompared is "" if the tables were compared with the migrations, and
	// otherwise says why that was not possible.
	NotCompared string
}

// Err returns nil if nothing was found and the tables were compared. Otherwise
// the error is, for errors.Is, each of [ErrEdited], [ErrDeleted],
// [ErrOutOfOrder], [ErrPending], [ErrPartial], [ErrNewer], [ErrChanged] and
// [ErrDrift] that applies, or [ErrCannotCompare]. Its text has the first
// finding.
func (r *Report) Err() error {
	if len(r.Findings) == 0 {
		if r.NotCompared != "" {
			return fmt.Errorf("migrate: %w: %s", ErrCannotCompare, r.NotCompared)
		}
		return nil
	}
	return &findingsError{r.Findings}
}

// findingsError is all the errors that a list of findings stands for.
type findingsError struct{ findings []Finding }

// Error implements error.
func (e *findingsError) Error() string {
	first := e.findings[0]
	text := fmt.Sprintf("migrate: %v: %s", errKinds[first.Kind], first)
	switch more := len(e.findings) - 1; more {
	case 0:
	case 1:
		text += " (and 1 more finding)"
	default:
		text += fmt.Sprintf(" (and %d more findings)", more)
	}
	return text
}

// Unwrap returns the error of each finding.
func (e *findingsError) Unwrap() []error {
	var errs []error
	for _, f := range e.findings {
		errs = append(errs, errKinds[f.Kind])
	}
	return errs
}

// Check looks for everything that keeps a database from being just what the
// migration files make of an empty one. It compares the files with the hashes
// that the history has of them, so that an edited file is found also if
// atlas.sum was brought up to date; and it compares the tables of this module
// with those that the applied files make, and with them what stock Atlas does
// not see: policies, row-level security, triggers, functions, and the grants of
// credent_app. Other tables, and comments, owners and the order of columns, are
// not looked at, with one exception: each indexed column that the process knows
// must have the triggers that empty a digest when another writer changes its
// token, in its table, the table's partitions and its INHERITS children. Of the
// options only [Config.Dir] counts.
//
// Nothing is changed: on Postgres the applied files are replayed in a schema of
// their own, in a transaction that is rolled back, which locks no table of the
// database against reading or writing; on SQLite they are replayed in memory.
//
// What is wrong with the database is in the report, whose Err a service may
// return when it starts. The error is about the check itself. With
// [ErrCannotCompare], where the role may not make a schema, the report is there
// too, and has the findings about the history, for which the right to read the
// history table is enough.
func Check(ctx context.Context, db *sql.DB, config Config) (report *Report, err error) {
	cfg, err := config.settings()
	if err != nil {
		return nil, err
	}
	conn, err := connOf(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("migrate: reach the database: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	d, err := dialectOf(ctx, conn)
	if err != nil {
		return nil, err
	}
	report = &Report{}
	dir, err := directoryOf(d)
	if cfg.dir != nil {
		dir, err = loadDir(cfg.dir)
	}
	if dir != nil && errors.Is(err, ErrChanged) {
		report.Findings = append(report.Findings, Finding{
			Kind: FilesChanged, Object: migrate.HashFileName,
			Detail: sumDetail(dir),
		})
	} else if err != nil {
		return nil, err
	}
	tx, err := beginCompare(ctx, conn, d)
	if err != nil {
		return nil, err
	}
	defer tx.rollback()
	of := &layouted{layout: Single}
	if cfg.dir == nil {
		if of, err = readLayout(ctx, conn, d); err != nil {
			return nil, err
		}
	}
	report.Layout = of.layout
	c := &checker{db: db, conn: conn, dialect: d, dir: dir, layout: of, report: report}
	return report, c.run(ctx)
}

// sumDetail names the file that does not match.
func sumDetail(dir migrate.Dir) string {
	var sum *migrate.ChecksumError
	if err := migrate.Validate(dir); errors.As(err, &sum) && sum.File != "" {
		return fmt.Sprintf("%s was %s", sum.File, map[migrate.Reason]string{
			migrate.ReasonAdded: "added", migrate.ReasonEdited: "edited", migrate.ReasonRemoved: "removed",
		}[sum.Reason])
	}
	return ""
}

// checker is one call of [Check].
type checker struct {
	db      *sql.DB
	conn    *sql.Conn
	dialect string
	dir     migrate.Dir
	layout  *layouted
	report  *Report
	made    []string // tables of the files
}

func (c *checker) run(ctx context.Context) error {
	columns, err := located(ctx, c.conn, c.dialect, indexedColumns(nil)) // while search_path is the connection's
	if err != nil {
		return err
	}
	problems, err := indextrigger.Compare(ctx, c.conn, c.dialect, columns)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	audited, err := c.auditFindings(ctx)
	if err != nil {
		return err
	}
	err = c.checkFiles(ctx)
	c.report.Findings = append(c.report.Findings, audited...)
	c.checkTriggers(problems)
	return err
}

// checkFiles looks at the history, and compares the tables with the files.
func (c *checker) checkFiles(ctx context.Context) error {
	revs, err := findRevisions(ctx, c.conn, c.dialect)
	if err != nil {
		return fmt.Errorf("migrate: find the history: %w", err)
	}
	applied, err := revs.ReadRevisions(ctx)
	if err != nil {
		return fmt.Errorf("migrate: read the history: %w", err)
	}
	files, err := c.dir.Files()
	if err != nil {
		return fmt.Errorf("migrate: read the migration files: %w", err)
	}
	if len(applied) > 0 {
		c.report.Current = max(applied[len(applied)-1].Version, c.layout.newest())
	}
	found, err := checkHistory(applied, files)
	if err != nil {
		return err
	}
	found = append(found, c.layout.findings()...)
	spread, err := c.layout.spread(ctx, c.conn)
	if err != nil {
		return err
	}
	slices.SortStableFunc(found,
		func(a, b Finding) int { return strings.Compare(versionOf(a.Object), versionOf(b.Object)) })
	c.report.Findings = slices.Concat(c.report.Findings, found, spread)
	for _, f := range found {
		if f.Kind == FileNewer || f.Kind == FileDeleted {
			c.report.NotCompared = "what version " + f.Object + " did is not known here"
			return nil
		}
	}
	return c.compare(ctx, revs, c.layout.replayed(filesToReplay(applied, files)))
}

// compare replays files and adds what differs to the report.
func (c *checker) compare(ctx context.Context, revs *revisions, files []replayFile) error {
	target, err := newComparer(ctx, c.db, c.conn, revs)
	if err != nil {
		return c.cannotCompare(err)
	}
	defer target.close()
	for _, f := range files {
		if err := target.replay(ctx, f); err != nil {
			return c.cannotCompare(err)
		}
	}
	want, err := target.scratch(ctx)
	if err != nil {
		return c.cannotCompare(err)
	}
	c.made = want.tables()
	have, err := target.actual(ctx, want)
	if err != nil {
		return err
	}
	for _, d := range compareSnapshots(want, have) {
		c.report.Findings = append(c.report.Findings, d.finding())
	}
	c.report.Findings = append(c.report.Findings, have.unsafe...)
	return nil
}

// cannotCompare notes why the tables are not compared. An edited file that does
// not run is no error of the check.
func (c *checker) cannotCompare(err error) error {
	var failed *StatementError
	switch {
	case errors.Is(err, ErrCannotCompare):
		c.report.NotCompared = "the role may not make a schema"
	case errors.As(err, &failed):
		c.report.NotCompared = fmt.Sprintf("%s:%d does not run: %v", failed.File, failed.Line, failed.Err)
		return nil
	}
	return err
}
