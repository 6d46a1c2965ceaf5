package migrate

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"
	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/lockwait"
)

// applier is the state of one [Apply] call.
type applier struct {
	settings
	db      *sql.DB
	conn    *sql.Conn
	dialect string
	dir     migrate.Dir
	waits   *lockwait.Session // on Postgres, while a file runs
}

// work is the pending work on the connection at one moment.
type work struct {
	revs     *revisions
	drv      *driver
	dir      migrate.Dir
	executor *migrate.Executor
	pending  []migrate.File
	layout   *layouted
}

// applyNext applies the first pending file and returns its name, or "" if
// another process applied it first. done means that no file is pending.
func (a *applier) applyNext(ctx context.Context) (name string, done bool, err error) {
	restoreKeys, err := a.suspendForeignKeys(ctx)
	if err != nil {
		return "", false, err
	}
	defer restoreKeys()
	tx, err := a.beginLocked(ctx)
	if err != nil {
		return "", false, err
	}
	defer tx.rollback()
	var w *work
	if err := a.look(ctx, func() (err error) {
		w, err = a.pending(ctx)
		return err
	}); err != nil {
		return "", false, err
	}
	if len(w.pending) == 0 {
		return "", true, tx.commit() // after a baseline at the last file
	}
	file := w.pending[0]
	if w.drv.emptyOnly, err = w.indexesEmptyTables(ctx, file); err != nil {
		return "", false, inFile(file, err)
	}
	if withoutTransaction(file) && !w.drv.emptyOnly {
		// Keep the history table and the baseline written so far, and release
		// the lock.
		if err := tx.commit(); err != nil {
			return "", false, err
		}
		restoreKeys()
		name, err = a.applyWithoutTransaction(ctx)
		return name, false, err
	}
	before, err := a.violations(ctx)
	if err != nil {
		return "", false, inFile(file, err)
	}
	if err := w.run(ctx, file); err != nil {
		return "", false, err
	}
	if err := a.checkForeignKeys(ctx, file, before); err != nil {
		return "", false, err
	}
	if err := tx.commit(); err != nil {
		return "", false, inFile(file, err)
	}
	return file.Name(), false, nil
}

// applyWithoutTransaction applies the first pending file if it asks to run
// without a transaction.
func (a *applier) applyWithoutTransaction(ctx context.Context) (name string, err error) {
	if a.pooled {
		return "", fmt.Errorf("migrate: %w", ErrPooled)
	}
	s, err := a.lockSession(ctx)
	if err != nil {
		return "", err
	}
	defer s.unlock()
	if err := a.limitSession(ctx); err != nil {
		return "", err
	}
	defer a.waits.Reset()
	var w *work
	if err := a.look(ctx, func() error {
		w, err = a.pending(ctx)
		return err
	}); err != nil {
		return "", err
	}
	if len(w.pending) == 0 || !withoutTransaction(w.pending[0]) {
		return "", nil // another process has applied it
	}
	w.drv.session = s
	return w.pending[0].Name(), w.run(ctx, w.pending[0])
}

// pending determines the pending work. If there is any, it creates the history
// table and writes a baseline.
func (a *applier) pending(ctx context.Context) (*work, error) {
	revs, err := findRevisions(ctx, a.conn, a.dialect)
	if err != nil {
		return nil, fmt.Errorf("migrate: find the history: %w", err)
	}
	w := &work{revs: revs, dir: a.dir}
	status, err := statusOf(ctx, revs, a.dir)
	if err != nil {
		return nil, err
	}
	if err := status.newer(); err != nil {
		return nil, err
	}
	if w.layout, err = a.layoutOf(ctx, status); err != nil {
		return nil, err
	}
	beyond := func(version string) bool { return a.target != "" && version > a.target }
	if slices.ContainsFunc(status.Pending, func(name string) bool { return !beyond(versionOf(name)) }) {
		if err := a.newExecutor(ctx, w); err != nil {
			return nil, err
		}
		w.pending, err = w.executor.Pending(ctx)
		if err := pendingError(err); err != nil {
			return nil, err
		}
		w.pending = slices.DeleteFunc(slices.Clone(w.pending), func(f migrate.File) bool { return beyond(f.Version()) })
	}
	if err := a.addLayout(ctx, w, beyond); err != nil {
		return nil, err
	}
	return w, w.partialFirst(status.Partial)
}

// partialFirst moves a partly applied file to the front. The library does so
// only if it is the newest in the history, which it may not be with
// [Config.NonLinear].
func (w *work) partialFirst(version string) error {
	if version == "" || len(w.pending) > 0 && w.pending[0].Version() == version {
		return nil
	}
	files, err := w.dir.Files()
	if err != nil {
		return fmt.Errorf("migrate: read the migration files: %w", err)
	}
	i := slices.IndexFunc(files, func(f migrate.File) bool { return f.Version() == version })
	if i < 0 {
		return fmt.Errorf("migrate: %w: the file of version %s is missing", ErrPartial, version)
	}
	w.pending = slices.DeleteFunc(w.pending, func(f migrate.File) bool { return f.Version() == version })
	w.pending = slices.Insert(w.pending, 0, files[i])
	return nil
}

// pendingError words the library's errors about pending files.
func pendingError(err error) error {
	var (
		notClean   *migrate.NotCleanError
		outOfOrder *migrate.HistoryNonLinearError
		missing    *migrate.MissingMigrationError
	)
	switch {
	case err == nil || errors.Is(err, migrate.ErrNoPendingFiles):
		return nil
	case errors.As(err, &notClean):
		return fmt.Errorf("migrate: %w: %s", ErrNotClean, notClean.Reason)
	case errors.As(err, &outOfOrder):
		var names []string
		for _, f := range outOfOrder.OutOfOrder {
			names = append(names, f.Name())
		}
		return fmt.Errorf("migrate: %w: %s", ErrOutOfOrder, strings.Join(names, ", "))
	case errors.As(err, &missing):
		return fmt.Errorf("migrate: %w: the file of version %s is missing", ErrPartial, missing.Version)
	}
	return fmt.Errorf("migrate: %w", err)
}

// newExecutor opens the library's driver on the connection. It creates the
// history table unless this is a dry run.
func (a *applier) newExecutor(ctx context.Context, w *work) (err error) {
	if w.drv, err = newDriver(a.conn, w.revs); err != nil {
		return err
	}
	w.drv.waits = a.waits
	var history migrate.RevisionReadWriter = readOnly{w.revs}
	if a.dryRun == nil {
		history = w.revs
		if err := w.revs.create(ctx); err != nil {
			return fmt.Errorf("migrate: create the history table: %w", err)
		}
	}
	opts := []migrate.ExecutorOption{migrate.WithOperatorVersion(operatorVersion)}
	if a.baseline != "" {
		opts = append(opts, migrate.WithBaselineVersion(a.baseline))
	}
	if a.allowDirty {
		opts = append(opts, migrate.WithAllowDirty(true))
	}
	if a.nonLinear {
		opts = append(opts, migrate.WithExecOrder(migrate.ExecOrderNonLinear))
	}
	if w.executor, err = migrate.NewExecutor(w.drv, w.dir, history, opts...); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// readOnly is the history during a dry run.
type readOnly struct{ *revisions }

// WriteRevision does nothing.
func (readOnly) WriteRevision(context.Context, *migrate.Revision) error { return nil }

// run executes the rest of a file.
func (w *work) run(ctx context.Context, file migrate.File) error {
	if f, ok := file.(layoutFile); ok {
		return w.runLayout(ctx, f)
	}
	stmts, err := w.statements(file)
	if err != nil {
		return err
	}
	stopped, err := w.resume(ctx, file, stmts)
	if err != nil {
		return err
	}
	if err := w.executor.Execute(ctx, file); err != nil {
		return w.statementError(ctx, file, err, stopped)
	}
	return nil
}

func (w *work) statements(file migrate.File) ([]*migrate.Stmt, error) {
	stmts, err := migrate.FileStmtDecls(w.drv, file)
	if err != nil {
		return nil, fmt.Errorf("migrate: %s: %w", file.Name(), err)
	}
	return stmts, nil
}

// resume prepares the history for a partly applied file. It returns the number
// of recorded statements if the run was stopped without an error, since the
// next statement may have run too, and otherwise -1.
//
// The file may have changed after the recorded statements, to correct the one
// that failed. The library would keep the old number of statements and the old
// hash, and then treat the finished file as a partial one.
func (w *work) resume(ctx context.Context, file migrate.File, stmts []*migrate.Stmt) (stopped int, err error) {
	rev, err := w.revs.ReadRevision(ctx, file.Version())
	if errors.Is(err, migrate.ErrRevisionNotExist) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("migrate: read the history: %w", err)
	}
	hash := sha256.New()
	for i := range rev.Applied {
		if i >= len(stmts) || i >= len(rev.PartialHashes) {
			return -1, fmt.Errorf("migrate: %s: %w: statement %d is missing", file.Name(), ErrHistoryChanged, i+1)
		}
		hash.Write([]byte(stmts[i].Text))
		if "h1:"+base64.StdEncoding.EncodeToString(hash.Sum(nil)) != rev.PartialHashes[i] {
			return -1, fmt.Errorf("migrate: %s:%d: %w: statement %d is another one",
				file.Name(), lineOf(file, stmts[i].Pos), ErrHistoryChanged, i+1)
		}
	}
	sums, err := w.dir.Checksum()
	if err != nil {
		return -1, fmt.Errorf("migrate: %s: %w", file.Name(), err)
	}
	if rev.Hash, err = sums.SumByName(file.Name()); err != nil {
		return -1, fmt.Errorf("migrate: %s: %w", file.Name(), err)
	}
	if stopped = rev.Applied; rev.Error != "" {
		stopped = -1
	}
	if rev.Total = len(stmts); rev.Applied == rev.Total {
		rev.Error, rev.ErrorStmt = "", ""
	}
	if err := w.revs.WriteRevision(ctx, rev); err != nil {
		return -1, fmt.Errorf("migrate: write the history: %w", err)
	}
	return stopped, nil
}

// StatementError says which statement of a file failed, without its text. It
// unwraps to the driver's error.
type StatementError struct {
	File string
	Line int // where the statement begins, from 1
	// Partial means that the file runs without a transaction, so its earlier
	// statements stay; the error is then also an [ErrPartial].
	Partial bool
	// InDoubt means that an earlier run was stopped here, so the statement may
	// fail because it was already done.
	InDoubt bool
	// Invalid names the index that a failed CREATE INDEX CONCURRENTLY left:
	// Postgres maintains it and never uses it. The next Apply drops it and
	// builds it again.
	Invalid string
	Err     error
}

// Error implements error.
func (e *StatementError) Error() string {
	text := fmt.Sprintf("migrate: %s:%d: %v", e.File, e.Line, e.Err)
	switch {
	case e.InDoubt:
		text += "; an earlier run was stopped at this statement and may have done it: if so, undo it and apply again"
	case e.Partial:
		text += "; the statements before it stay: remove the cause and apply again"
	}
	if e.Invalid != "" {
		text += "; it left the index " + e.Invalid + " invalid, which the next run drops and builds again"
	}
	return text
}

// Unwrap returns the driver's error.
func (e *StatementError) Unwrap() error { return e.Err }

// Is reports whether the target is [ErrPartial] and the file was applied in
// part.
func (e *StatementError) Is(target error) bool { return target == ErrPartial && e.Partial }

func (w *work) statementError(ctx context.Context, file migrate.File, err error, stopped int) error {
	var stmtErr *migrate.StmtExecError
	switch {
	case errors.Is(err, ErrPooled):
		return fmt.Errorf("migrate: %s: %w", file.Name(), ErrPooled)
	case !errors.As(err, &stmtErr):
		return fmt.Errorf("migrate: %s: %w", file.Name(), err)
	}
	failed := &StatementError{
		File: file.Name(), Line: lineOf(file, stmtErr.Stmt.Pos), Err: stmtErr.Err,
		Partial: withoutTransaction(file) && !w.drv.emptyOnly,
	}
	if stmts, err := w.statements(file); err == nil && failed.Partial && stopped >= 0 && stopped < len(stmts) {
		failed.InDoubt = stmts[stopped].Pos == stmtErr.Stmt.Pos
	}
	if failed.Partial {
		if names, err := w.drv.invalidIndexes(context.WithoutCancel(ctx), stmtErr.Stmt.Text); err == nil {
			failed.Invalid = strings.Join(names, ", ")
		}
	}
	return failed
}

// lineOf returns the line of a position in a file, from 1.
func lineOf(file migrate.File, pos int) int {
	content := file.Bytes()
	return 1 + strings.Count(string(content[:max(0, min(pos, len(content)))]), "\n")
}

// versionOf returns the version in a file's name.
func versionOf(name string) string {
	version, _, _ := strings.Cut(strings.TrimSuffix(name, ".sql"), "_")
	return version
}

// withoutTransaction reports whether a file has the directive atlas:txmode
// none. It counts only in the comment at the top of the file, followed by a
// blank line.
func withoutTransaction(f migrate.File) bool {
	mode := directives(f, "txmode")
	return len(mode) == 1 && mode[0] == "none"
}

func directives(f migrate.File, name string) []string {
	d, ok := f.(interface{ Directive(string) []string })
	if !ok {
		return nil
	}
	return d.Directive(name)
}

func isSQLite(d string) bool { return d == dialect.SQLite }
