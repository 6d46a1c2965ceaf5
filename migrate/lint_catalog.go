package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"ariga.io/atlas/sql/migrate"
)

// catalog is a snapshot of the Postgres catalog, by OID. Atlas doesn't see
// whether a table was rewritten or a constraint validated.
type catalog struct {
	tables      map[int64]catalogTable
	columns     map[[2]int64]catalogColumn // by table and column number
	constraints map[int64]catalogConstraint
	indexes     map[int64]catalogIndex
}

type catalogTable struct {
	name string // qualified, quoted if necessary
	file int64  // changes when the table is rewritten
	view bool   // a materialized view
}

type catalogColumn struct {
	name      string // quoted if necessary
	typ       string
	expr      string // the default's or generation's expression
	generated bool
	identity  bool
	notNull   bool
}

type catalogConstraint struct {
	table, other, index int64 // other is a foreign key's target
	name                string
	kind                string // c, f, p, u or x
	valid               bool
	definition          string
}

type catalogIndex struct {
	table      int64
	name       string
	file       int64
	definition string
	valid      bool
}

// ofUsers is a condition for user namespaces.
const ofUsers = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"

func readCatalog(ctx context.Context, conn *sql.Conn) (*catalog, error) {
	c := &catalog{
		tables: make(map[int64]catalogTable), columns: make(map[[2]int64]catalogColumn),
		constraints: make(map[int64]catalogConstraint), indexes: make(map[int64]catalogIndex),
	}
	err := errors.Join(
		eachRow(ctx, conn, `SELECT c.oid::bigint, c.oid::regclass::text, COALESCE(pg_relation_filenode(c.oid)::bigint, 0), c.relkind = 'm'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'm') AND `+ofUsers,
			func(scan func(...any) error) error {
				var id int64
				var t catalogTable
				err := scan(&id, &t.name, &t.file, &t.view)
				c.tables[id] = t
				return err
			}),
		eachRow(ctx, conn, `SELECT a.attrelid::bigint, a.attnum::bigint, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
COALESCE(pg_get_expr(d.adbin, d.adrelid), ''), a.attgenerated <> '', a.attidentity <> '',
a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND NOT k.convalidated AND a.attnum = ANY (k.conkey))
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND `+ofUsers,
			func(scan func(...any) error) error {
				var id [2]int64
				var k catalogColumn
				err := scan(&id[0], &id[1], &k.name, &k.typ, &k.expr, &k.generated, &k.identity, &k.notNull)
				c.columns[id] = k
				return err
			}),
		eachRow(ctx, conn, `SELECT k.oid::bigint, k.conrelid::bigint, k.confrelid::bigint, k.conindid::bigint, quote_ident(k.conname), k.contype::text,
k.convalidated, pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
WHERE k.conrelid <> 0 AND k.contype IN ('c', 'f', 'p', 'u', 'x') AND k.conislocal AND k.conparentid = 0 AND `+ofUsers,
			func(scan func(...any) error) error {
				var id int64
				var k catalogConstraint
				err := scan(&id, &k.table, &k.other, &k.index, &k.name, &k.kind, &k.valid, &k.definition)
				c.constraints[id] = k
				return err
			}),
		eachRow(ctx, conn, `SELECT i.indexrelid::bigint, i.indrelid::bigint, i.indexrelid::regclass::text,
COALESCE(pg_relation_filenode(i.indexrelid)::bigint, 0), pg_get_indexdef(i.indexrelid), i.indisvalid
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE `+ofUsers,
			func(scan func(...any) error) error {
				var id int64
				var x catalogIndex
				err := scan(&id, &x.table, &x.name, &x.file, &x.definition, &x.valid)
				c.indexes[id] = x
				return err
			}),
	)
	if err != nil {
		return nil, fmt.Errorf("migrate: look at the dev database: %w", err)
	}
	return c, nil
}

func eachRow(ctx context.Context, conn *sql.Conn, query string, f func(scan func(...any) error) error) (err error) {
	rows, err := conn.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// lockMode is a lock mode that blocks writers; the strongest ones also block
// readers.
type lockMode string

const (
	accessExclusive lockMode = "AccessExclusiveLock"
	exclusive       lockMode = "ExclusiveLock"
	shareRow        lockMode = "ShareRowExclusiveLock"
	share           lockMode = "ShareLock"
)

// keepsOut says whom a lock blocks.
func (m lockMode) keepsOut() string {
	if m == accessExclusive {
		return "nobody else reads or writes"
	}
	return "nobody else writes"
}

// observation is a statement's effect on a Postgres dev database.
type observation struct {
	before, after *catalog
	locks         map[int64]lockMode // table locks held until the end of the transaction
}

// heldLocks returns the connection's locks that block others, in the current
// transaction.
func heldLocks(ctx context.Context, conn *sql.Conn) (map[int64]lockMode, error) {
	locks := make(map[int64]lockMode)
	err := eachRow(ctx, conn, `SELECT l.relation::bigint, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p', 'm')
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')`,
		func(scan func(...any) error) error {
			var id int64
			var mode string
			err := scan(&id, &mode)
			if locks[id] != accessExclusive {
				locks[id] = lockMode(mode)
			}
			return err
		})
	return locks, err
}

// execObserved runs a statement as Apply does, in a transaction unless the file
// disables it, and returns the locks taken in the transaction.
func (l *linter) execObserved(
	ctx context.Context, f migrate.File, stmt *migrate.Stmt,
) (locks map[int64]lockMode, err error) {
	failed := func(err error) error { return &StatementError{File: f.Name(), Line: lineOf(f, stmt.Pos), Err: err} }
	if isSQLite(l.dialect) || withoutTransaction(f) || noTransaction.MatchString(code(stmt)) {
		if _, err := l.conn.ExecContext(ctx, stmt.Text); err != nil {
			return nil, failed(err)
		}
		return nil, nil
	}
	tx, err := beginWith(ctx, l.conn, "BEGIN")
	if err != nil {
		return nil, err
	}
	defer tx.rollback()
	if _, err := l.conn.ExecContext(ctx, stmt.Text); err != nil {
		return nil, failed(err)
	}
	if locks, err = heldLocks(ctx, l.conn); err != nil {
		return nil, fmt.Errorf("migrate: lint %s: %w", f.Name(), err)
	}
	return locks, tx.commit()
}
