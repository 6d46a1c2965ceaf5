package migrate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"

	"github.com/credent-go/credent/internal/dberror"
)

// layoutOf determines the layout that the database should have. status is the
// history's.
func (a *applier) layoutOf(ctx context.Context, status *Status) (*layouted, error) {
	if a.settings.dir != nil { // other directories have no layouts
		return &layouted{layout: Single}, nil
	}
	of, err := readLayout(ctx, a.conn, a.dialect)
	if err != nil {
		return nil, err
	}
	if unknown := of.unknown(); len(unknown) > 0 {
		return nil, fmt.Errorf("migrate: %w: it has version %s of layout %s", ErrNewer, unknown[0], of.layout)
	}
	switch {
	case a.layout == "" || a.layout == of.layout:
		return of, nil
	case of.chosen:
		return nil, fmt.Errorf("migrate: %w: it is %s, and %s was requested; leave that out, or move the rows to a "+
			"new database", ErrLayoutMismatch, of.layout, a.layout)
	case isSQLite(a.dialect):
		return nil, fmt.Errorf("migrate: %w: %s is a Postgres layout", ErrLayoutRefused, a.layout)
	}
	of.layout = a.layout
	if of.files, err = of.layout.files(); err != nil {
		return nil, err
	}
	return of, a.checkLayout(ctx, of, status)
}

// minPartitioned is the first Postgres version in which moving a row to another
// partition counts as an update for foreign keys. Earlier versions delete the
// row, and with an account all of its credentials.
const minPartitioned = 15

// checkLayout refuses a layout that the database can't change to.
func (a *applier) checkLayout(ctx context.Context, of *layouted, status *Status) error {
	if of.layout == Citus {
		return checkCitus(ctx, a.conn)
	}
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("migrate: %w: "+format, append([]any{ErrLayoutRefused}, args...)...)
	}
	var version int
	if err := a.conn.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::int / 10000").
		Scan(&version); err != nil {
		return fmt.Errorf("migrate: ask for the server's version: %w", err)
	}
	if version < minPartitioned {
		return refuse("%s needs Postgres %d, and the server is %d", of.layout, minPartitioned, version)
	}
	first := of.files[0].Version()
	if newest := status.Current(); newest > first {
		return refuse("%s is chosen by the first migrations, and the database is beyond them, at %s: move the rows "+
			"to a new one", of.layout, newest)
	}
	for _, table := range layoutTables {
		var there, some bool
		if err := a.conn.QueryRowContext(ctx, "SELECT to_regclass($1::text) IS NOT NULL", table).
			Scan(&there); err != nil {
			return fmt.Errorf("migrate: look for %s: %w", table, err)
		}
		if !there {
			continue
		}
		if err := a.conn.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+quote(table)+")").
			Scan(&some); err != nil {
			return fmt.Errorf("migrate: look for rows of %s: %w", table, err)
		}
		if some {
			return refuse("%s has rows, and is made anew by %s: make a new database with it, and move the rows there "+
				"(docs/schema.md, under Layouts)", table, of.layout)
		}
	}
	return nil
}

// layoutTables are the tables that a layout changes.
var layoutTables = []string{"user_accounts", "user_credentials"}

// addLayout inserts the layout's pending files and records the choice of a
// layout.
func (a *applier) addLayout(ctx context.Context, w *work, beyond func(string) bool) error {
	of := w.layout
	if !of.chosen && of.layout != Single && a.dryRun == nil {
		if err := of.choose(ctx, a.conn); err != nil {
			return err
		}
	}
	some := false
	for _, f := range of.pending() {
		if !beyond(f.Version()) {
			w.pending, some = append(w.pending, f), true
		}
	}
	if !some {
		return nil
	}
	if w.drv == nil {
		drv, err := newDriver(a.conn, w.revs)
		if err != nil {
			return err
		}
		drv.waits = a.waits
		w.drv = drv
	}
	slices.SortStableFunc(w.pending, func(a, b migrate.File) int { return strings.Compare(a.Version(), b.Version()) })
	return nil
}

// runLayout runs a layout's file and records it.
func (w *work) runLayout(ctx context.Context, f layoutFile) error {
	stmts, err := w.statements(f)
	if err != nil {
		return err
	}
	for _, stmt := range stmts {
		if _, err := w.drv.ExecContext(ctx, stmt.Text); err != nil {
			err = &StatementError{File: f.Name(), Line: lineOf(f, stmt.Pos), Err: err}
			if dberror.State(err) == layoutEmpty {
				return fmt.Errorf("migrate: %w: %w", ErrLayoutRefused, err)
			}
			return err
		}
	}
	return w.layout.record(ctx, w.drv.conn, layoutRevision{version: f.Version(), description: f.Desc(), hash: f.hash})
}
