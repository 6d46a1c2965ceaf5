package rotate

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/sqldialect"
)

// Errors about the tables, to be tested with errors.Is.
var (
	// ErrNoTable means that the database lacks a table with encrypted columns,
	// or one of these columns.
	ErrNoTable = errors.New("the table or column is missing")

	// ErrPrimaryKey means that a table has no primary key, or one that is
	// neither one column nor the tenant's column and one more, in this order.
	// Its rows can't be read page by page, nor be named.
	ErrPrimaryKey = errors.New("the table needs a primary key of one column, or of the tenant's column and one more")

	// ErrHidden means that row-level security hides rows of a table from the
	// role, so nothing can be said about them.
	ErrHidden = errors.New("row-level security hides rows from this role; use the owner's in DATABASE_URL")

	// ErrRefused means that a constraint or a trigger of the table refuses a
	// row's new value.
	ErrRefused = errors.New("the database refuses the new value")
)

// table is a table with encrypted columns.
type table struct {
	schema  string // Postgres schema; "" for the search_path
	name    string
	columns []column.Column // copied, may be changed
	key     string          // primary-key column, without the tenant
	keyType string          // its type as Postgres names it
	scoped  bool            // the primary key is (tenant, key)
	heap    bool            // read in heap order
	sources []source        // plaintext of the columns
	tenant  string          // tenant column; "" if there is none, and then no token can be bound
	extra   []string        // additional expressions of the table t to read

	tenantType   string // base type's name in Postgres
	tenantIsText bool   // any text can be cast to it
}

// quoted returns the table's name as SQL.
func (t table) quoted() string { return column.QuoteTable(t.schema, t.name) }

// label returns the table's name for people.
func (t table) label() string { return column.Column{Schema: t.schema, Table: t.name}.TableName() }

// isOfKeys reports whether this is the table of tenants' keys.
func (t table) isOfKeys() bool { return t.schema == "" && t.name == tenantkey.Table }

func (t table) columnNames() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.Name
	}
	return names
}

// row is a stored row.
type row struct {
	id      string // primary key without the tenant, for people
	key     any    // primary key as a database value; a scopedKey if the table is scoped
	values  []sql.NullString
	plains  []sql.NullString // plaintext of expanded columns, as the source reads it
	indexes []sql.NullString // digests of the blind indexes, in hexadecimal
	tenant  sql.NullString
	extra   []sql.NullString // values of the table's extra expressions
}

// change replaces values in one row.
type change struct {
	row
	cells []cell
	// under is the stored tenant's key that new values are under. The row is
	// changed only if the database still has it.
	under sql.NullString
}

// cell is the new content of one column of a row.
type cell struct {
	changed bool           // if false, both stay unchanged
	value   sql.NullString // new value; if not Valid, the old one stays
	index   sql.NullString // digest in hexadecimal, if the column has a blind index
	bound   bool           // the new value opens only in the tenant's row
	own     bool           // the new values are under the tenant's key
	renamed bool           // the old value or digest is under an earlier name of the column

	shredded bool // belongs to a tenant with a destroyed key
}

// isStored reports whether a row has its new values. Tokens are random, so a
// match proves that this change was stored.
func (c change) isStored(r row) bool {
	for i, cell := range c.cells {
		if cell.changed && (cell.value.Valid && r.values[i] != cell.value || r.indexes[i] != cell.index) {
			return false
		}
	}
	return true
}

// bound reports whether a new value opens only in the tenant's row.
func (c change) bound() bool {
	return slices.ContainsFunc(c.cells, func(cell cell) bool { return cell.bound })
}

// refusal is a change refused by the database.
type refusal struct {
	change
	err error // wraps ErrRefused
}

// written is the result of writing changes. Rows that it doesn't count were
// changed by others meanwhile.
type written struct {
	rows    int64
	refused []refusal

	// For a table in heap order: the number of rows that still have an old
	// value, and the transaction that wrote rows which nobody had changed since
	// they were read; 0 for none.
	stuck int64
	own   int64
}

// store implements the differences between databases. It is safe for concurrent
// use.
type store interface {
	// describe fills in a table's details. It removes blind indexes and a
	// tenant column that don't exist yet.
	describe(ctx context.Context, t *table) error
	// count returns the number of rows.
	count(ctx context.Context, t table) (int64, error)
	// page returns at most n first rows of a span, the rest of the span, and
	// whether that may contain more rows.
	page(ctx context.Context, t table, s span, n int) (page []row, rest span, more bool, err error)
	// divide returns the last keys of parts of similar size, without the last
	// part's. It returns fewer if the table can't be divided.
	divide(ctx context.Context, t table, rows int64, parts int) ([]any, error)
	// horizon returns the table's current horizon, or none if rows don't show
	// when they were written.
	horizon(ctx context.Context, t table) (horizon, error)
	// moment opens a snapshot, or returns nil if pages aren't in heap order.
	moment(ctx context.Context, t table) (*moment, error)
	// write replaces values that are unchanged since they were read and, for
	// bound values, still belong to the same tenant. It skips and returns
	// changes that the database refuses. After an error, some rows may be
	// changed; stored finds out which.
	write(ctx context.Context, t table, changes []change) (written, error)
	// stored returns the places of the rows that have their new values.
	stored(ctx context.Context, t table, changes []change) (map[string]bool, error)
	// checkWritable returns an [ErrStandby] if the server is read-only.
	checkWritable(ctx context.Context) error
	// checkWidth returns a [SchemaError] if a column is too narrow for tokens,
	// or if its plaintext has the wrong type for the field.
	checkWidth(ctx context.Context, t table, i int) error
	// original converts a value read through a source.
	original(s source, text string) (original, error)
	// checks returns the CHECKs that allow only tokens in a column.
	checks(ctx context.Context, c column.Column) ([]tokenCheck, error)
	// validate makes the database check existing rows against a CHECK that so
	// far applied only to new values.
	validate(ctx context.Context, c column.Column, constraint string) error
	maxWorkers() int
	dialect() string
	// ofTenant returns all of a tenant's rows, and locks them until the
	// transaction ends.
	ofTenant(ctx context.Context, tx querier, t table, tenant string) ([]row, error)
	// shred overwrites a row's blind indexes, and replaces the values of
	// columns for which a token is given, in the transaction that read the row.
	shred(ctx context.Context, tx querier, t table, r row, tokens []sql.NullString) error
}

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// tokenCheck is a CHECK that allows only tokens in a column.
type tokenCheck struct {
	name  string
	valid bool // it applies to older rows too
	drop  string
}

// open finds the tables of the encrypted columns, among the given or all
// registered ones, optionally by name, and determines the kind of database.
func open(ctx context.Context, db *sql.DB, in []column.Column, names []string) ([]table, store, error) {
	columns, err := columnsOf(in, names)
	if err != nil {
		return nil, nil, err
	}
	var tables []table
	for _, c := range columns {
		i := slices.IndexFunc(tables, func(t table) bool { return t.schema == c.Schema && t.name == c.Table })
		if i < 0 {
			i = len(tables)
			tables = append(tables, table{schema: c.Schema, name: c.Table})
		}
		t := &tables[i]
		t.columns = append(t.columns, c)
		t.tenant = cmp.Or(t.tenant, c.Tenant)
	}
	s, err := storeOf(ctx, db)
	if err != nil {
		return nil, nil, err
	}
	for i := range tables {
		if err := s.describe(ctx, &tables[i]); err != nil {
			return nil, nil, fmt.Errorf("rotate: %s: %w", tables[i].label(), err)
		}
	}
	return tables, s, nil
}

// columnsOf returns columns sorted by table and name.
func columnsOf(in []column.Column, names []string) ([]column.Column, error) {
	if len(in) == 0 {
		if in = column.All(); len(in) == 0 {
			return nil, errors.New("rotate: the process knows no encrypted columns: import the generated package")
		}
	}
	all, err := column.Distinct(in)
	if err != nil || len(names) == 0 {
		return all, err
	}
	for _, name := range names {
		if _, err := (Config{In: all}).find(name); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(all, func(c column.Column) bool { return !slices.Contains(names, c.String()) }), nil
}

func storeOf(ctx context.Context, db *sql.DB) (store, error) {
	switch d, err := sqldialect.Of(ctx, db); {
	case err != nil:
		return nil, fmt.Errorf("rotate: %w", err)
	case d == dialect.SQLite:
		return sqlite{db}, nil
	}
	return postgres{db}, nil
}

func quote(identifier string) string { return column.QuoteName(identifier) }

func countRows(ctx context.Context, db *sql.DB, t table) (n int64, err error) {
	err = db.QueryRowContext(ctx, "SELECT count(*) FROM "+t.quoted()).Scan(&n)
	return n, err
}

// selectPage runs a page's query. It builds each row's key by scanKey from the
// first column and, if the table is scoped, the second.
func selectPage(
	ctx context.Context, db querier, t table, query string, args []any, scanKey func(any) (id string,
		key any, err error),
) (page []row, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var key, scope any
		r := row{
			values: make([]sql.NullString, len(t.columns)), indexes: make([]sql.NullString, len(t.columns)),
			plains: make([]sql.NullString, len(t.columns)),
		}
		dest := []any{&key}
		if t.scoped {
			dest = append(dest, &scope)
		}
		for i, c := range t.columns {
			dest = append(dest, &r.values[i])
			if c.Index != "" {
				dest = append(dest, &r.indexes[i])
			}
			if t.sources[i].expanded {
				dest = append(dest, &r.plains[i])
			}
		}
		if t.tenant != "" {
			dest = append(dest, &r.tenant)
		}
		r.extra = make([]sql.NullString, len(t.extra))
		for i := range r.extra {
			dest = append(dest, &r.extra[i])
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		if r.id, r.key, err = scanKey(key); err != nil {
			return nil, err
		}
		if t.scoped {
			if _, scope, err = scanKey(scope); err != nil {
				return nil, err
			}
			r.key = scopedKey{scope, r.key}
		}
		page = append(page, r)
	}
	return page, rows.Err()
}

// SchemaError means that a column isn't ready for the work to begin. Nothing
// was written.
type SchemaError struct {
	Column column.Column
	Reason string
	SQL    string // the fix, or ""
}

// Error gives "user_credentials.api_key: reason; run: SQL". SQL of several
// lines is left out.
func (e *SchemaError) Error() string {
	text := e.Column.String() + ": " + e.Reason
	switch {
	case e.SQL == "":
		return text
	case strings.Contains(e.SQL, "\n"):
		return text + "; run the statements of its SQL"
	}
	return text + "; run: " + e.SQL
}

// missing returns the error for a missing table or missing columns.
func missing(columns []string) error {
	if len(columns) == 0 {
		return fmt.Errorf("%w", ErrNoTable)
	}
	return fmt.Errorf("column %s: %w", strings.Join(columns, ", "), ErrNoTable)
}
