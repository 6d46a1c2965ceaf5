package fieldcrypt_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// recorder is a driver and a transaction that keep what they are given, and answer with rows.
type recorder struct {
	calls  []string
	args   []any
	result *fakeRows
	err    error

	executed []any // the arguments of the last Exec
}

func (r *recorder) record(method string, args any) error {
	r.calls = append(r.calls, method)
	r.args, _ = args.([]any)
	return r.err
}

func (r *recorder) Exec(_ context.Context, _ string, args, _ any) error {
	r.executed, _ = args.([]any)
	return r.record("Exec", args)
}

func (r *recorder) Query(_ context.Context, _ string, args, v any) error {
	if rows, ok := v.(*entsql.Rows); ok {
		rows.ColumnScanner = r.result
	}
	return r.record("Query", args)
}

func (r *recorder) ExecContext(_ context.Context, _ string, args ...any) (sql.Result, error) {
	return nil, r.record("ExecContext", args)
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

// bare hides all but the methods of the interface.
type bare struct{ dialect.Driver }

// fakeRows is a result. Its values are scanned the way database/sql does it.
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
		case **fieldcrypt.Secret:
			*d = nil
			if src != nil {
				*d = new(fieldcrypt.Secret)
				if err := (*d).Scan(src); err != nil {
					return err
				}
			}
		default:
			reflect.ValueOf(d).Elem().Set(reflect.ValueOf(src))
		}
	}
	return nil
}

// door is one of the ways by which a statement enters a driver.
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
				defer func() { _ = rows.Close() }()
				err = errors.Join(err, rows.Err())
			}
			return err
		}},
	}
}

// within returns what statements can be run on: the driver and its transactions.
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

func TestDriverSeals(t *testing.T) {
	fieldcrypt.ResetDefault(t)
	t.Setenv(fieldcrypt.EnvKey, "") // the driver's keyring is enough
	r := ring(t, keyA)
	arg, err := wide.Value(fieldcrypt.New("pending"))
	if err != nil {
		t.Fatal(err)
	}
	secret := fieldcrypt.New("pointer")
	var (
		absent *fieldcrypt.Secret
		never  *time.Time
		local  = time.Date(2024, 7, 1, 12, 0, 0, 0, time.FixedZone("New York", -4*3600))
	)
	args := []any{
		arg, fieldcrypt.New("raw"), &secret, absent,
		fieldcrypt.Secret{},
		sql.Named("n", fieldcrypt.New("named")),
		local, &local, never, sql.Named("t", local), 7, "text", []byte("bytes"), nil,
		sql.NullString{},
		fieldcrypt.New(""),
		sql.NullTime{Time: local, Valid: true},
		sql.Null[time.Time]{V: local, Valid: true},
		sql.NullTime{},
		sql.Null[fieldcrypt.Secret]{V: fieldcrypt.New("null"), Valid: true},
		sql.Null[fieldcrypt.Secret]{},
	}
	before := slices.Clone(args)

	rec := new(recorder)
	for place, on := range within(t, fieldcrypt.NewDriver(rec, fieldcrypt.DriverConfig{Keyring: r})) {
		for _, door := range doors(t.Context()) {
			t.Run(place+"/"+door.name, func(t *testing.T) {
				if err := door.call(on, insertOf(len(args)), args); err != nil {
					t.Fatal(err)
				}
				if got := rec.calls[len(rec.calls)-1]; got != door.name {
					t.Errorf("the wrapped driver was called by %s", got)
				}
				for i, want := range map[int]string{0: "pending", 1: "raw", 2: "pointer", 5: "named", 15: "", 19: "null"} {
					value := rec.args[i]
					if named, ok := value.(sql.NamedArg); ok {
						value = named.Value
					}
					token, ok := value.(string)
					if !ok {
						t.Errorf("argument %d is a %T", i, value)
					} else if got, err := r.Decrypt(token); err != nil || got != want {
						t.Errorf("argument %d: got %q, %v, want %q", i, got, err, want)
					}
				}
				for i, want := range map[int]any{
					3: nil, 4: nil, 6: local.UTC(), 7: local.UTC(), 8: nil, 9: sql.Named("t", local.UTC()), 10: 7, 11: "text",
					12: []byte("bytes"), 13: nil, 14: sql.NullString{},
					16: sql.NullTime{Time: local.UTC(), Valid: true}, 17: sql.Null[time.Time]{V: local.UTC(), Valid: true},
					18: sql.NullTime{}, 20: nil,
				} {
					if !reflect.DeepEqual(rec.args[i], want) {
						t.Errorf("argument %d: got %v, want %v", i, rec.args[i], want)
					}
				}
				for i := range args {
					if fmt.Sprintf("%T %p", args[i], args[i]) != fmt.Sprintf("%T %p", before[i], before[i]) {
						t.Errorf("argument %d of the caller's slice was changed to a %T", i, args[i])
					}
				}
			})
		}
	}
}

func TestDriverPassesOn(t *testing.T) {
	t.Parallel()
	rec := new(recorder)
	drv := fieldcrypt.NewDriver(rec, fieldcrypt.DriverConfig{Keyring: ring(t, keyA)})
	args := []any{1, "a", nil}
	if err := drv.Exec(t.Context(), insert, args, nil); err != nil {
		t.Fatal(err)
	}
	if &rec.args[0] != &args[0] {
		t.Error("arguments without secrets were copied")
	}
	for _, args := range []any{[]any{}, nil, "no slice"} {
		if err := drv.Exec(t.Context(), insert, args, nil); err != nil {
			t.Errorf("arguments %v: %v", args, err)
		}
	}
	if got := drv.Dialect(); got != dialect.Postgres {
		t.Errorf("dialect: got %q", got)
	}
	tx, err := drv.Tx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tx.Commit(), tx.Rollback(), drv.Close()); err != nil {
		t.Error(err)
	}
	if got := rec.calls[len(rec.calls)-3:]; !slices.Equal(got, []string{"Commit", "Rollback", "Close"}) {
		t.Errorf("got %v", got)
	}

	rec.err = errors.New("down")
	for _, door := range doors(t.Context()) {
		if err := door.call(drv, insert, args); !errors.Is(err, rec.err) {
			t.Errorf("%s: got %v, want the wrapped driver's error", door.name, err)
		}
	}
	if _, err := drv.Tx(t.Context()); !errors.Is(err, rec.err) {
		t.Errorf("Tx: got %v, want the wrapped driver's error", err)
	}
}

// TestDriverFailsClosed shows that what cannot be encrypted does not reach the database.
func TestDriverFailsClosed(t *testing.T) {
	fieldcrypt.ResetDefault(t)
	t.Setenv(fieldcrypt.EnvKey, "")
	arg, err := narrow.Value(fieldcrypt.New("text"))
	if err != nil {
		t.Fatal(err)
	}
	secret := fieldcrypt.New("text")
	long := fieldcrypt.New(strings.Repeat("x", 304))
	for name, test := range map[string]struct {
		ring *fieldcrypt.Keyring
		arg  any
		want error
	}{
		"pending without a key":  {nil, arg, fieldcrypt.ErrNoKey},
		"secret without a key":   {nil, secret, fieldcrypt.ErrNoKey},
		"pointer without a key":  {nil, &secret, fieldcrypt.ErrNoKey},
		"named without a key":    {nil, sql.Named("n", secret), fieldcrypt.ErrNoKey},
		"zero keyring":           {new(fieldcrypt.Keyring), arg, fieldcrypt.ErrNoKey},
		"secret too long":        {ring(t, keyA), long, fieldcrypt.ErrTooLong},
		"named secret too long":  {ring(t, keyA), sql.Named("n", long), fieldcrypt.ErrTooLong},
		"redaction marker":       {ring(t, keyA), fieldcrypt.New(fieldcrypt.Redacted), fieldcrypt.ErrRedacted},
		"unreadable from a row":  {ring(t, keyA), stored(t, "PKA1B2C3D4"), fieldcrypt.ErrNoKey},
		"unreadable, other name": {ring(t, keyA), sql.Named("n", stored(t, "PKA1B2C3D4")), fieldcrypt.ErrNoKey},
	} {
		rec := new(recorder)
		for place, on := range within(t, fieldcrypt.NewDriver(rec, fieldcrypt.DriverConfig{Keyring: test.ring})) {
			rec.calls = nil
			for _, door := range doors(t.Context()) {
				err := door.call(on, insertOf(3), []any{1, test.arg, 2})
				var detail *fieldcrypt.Error
				if !errors.Is(err, test.want) || !errors.As(err, &detail) || detail.Op != "encrypt" {
					t.Errorf("%s, %s, %s: got %v, want %v", name, place, door.name, err, test.want)
				}
			}
			if len(rec.calls) > 0 {
				t.Errorf("%s, %s: the wrapped driver was called by %v", name, place, rec.calls)
			}
		}
	}
}

// TestDriverLimits finds the size of the column that a raw secret goes to by the table that the statement names.
func TestDriverLimits(t *testing.T) {
	t.Parallel()
	drv := fieldcrypt.NewDriver(new(recorder), fieldcrypt.DriverConfig{Keyring: ring(t, keyA)})
	for _, test := range []struct {
		query string
		bytes int
		fits  bool
	}{
		{insert, 303, true},
		{insert, 304, false},
		{"INSERT INTO `vault` (`wide`) VALUES (?)", 304, false},
		{`INSERT INTO "safe" ("narrow") VALUES ($1)`, 31, true},
		{`INSERT INTO "safe" ("narrow") VALUES ($1)`, 32, false},
		{`INSERT INTO "others" ("x") VALUES ($1)`, 5000, true},
		{`INSERT INTO "vault" ("narrow") VALUES ($1)`, 15, true},
		{`INSERT INTO "vault" ("narrow") VALUES ($1)`, 16, false},
		{`INSERT INTO "vault" VALUES ($1)`, 303, true}, // into a column that is not named
		{`INSERT INTO "vault" VALUES ($1)`, 304, false},
	} {
		err := drv.Exec(t.Context(), test.query, []any{fieldcrypt.New(strings.Repeat("x", test.bytes))}, nil)
		if (err == nil) != test.fits {
			t.Errorf("%d bytes by %s: got %v", test.bytes, test.query, err)
		}
	}
}

func TestDriverWithoutContextMethods(t *testing.T) {
	t.Parallel()
	rec := new(recorder)
	drv := fieldcrypt.NewDriver(bare{rec}, fieldcrypt.DriverConfig{Keyring: ring(t, keyA)})
	for _, door := range doors(t.Context())[2:] {
		if err := door.call(drv, insert, nil); err == nil || !strings.Contains(err.Error(), "has no "+door.name) {
			t.Errorf("%s: got %v", door.name, err)
		}
	}
	_, err := drv.(interface {
		BeginTx(context.Context, *sql.TxOptions) (dialect.Tx, error)
	}).BeginTx(t.Context(), nil)
	if err == nil || len(rec.calls) > 0 {
		t.Errorf("BeginTx: got %v, and the calls %v", err, rec.calls)
	}
}
