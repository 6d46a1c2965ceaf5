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
	ErrNoTable = errors.New("missing from the database")

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
	schema  string // of Postgres; "" for the search_path
	name    string
	columns []column.Column // its own, to be changed
	key     string          // column of the primary key, without the tenant's
	keyType string          // as Postgres names it
	scoped  bool            // the primary key is (tenant, key)
	heap    bool            // it is gone through in the order of its heap
	sources []source        // of their plaintext
	tenant  string          // column with the row's tenant; "" if there is none, and no token can be bound
	extra   []string        // more expressions of the table t to read

	tenantType   string // as Postgres names it, below a domain
	tenantIsText bool   // every text can be cast to it
}

// quoted returns the table's name as SQL.
func (t table) quoted() string { return column.QuoteTable(t.schema, t.name) }

// label returns the table's name for people.
func (t table) label() string { return column.Column{Schema: t.schema, Table: t.name}.TableName() }

// isOfKeys reports whether the table holds the tenants' keys.
func (t table) isOfKeys() bool { return t.schema == "" && t.name == tenantkey.Table }

func (t table) columnNames() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.Name
	}
	return names
}

// row is one row as stored.
type row struct {
	id      string // primary key without the tenant, for people
	key     any    // primary key, for the database; a scopedKey if the table is scoped
	values  []sql.NullString
	plains  []sql.NullString // plaintext beside the tokens, as the source reads it
	indexes []sql.NullString // of the columns with a blind index, in hexadecimal
	tenant  sql.NullString
	extra   []sql.NullString // of the table's extra expressions
}

// change replaces values of one row.
type change struct {
	row
	cells []cell
	// under is the tenant's key, as it is stored, that something new is under:
	// the row is changed only if the database has it.
	under sql.NullString
}

// cell is what becomes of one column of a row.
type cell struct {
	changed bool           // or both stay as they are
	value   sql.NullString // the new one; the old one stays if it is not Valid
	index   sql.NullString // the digest in hexadecimal, if the column has a blind index
	bound   bool           // the new value opens only in a row of the tenant
	own     bool           // the new ones are under the tenant's key
	renamed bool           // the old one, or its digest, is under an earlier name of the column

	shredded bool // its tenant's key was destroyed
}

// isStored reports whether a row has what is to become of it. A token is
// random, so it is this very change that was stored.
func (c change) isStored(r row) bool {
	for i, cell := range c.cells {
		if cell.changed && (cell.value.Valid && r.values[i] != cell.value || r.indexes[i] != cell.index) {
			return false
		}
	}
	return true
}

// bound reports whether a new value opens only in a row of the tenant.
func (c change) bound() bool {
	return slices.ContainsFunc(c.cells, func(cell cell) bool { return cell.bound })
}

// refusal is a change that the database does not take.
type refusal struct {
	change
	err error // an ErrRefused
}

// written is what became of changes. The rows that it doesn't count others have
// changed meanwhile.
type written struct {
	rows    int64
	refused []refusal

	// Of a table that is gone through in the order of its heap: how many rows
	// were left though they have what was to be replaced, and the transaction
	// that wrote rows that nobody had changed since they were read; 0 for none.
	stuck int64
	own   int64
}

// store is what differs between databases. It is safe for concurrent use.
type store interface {
	// describe completes what is known of a table, and takes away the blind
	// indexes that it does not have yet, and the tenant's column if it is not
	// there.
	describe(ctx context.Context, t *table) error
	// count returns the number of rows.
	count(ctx context.Context, t table) (int64, error)
	// page returns the first rows of a span, at most n, the rest of the span,
	// and whether that may have more.
	page(ctx context.Context, t table, s span, n int) (page []row, rest span, more bool, err error)
	// divide returns the last keys of parts of about the same size, without the
	// last part's; fewer if the table can't be divided that way.
	divide(ctx context.Context, t table, rows int64, parts int) ([]any, error)
	// horizon returns the present moment of a table, or none where rows don't
	// say when they were written.
	horizon(ctx context.Context, t table) (horizon, error)
	// moment begins one, or returns nil where pages have no order of a heap.
	moment(ctx context.Context, t table) (*moment, error)
	// write replaces values where they are still the old ones, and bound ones
	// where the row is the same tenant's still. What the database does not take
	// it leaves and returns. After an error some may be changed, which stored
	// finds out.
	write(ctx context.Context, t table, changes []change) (written, error)
	// stored returns the places of the rows that have what the changes make of
	// them.
	stored(ctx context.Context, t table, changes []change) (map[string]bool, error)
	// checkWritable returns an [ErrStandby] if the server takes no writes.
	checkWritable(ctx context.Context) error
	// checkWidth returns a [SchemaError] if a column of the table has no room
	// for tokens, or its plaintext isn't what the field holds.
	checkWidth(ctx context.Context, t table, i int) error
	// original returns what a source has read.
	original(s source, text string) (original, error)
	// checks returns the CHECKs that allow nothing but tokens in a column.
	checks(ctx context.Context, c column.Column) ([]tokenCheck, error)
	// validate makes the database look at what is stored for a CHECK that it
	// has applied to new values only.
	validate(ctx context.Context, c column.Column, constraint string) error
	maxWorkers() int
	dialect() string
	// ofTenant returns all rows that are a tenant's, and keeps them from being
	// changed until the transaction ends.
	ofTenant(ctx context.Context, tx querier, t table, tenant string) ([]row, error)
	// shred overwrites the blind indexes of a row, and replaces values, of the
	// columns that have a token, in the transaction in which the row was read.
	shred(ctx context.Context, tx querier, t table, r row, tokens []sql.NullString) error
}

// querier is a pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// tokenCheck is a CHECK that allows nothing but tokens in a column.
type tokenCheck struct {
	name  string
	valid bool // it holds for what was stored before
	drop  string
}

// open finds the tables of encrypted columns, by name among the given ones or
// all of the process, and what kind of database it is.
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

// selectPage runs the query of a page, and makes each row's key from scanKey's
// reading of its first column, and of the second if the table is scoped.
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

// missing is for a table, or for the columns of it that are not there.
func missing(columns []string) error {
	if len(columns) == 0 {
		return fmt.Errorf("%w", ErrNoTable)
	}
	return fmt.Errorf("column %s: %w", strings.Join(columns, ", "), ErrNoTable)
}
