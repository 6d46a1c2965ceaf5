package migrate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"ariga.io/atlas/sql/migrate"
)

// suspendForeignKeys disables SQLite's foreign keys on the connection, as the
// stock command does for each transaction: a file that recreates a table drops
// the old one, and with it other tables' rows that a cascade deletes. Instead,
// [applier.checkForeignKeys] checks them before the commit. restore may be
// called twice.
func (a *applier) suspendForeignKeys(ctx context.Context) (restore func(), err error) {
	restore = func() {}
	if !isSQLite(a.dialect) {
		return restore, nil
	}
	var on bool
	if err := a.conn.QueryRowContext(ctx, "PRAGMA foreign_keys").Scan(&on); err != nil {
		return nil, fmt.Errorf("migrate: read foreign_keys: %w", err)
	}
	if !on {
		return restore, nil
	}
	if _, err := a.conn.ExecContext(ctx, "PRAGMA foreign_keys = off"); err != nil {
		return nil, fmt.Errorf("migrate: set foreign_keys: %w", err)
	}
	return func() {
		if !on {
			return
		}
		on = false
		if _, err := a.conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA foreign_keys = on"); err != nil {
			discard(a.conn)
		}
	}, nil
}

// reference is a foreign key, identified by its two tables.
type reference struct{ table, parent string }

// violations counts an SQLite database's rows with dangling references.
func (a *applier) violations(ctx context.Context) (counts map[reference]int, err error) {
	if !isSQLite(a.dialect) {
		return nil, nil
	}
	rows, err := a.conn.QueryContext(ctx, `SELECT "table", "parent", count(*) FROM pragma_foreign_key_check GROUP BY 1, 2`)
	if err != nil {
		return nil, fmt.Errorf("migrate: check foreign keys: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	counts = make(map[reference]int)
	for rows.Next() {
		var r reference
		var n int
		if err := rows.Scan(&r.table, &r.parent, &n); err != nil {
			return nil, fmt.Errorf("migrate: check foreign keys: %w", err)
		}
		counts[r] = n
	}
	return counts, rows.Err()
}

// checkForeignKeys returns an error if a file created dangling references.
func (a *applier) checkForeignKeys(ctx context.Context, file migrate.File, before map[reference]int) error {
	after, err := a.violations(ctx)
	if err != nil {
		return inFile(file, err)
	}
	byTable := func(a, b reference) int { return strings.Compare(a.table, b.table) }
	for _, r := range slices.SortedFunc(maps.Keys(after), byTable) {
		if n := after[r]; n > before[r] {
			return inFile(file, fmt.Errorf("migrate: %s: rows of %s that refer to no row of %s: %d; "+
				"the file was rolled back: correct them and apply again", file.Name(), r.table, r.parent, n-before[r]))
		}
	}
	return nil
}
