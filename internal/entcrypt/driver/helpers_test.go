package driver_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/keysource"
	"github.com/credent-go/credent/internal/states"
)

const (
	keyA = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=" // from the Fernet spec's vectors
	keyB = "3vYpT7mQx0bL2nKcR9sWfZ1gHjUe5aDq8iOy4MtXk6E="
	keyC = "Q0kq9xF2uZ7bW1nTy5cV8mRj3pLs6hGd4aKe0iXoUwA="
)

// ring makes a keyring, or fails the test.
func ring(tb testing.TB, primary string, previous ...string) *keyring.Ring {
	tb.Helper()
	r, err := keyring.New(primary, previous...)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// encrypt encrypts, or fails the test.
func encrypt(tb testing.TB, r *keyring.Ring, plaintext string) string {
	tb.Helper()
	token, err := r.Encrypt(plaintext)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// useDefault removes all keys from the process's keyring. Tests that call it
// can't be parallel.
func useDefault(tb testing.TB) {
	tb.Helper()
	tb.Setenv(keysource.EnvKey, keyA) // for the first test that uses it
	tb.Setenv(keysource.EnvPreviousKeys, "")
	r, err := keysource.Default()
	if err != nil {
		tb.Fatal(err)
	}
	*r = keyring.Ring{}
	tb.Cleanup(func() { *r = keyring.Ring{} })
}

// The tests' columns, registered as generated code does it.
var (
	wideColumn   = column.Column{Entity: "Vault", Table: "vault", Name: "wide", Size: 500}
	narrowColumn = column.Column{Entity: "Vault", Table: "vault", Name: "narrow", Size: 100} // 15 bytes
	safeColumn   = column.Column{Entity: "Safe", Table: "safe", Name: "narrow", Size: 120}   // 31 bytes
	rentedKey    = column.Column{
		Entity: "Rented", Table: "rented", Name: "key", Size: 500, Type: "string",
		Tenant: "user_id",
	}
	rentedPIN = column.Column{
		Entity: "Rented", Table: "rented", Name: "pin", Size: 500, Type: "string",
		Tenant: "user_id",
	}
	heldSecret = column.Column{
		Entity: "Held", Table: "held", Name: "secret", Size: 500, Type: "string",
		Tenant: "org", Bound: true,
	}
	chestPIN    = column.Column{Entity: "Chest", Table: "chest", Name: "pin", Size: 500, Index: "pin_index"}
	letterStamp = column.Column{Entity: "Letter", Table: "letter", Name: "stamp", Size: 500, Index: "stamp_index"}

	wide     = register(&wideColumn, nil)
	narrow   = register(&narrowColumn, nil)
	_        = register(&safeColumn, nil)
	rented   = register(&rentedKey, nil)
	_        = register(&rentedPIN, nil)
	held     = register(&heldSecret, nil)
	chest    = register(&chestPIN, blindindex.Field{})
	letter   = register(&letterStamp, blindindex.Field{Config: blindindex.Config{Unique: true}})
	hookOnly = registerValue[hook]("hook", 500)
)

type hook struct {
	URL    string            `json:"url"`
	Labels map[string]string `json:"labels,omitempty"`
}

func register(c *column.Column, digest any) column.Field {
	c.Client = "test"
	f := column.NewField(c.Name, c.Size)
	b := column.Binding{Column: *c, Scanner: func() any { return f }}
	if digest != nil {
		b.Digest = func() any { return digest }
	}
	column.Register(b)
	return f
}

// registerValue registers a column of the table ledger, with a primary key that
// isn't named id.
func registerValue[T any](name string, size int) column.ValueField[T] {
	f := column.NewValueField[T](name, size)
	column.Register(column.Binding{
		Column: column.Column{
			Client: "test", Entity: "Ledger", Table: "ledger", Name: name, Size: size,
			Type: fieldcrypt.TypeName[T](), ID: "serial",
		},
		Scanner: func() any { return f },
	})
	return f
}

// binding sets columns' state of context binding.
func binding(s states.State, columns ...column.Column) states.Table {
	return states.New(states.Binding, s, columns...)
}

// tenantKeys sets the state of tenants' keys for every column with a tenant.
func tenantKeys(s states.State) states.Table {
	return states.New(states.TenantKeys, s, rentedKey, rentedPIN, heldSecret)
}

// scanned returns a secret as database/sql scans it.
func scanned(tb testing.TB, value string) fieldcrypt.Secret {
	tb.Helper()
	var s fieldcrypt.Secret
	if err := s.Scan(value); err != nil {
		tb.Fatal(err)
	}
	return s
}

// stamped returns the arguments for a new row's secret and its blind index, as
// generated code passes them to ent.
func stamped(tb testing.TB, table, name string, value, tenant any) (arg, digest any) {
	tb.Helper()
	spec := sqlgraph.NewCreateSpec(table, sqlgraph.NewFieldSpec("id", field.TypeInt))
	spec.SetField(name, field.TypeString, value)
	for _, c := range column.InTable("test", table) {
		if c.Tenant != "" && tenant != nil {
			spec.SetField(c.Tenant, field.TypeString, tenant)
			break
		}
	}
	stamp.Create(nil, "test", spec)
	for _, f := range spec.Fields {
		switch f.Column {
		case name:
			arg = f.Value
		case name + "_index":
			digest = f.Value
		}
	}
	return arg, digest
}

// pending is like stamped, for a plaintext and a column without a tenant.
func pending(tb testing.TB, of field.TypeValueScanner[fieldcrypt.Secret], c column.Column, plaintext string) any {
	tb.Helper()
	value, err := of.Value(fieldcrypt.New(plaintext))
	if err != nil {
		tb.Fatal(err)
	}
	arg, _ := stamped(tb, c.Table, c.Name, value, nil)
	return arg
}

// newDriver wraps a driver, or fails the test.
func newDriver(tb testing.TB, next dialect.Driver, cfg driver.Config) dialect.Driver {
	tb.Helper()
	drv, err := driver.New(next, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return drv
}

func bound(tb testing.TB, r *keyring.Ring, c column.Column, tenant string) *keyring.Ring {
	tb.Helper()
	b, err := new(seal.Locator).Bind(r, c, tenant)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// recorder is a driver and a transaction. It records calls and arguments, and
// returns rows.
type recorder struct {
	calls   []string
	args    []any
	result  *fakeRows
	err     error
	changed int64 // number of rows that a statement changes

	executed []any // the arguments of the last Exec
}

func (r *recorder) record(method string, args any) error {
	r.calls = append(r.calls, method)
	r.args, _ = args.([]any)
	return r.err
}

func (r *recorder) Exec(_ context.Context, query string, args, v any) error {
	if strings.Contains(query, "SAVEPOINT") {
		return r.err
	}
	r.executed, _ = args.([]any)
	if result, ok := v.(*sql.Result); ok {
		*result = sqldriver.RowsAffected(r.changed)
	}
	return r.record("Exec", args)
}

func (r *recorder) Query(_ context.Context, _ string, args, v any) error {
	if rows, ok := v.(*entsql.Rows); ok {
		rows.ColumnScanner = r.rows()
	}
	return r.record("Query", args)
}

func (r *recorder) rows() *fakeRows {
	if r.result == nil {
		r.result = new(fakeRows)
	}
	return r.result
}

func (r *recorder) ExecContext(_ context.Context, _ string, args ...any) (sql.Result, error) {
	return sqldriver.RowsAffected(r.changed), r.record("ExecContext", args)
}

func (r *recorder) QueryContext(_ context.Context, _ string, args ...any) (*sql.Rows, error) {
	return nil, r.record("QueryContext", args)
}

func (r *recorder) Tx(context.Context) (dialect.Tx, error) { return r, r.record("Tx", nil) }

func (r *recorder) BeginTx(context.Context, *sql.TxOptions) (dialect.Tx, error) {
	return r, r.record("BeginTx", nil)
}

func (r *recorder) Commit() error   { return r.record("Commit", nil) }
func (r *recorder) Rollback() error { return r.record("Rollback", nil) }
func (r *recorder) Close() error    { return r.record("Close", nil) }
func (r *recorder) Dialect() string { return dialect.Postgres }

// bare hides methods that aren't in the interface.
type bare struct{ dialect.Driver }

// fakeRows is a result. It scans values as database/sql does.
type fakeRows struct {
	columns []string
	rows    [][]any
	next    int
}

func (f *fakeRows) Close() error                            { return nil }
func (f *fakeRows) ColumnTypes() ([]*sql.ColumnType, error) { return nil, nil }
func (f *fakeRows) Columns() ([]string, error)              { return f.columns, nil }
func (f *fakeRows) Err() error                              { return nil }
func (f *fakeRows) Next() bool                              { f.next++; return f.next <= len(f.rows) }
func (f *fakeRows) NextResultSet() bool                     { return false }

func (f *fakeRows) Scan(dest ...any) error {
	for i, d := range dest {
		src := f.rows[f.next-1][i]
		switch d := d.(type) {
		case sql.Scanner:
			if err := d.Scan(src); err != nil {
				return err
			}
		default:
			to := reflect.ValueOf(d).Elem()
			if to.Kind() != reflect.Pointer {
				to.Set(reflect.ValueOf(src))
				continue
			}
			if to.SetZero(); src == nil {
				continue
			}
			to.Set(reflect.New(to.Type().Elem()))
			if err := to.Interface().(sql.Scanner).Scan(src); err != nil {
				return err
			}
		}
	}
	return nil
}

// door is a method that runs a statement on a driver.
type door struct {
	name string
	call func(drv any, query string, args []any) error
}

func doors(ctx context.Context) []door {
	return []door{
		{"Exec", func(drv any, query string, args []any) error {
			return drv.(dialect.ExecQuerier).Exec(ctx, query, args, nil)
		}},
		{"Query", func(drv any, query string, args []any) error {
			return drv.(dialect.ExecQuerier).Query(ctx, query, args, &entsql.Rows{})
		}},
		{"ExecContext", func(drv any, query string, args []any) error {
			_, err := drv.(interface {
				ExecContext(context.Context, string, ...any) (sql.Result, error)
			}).ExecContext(ctx, query, args...)
			return err
		}},
		{"QueryContext", func(drv any, query string, args []any) error {
			rows, err := drv.(interface {
				QueryContext(context.Context, string, ...any) (*sql.Rows, error)
			}).QueryContext(ctx, query, args...)
			if rows != nil {
				err = errors.Join(err, rows.Err(), rows.Close()) //nolint:sqlclosecheck // its error counts
			}
			return err
		}},
	}
}

// within returns the driver and its transactions, to run statements on.
func within(t *testing.T, drv dialect.Driver) map[string]any {
	t.Helper()
	tx, err := drv.Tx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	begun, err := drv.(interface {
		BeginTx(context.Context, *sql.TxOptions) (dialect.Tx, error)
	}).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"driver": drv, "Tx": tx, "BeginTx": begun}
}

const insert = `INSERT INTO "vault" ("wide") VALUES ($1)`

// insertOf returns an INSERT of n values.
func insertOf(n int) string {
	var values []string
	for i := range n {
		values = append(values, fmt.Sprintf("$%d", i+1))
	}
	return `INSERT INTO "vault" VALUES (` + strings.Join(values, ", ") + ")"
}

// query runs a query and returns its rows. If entity isn't "", the query is
// from the entity's query builder.
func query(tb testing.TB, result *fakeRows, cfg driver.Config, entity string) *entsql.Rows {
	tb.Helper()
	ctx := tb.Context()
	if entity != "" {
		ctx = ent.NewQueryContext(ctx, &ent.QueryContext{Type: entity})
	}
	rows := new(entsql.Rows)
	if err := newDriver(tb, &recorder{result: result}, cfg).Query(ctx, "SELECT", []any{}, rows); err != nil {
		tb.Fatal(err)
	}
	return rows
}
