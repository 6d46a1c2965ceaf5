package canary

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/sqldialect"
)

// DB is a database, reached by a connection or a pool.
type DB struct {
	On     dialect.ExecQuerier
	SQLite bool
}

// Of returns the database of a pool or connection, with its dialect.
func Of(ctx context.Context, db interface {
	entsql.ExecQuerier
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
},
) (DB, error) {
	d, err := sqldialect.Of(ctx, db)
	if err != nil {
		return DB{}, err
	}
	return DB{On: entsql.Conn{ExecQuerier: db}, SQLite: d == dialect.SQLite}, nil
}

// named returns a column as the database names it: ent omits schemas on SQLite.
func (db DB) named(of column.Column) column.Column {
	if db.SQLite {
		return of.InSchema("")
	}
	return of
}

// query calls scan for each row of a result.
func (db DB) query(
	ctx context.Context, scan func(scan func(dest ...any) error) error, query string, args ...any,
) (err error) {
	rows := &entsql.Rows{}
	if err := db.On.Query(ctx, query, append([]any{}, args...), rows); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// table is a table's entry in the catalog, for this role.
type table struct {
	columns map[string]bool // by name: whether the role may read it
	key     []string        // columns of the primary key, in order
	hidden  bool            // row-level security applies to the role
}

// The catalog is read first, since a failed query would abort the caller's
// transaction.
const (
	postgresCatalog = `SELECT a.attname, has_column_privilege(a.attrelid, a.attnum, 'SELECT'), row_security_active(a.attrelid),
		coalesce((SELECT s.n + 1 FROM generate_series(0, i.indnkeyatts - 1) AS s (n) WHERE i.indkey[s.n] = a.attnum), 0)
	FROM pg_catalog.pg_attribute AS a LEFT JOIN pg_catalog.pg_index AS i ON i.indrelid = a.attrelid AND i.indisprimary
	WHERE a.attrelid = to_regclass($1::text)::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 4`
	sqliteCatalog = `SELECT name, true, false, pk FROM pragma_table_info(?) ORDER BY 4`
)

// describe reads the catalog. A missing table has no columns.
func (db DB) describe(ctx context.Context, schema, name string) (table, error) {
	query, arg := postgresCatalog, column.QuoteTable(schema, name)
	if db.SQLite {
		query, arg = sqliteCatalog, name
	}
	t := table{columns: make(map[string]bool)}
	err := db.query(ctx, func(scan func(...any) error) error {
		var (
			name             string
			readable, hidden bool
			place            int
		)
		if err := scan(&name, &readable, &hidden, &place); err != nil {
			return err
		}
		t.columns[name], t.hidden = readable, hidden
		if place > 0 {
			t.key = append(t.key, name)
		}
		return nil
	}, query, arg)
	return t, err
}

// lacks returns why the role can't read columns of a table, or "".
func (t table) lacks(name string, columns ...string) string {
	if len(t.columns) == 0 {
		return "there is no table " + name
	}
	for _, c := range columns {
		readable, ok := t.columns[c]
		switch {
		case c == "":
		case !ok:
			return "there is no column " + name + "." + c
		case !readable:
			return "the role may not read " + name + "." + c
		}
	}
	return ""
}

// table describes a column's table. It returns an error if the role can't read
// the column, its tenant or its blind index.
func (db DB) table(ctx context.Context, of column.Column) (table, error) {
	of = db.named(of)
	t, err := db.describe(ctx, of.Schema, of.Table)
	if err != nil {
		return table{}, err
	}
	if lacks := t.lacks(of.TableName(), of.Name, of.Tenant, of.Index); lacks != "" {
		return table{}, errors.New(lacks)
	}
	return t, nil
}

// Key returns the primary key columns of a column's table, in order. It returns
// none if there is no key, or the role can't read all of it.
func (db DB) Key(ctx context.Context, of column.Column) ([]string, error) {
	of = db.named(of)
	t, err := db.describe(ctx, of.Schema, of.Table)
	return t.readableKey(), err
}

// readableKey returns the primary key, if the role may read it.
func (t table) readableKey() []string {
	if slices.ContainsFunc(t.key, func(name string) bool { return !t.columns[name] }) {
		return nil
	}
	return t.key
}

// Rows returns [DB.Key], and whether row-level security hides rows of the
// column's table from the role. It returns an error if the role can't read the
// column.
func (db DB) Rows(ctx context.Context, of column.Column) (key []string, hidden bool, err error) {
	t, err := db.table(ctx, of)
	return t.readableKey(), t.hidden, err
}
