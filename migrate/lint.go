package migrate

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"
	"ariga.io/atlas/sql/postgres"
	_ "ariga.io/atlas/sql/postgres/postgrescheck" // registers the analyzers
	"ariga.io/atlas/sql/sqlcheck"
	"ariga.io/atlas/sql/sqlclient"
	"ariga.io/atlas/sql/sqlite"
	_ "ariga.io/atlas/sql/sqlite/sqlitecheck" // registers the analyzers

	"github.com/credent-go/credent/internal/nilarg"
)

// Severity says what a [Diagnostic] is.
type Severity string

// The severities. An error is what must not be merged as it is.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one finding of [Lint].
type Diagnostic struct {
	File     string   `json:"file"`
	Line     int      `json:"line"` // of the statement, from 1
	Code     string   `json:"code"`
	Name     string   `json:"name"` // of the analyzer
	Text     string   `json:"text"`
	Severity Severity `json:"severity"`
	// Steps are the SQL that does the same without blocking readers and
	// writers, with comments where a new file begins. It may be empty.
	Steps []string `json:"steps,omitempty"`
}

// String returns the diagnostic as compilers print theirs.
func (d Diagnostic) String() string {
	return fmt.Sprintf("%s:%d: %s: %s (%s %s)", d.File, d.Line, d.Severity, d.Text, d.Name, d.Code)
}

// LintOptions say which files [Lint] reports on. Those before are replayed
// only. The zero value means all files.
type LintOptions struct {
	Since  string // the version of the last file that is released and not to be reported on
	Latest int    // the number of the newest files to report on; 0 and less mean all
	// Layout replays the layout's files among the others, so that a file which
	// its tables refuse is found: an index built CONCURRENTLY on the whole of a
	// partitioned table, or a unique one without the tenant. The directory must
	// be the module's own. "" means [Single].
	Layout Layout
}

// Lint looks at what each statement of the files in a migration directory
// changes, and returns what is dangerous, by file and line: the findings of
// Atlas's analyzers, under their names and codes, and these:
//
//	encrypted_column  CT101 an encrypted column is dropped, CT102 made too
//	                  short for its tokens, CT103 of another type, CT104
//	                  indexed, CT105 without its CHECK that it holds tokens
//	                  only, CT108 it, its table or its blind index is renamed,
//	                  also by drop and add or by a table made anew, and the
//	                  ent schema doesn't declare that (WasNamed,
//	                  TableWasNamed); only a process that imports the
//	                  generated package knows; CT109 a plaintext column of
//	                  another type is cast to an encrypted one
//	row_security      CT106 row-level security is taken away
//	index_trigger     CT107 a blind index has no triggers that empty a digest
//	                  when another writer changes its token; reported on the
//	                  last file, for the indexed columns that the process
//	                  knows
//	concurrent_index  CT201 an index is made on a table that may have rows,
//	                  and blocks writes to it
//	blocking          CT301 a CHECK or foreign key reads all rows at once,
//	                  CT302 SET NOT NULL does, CT303 VALIDATE does under a
//	                  lock of the same file, CT304 a table is rewritten, CT305
//	                  a constraint builds its index, CT306 LOCK TABLE, CT307
//	                  an index is built anew
//	several_locks     CT308 a transaction locks readers out of several tables
//	                  (a warning)
//	txmode            CT202 a statement needs atlas:txmode none, CT203 the
//	                  directive does not count
//	rename            CT204 a rename is written as drop and add
//	repeatable        CT205 a statement of a file without a transaction cannot
//	                  be repeated after a crash (a warning)
//	file_name         CT206 a file is not named VERSION_name.sql
//
// CT201, blocking and several_locks are about tables of earlier
// files on Postgres, and have the steps that do the same beside readers and
// writers. They look at what the statement does to the dev database, so they
// see what is in a DO block too.
//
// A comment "-- atlas:nolint NAME" directly above a statement, with names or
// codes, leaves findings out; for a file it stands in the comment at the top
// with a blank line after it. For concurrent_index a reason must follow the
// name.
//
// The files are run on dev, an empty database of their dialect, which is left
// empty but for functions and roles: use a throw-away one. Errors:
// [ErrChanged], [ErrUnknownVersion], and [*StatementError] where a file does
// not run.
func Lint(ctx context.Context, dev *sql.DB, dir fs.FS, opts LintOptions) (found []Diagnostic, err error) {
	if err := opts.Layout.check(); err != nil {
		return nil, err
	}
	l, err := newLinter(ctx, dev, dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := l.close(); err == nil {
			err = closeErr
		}
	}()
	skip, err := opts.skip(l.files)
	if err != nil {
		return nil, err
	}
	layout, err := opts.Layout.files()
	if err != nil {
		return nil, err
	}
	if len(layout) > 0 && isSQLite(l.dialect) {
		return nil, fmt.Errorf("migrate: %w: %s is one of Postgres", ErrLayoutRefused, opts.Layout)
	}
	for i, f := range l.files {
		for len(layout) > 0 && layout[0].Version() < f.Version() {
			if err := l.replay(ctx, layout[0]); err != nil {
				return nil, err
			}
			layout = layout[1:]
		}
		if i < skip {
			if err := l.replay(ctx, f); err != nil {
				return nil, err
			}
			continue
		}
		diagnostics, err := l.lint(ctx, f)
		if err != nil {
			return nil, err
		}
		found = append(found, diagnostics...)
	}
	for _, f := range layout {
		if err := l.replay(ctx, f); err != nil {
			return nil, err
		}
	}
	if skip == len(l.files) {
		return found, nil
	}
	diagnostics, err := l.lintTriggers(ctx)
	return append(found, diagnostics...), err
}

// skip returns how many files are not reported on.
func (o LintOptions) skip(files []migrate.File) (int, error) {
	skip := 0
	if o.Latest > 0 {
		skip = max(0, len(files)-o.Latest)
	}
	if o.Since == "" {
		return skip, nil
	}
	i := slices.IndexFunc(files, func(f migrate.File) bool { return f.Version() == o.Since })
	if i < 0 {
		return 0, fmt.Errorf("migrate: %w: %s", ErrUnknownVersion, o.Since)
	}
	return max(skip, i+1), nil
}

// linter is one call of [Lint].
type linter struct {
	files     []migrate.File
	conn      *sql.Conn
	client    *sqlclient.Client
	scanner   *driver // knows the statements of a file as Apply does
	analyzers []sqlcheck.Analyzer
	restore   migrate.RestoreFunc
	dialect   string
	seen      *seen // on Postgres, of the file that is looked at
}

func newLinter(ctx context.Context, dev *sql.DB, fsys fs.FS) (_ *linter, err error) {
	if err := errors.Join(nilarg.Check("the dev database", dev), nilarg.Check("the directory", fsys)); err != nil {
		return nil, fmt.Errorf("migrate: lint: %w", err)
	}
	dir, err := loadDir(fsys)
	if err != nil {
		return nil, err
	}
	l := &linter{seen: &seen{}}
	if l.files, err = dir.Files(); err != nil {
		return nil, fmt.Errorf("migrate: read the migration files: %w", err)
	}
	if l.conn, err = dev.Conn(ctx); err != nil {
		return nil, fmt.Errorf("migrate: reach the dev database: %w", err)
	}
	defer func() {
		if err != nil {
			_ = l.conn.Close()
		}
	}()
	d, err := dialectOf(ctx, l.conn)
	if err != nil {
		return nil, err
	}
	l.dialect = d
	if l.scanner, err = newDriver(l.conn, &revisions{dialect: d}); err != nil {
		return nil, err
	}
	l.client = &sqlclient.Client{
		Name: postgres.DriverName, URL: &sqlclient.URL{URL: &url.URL{}}, Driver: l.scanner.Driver,
	}
	if isSQLite(d) {
		l.client.Name = sqlite.DriverName
	}
	if l.analyzers, err = sqlcheck.AnalyzerFor(l.client.Name, nil); err != nil {
		return nil, fmt.Errorf("migrate: lint: %w", err)
	}
	l.analyzers = append(l.analyzers, l.rules(d)...)
	if l.restore, err = l.client.Snapshot(ctx); err != nil {
		return nil, fmt.Errorf("migrate: the dev database: %w", err)
	}
	return l, nil
}

func (l *linter) close() error {
	err := l.restore(context.Background())
	if closeErr := l.conn.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("migrate: clean up the dev database: %w", err)
	}
	return nil
}

// lint runs a file and all analyzers on what it changed.
func (l *linter) lint(ctx context.Context, f migrate.File) ([]Diagnostic, error) {
	file, stmts, err := l.load(ctx, f)
	if err != nil {
		return nil, err
	}
	exceptions := exceptionsOf(f, stmts)
	var found []Diagnostic
	for _, analyzer := range l.analyzers {
		r := &reporter{file: f, exceptions: exceptions}
		if named, ok := analyzer.(sqlcheck.NamedAnalyzer); ok {
			r.name = named.Name()
		}
		err := analyzer.Analyze(ctx, &sqlcheck.Pass{File: file, Dev: l.client, Reporter: r})
		switch {
		case err != nil && !r.reported:
			return nil, fmt.Errorf("migrate: lint %s: %w", f.Name(), err)
		case err != nil: // how an analyzer says that its findings are errors
			r.raise()
		}
		found = append(found, r.found...)
	}
	slices.SortStableFunc(found, func(a, b Diagnostic) int { return cmp.Compare(a.Line, b.Line) })
	return found, nil
}

// reporter takes what one analyzer reports on a file.
type reporter struct {
	file       migrate.File
	name       string
	exceptions exceptions
	reported   bool
	found      []Diagnostic
}

// WriteReport implements sqlcheck.ReportWriter.
func (r *reporter) WriteReport(report sqlcheck.Report) {
	for _, d := range report.Diagnostics {
		r.reported = true
		if r.exceptions.cover(d.Pos, r.name, d.Code) {
			continue
		}
		r.found = append(r.found, Diagnostic{
			File: r.file.Name(), Line: lineOf(r.file, d.Pos), Code: d.Code, Name: r.name, Text: d.Text,
			Severity: SeverityWarning, Steps: stepsOf(d),
		})
	}
}

func (r *reporter) raise() {
	for i := range r.found {
		r.found[i].Severity = SeverityError
	}
}

// exceptions are the nolint directives of a file, by the position of the
// statement they are for. Those at allPositions are for the whole file.
type exceptions map[int][]string

const allPositions = -1

func exceptionsOf(f migrate.File, stmts []*migrate.Stmt) exceptions {
	e := exceptions{allPositions: directives(f, "nolint")}
	for _, stmt := range stmts {
		e[stmt.Pos] = append(e[stmt.Pos], stmt.Directive("nolint")...)
	}
	return e
}

// cover reports whether a finding is to be left out.
func (e exceptions) cover(pos int, name, code string) bool {
	return slices.ContainsFunc(slices.Concat(e[pos], e[allPositions]), func(directive string) bool {
		words := strings.Fields(directive)
		if len(words) == 0 {
			return name != ruleConcurrentIndex
		}
		named := slices.Contains(words, name) || slices.Contains(words, code)
		return named && (name != ruleConcurrentIndex || len(words) > 1)
	})
}
