package migrate

import (
	"context"

	"ariga.io/atlas/sql/migrate"

	"github.com/credent-go/credent/internal/sqldialect"
)

// indexesEmptyTables reports whether a file without a transaction only builds
// indexes CONCURRENTLY on empty tables. Nobody waits for such an index, so the
// file runs in a transaction: then it also works through a pooler in
// transaction mode, as on a new database.
func (w *work) indexesEmptyTables(ctx context.Context, file migrate.File) (bool, error) {
	if !withoutTransaction(file) || isSQLite(w.revs.dialect) {
		return false, nil
	}
	stmts, err := w.statements(file)
	if err != nil {
		return false, err
	}
	for _, stmt := range stmts {
		m := concurrentIndex.FindStringSubmatch(stmt.Text)
		if m == nil {
			return false, nil
		}
		if left, err := w.drv.invalidIndexes(ctx, stmt.Text); err != nil || len(left) > 0 {
			return false, err
		}
		for _, query := range []string{
			"SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE oid = to_regclass(" + sqldialect.Literal(m[2]) +
				") AND relkind = 'r')",
			"SELECT NOT EXISTS (SELECT 1 FROM " + m[2] + ")",
		} {
			var yes bool
			if err := w.drv.conn.QueryRowContext(ctx, query).Scan(&yes); err != nil || !yes {
				return false, err
			}
		}
	}
	return len(stmts) > 0, nil
}
