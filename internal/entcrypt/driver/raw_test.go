package driver_test

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	_ "modernc.org/sqlite"

	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/states"
)

// openDB returns a database with the given tables and one connection, so that
// waiting for another connection blocks forever.
func openDB(t *testing.T, statements ...string) (*sql.DB, dialect.Driver) {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	return db, entsql.OpenDB(dialect.SQLite, db)
}

// stored runs a query and returns one text per row, with its columns.
func stored(t *testing.T, db *sql.DB, query string, args ...any) (all []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var text sql.NullString
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		all = append(all, text.String)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

type contextDriver interface {
	dialect.Driver
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

var vaultTables = []string{
	"CREATE TABLE vault (id INTEGER PRIMARY KEY, wide TEXT, narrow TEXT, note TEXT)",
	"INSERT INTO vault (id, wide) VALUES (1, 'one'), (2, 'two'), (3, 'three')",
	"CREATE TABLE chest (id INTEGER PRIMARY KEY, pin TEXT, pin_index BLOB)",
	"CREATE TABLE held (id INTEGER PRIMARY KEY, secret TEXT, org TEXT)",
	"CREATE TABLE rented (id INTEGER PRIMARY KEY, key TEXT, pin TEXT, user_id TEXT)",
}

// Raw SQL that stores secrets in more rows than it has secrets is rolled back:
// its own transaction, or the caller's to a savepoint.
func TestRawIsCounted(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	s := func() any { return stamp.At(fieldcrypt.New("text"), wideColumn, nil) }
	for name, test := range map[string]struct {
		query string
		args  []any
		want  error
		rows  int // rows with a token afterwards
	}{
		"one row":           {"UPDATE vault SET wide = ? WHERE id = ?", []any{s(), 1}, nil, 1},
		"no row":            {"UPDATE vault SET wide = ? WHERE id = ?", []any{s(), 9}, nil, 0},
		"all rows":          {"UPDATE vault SET wide = ?", []any{s()}, stamp.ErrManyRows, 0},
		"two rows":          {"UPDATE vault SET wide = ? WHERE id < ?", []any{s(), 3}, stamp.ErrManyRows, 0},
		"by another column": {"UPDATE vault SET wide = ? WHERE wide = ?", []any{s(), "one"}, nil, 1},
		"two secrets": {
			"UPDATE vault SET wide = CASE id WHEN 1 THEN ? ELSE ? END WHERE id < 3",
			[]any{s(), s()},
			nil, 2,
		},
		"two of three": {
			"UPDATE vault SET wide = CASE id WHEN 1 THEN ? ELSE ? END",
			[]any{s(), s()},
			stamp.ErrManyRows, 0,
		},
		"insert":     {"INSERT INTO vault (wide, note) VALUES (?, ?)", []any{s(), "x"}, nil, 1},
		"insert two": {"INSERT INTO vault (wide) VALUES (?), (?)", []any{s(), s()}, nil, 2},
		"insert absent": {
			"INSERT INTO vault (wide) VALUES (?), (?)",
			[]any{s(), stamp.At(fieldcrypt.Secret{}, wideColumn, nil)},
			stamp.ErrManyRows, 0,
		},
		"insert from a query": {"INSERT INTO vault (wide) SELECT ? FROM vault", []any{s()}, stamp.ErrManyRows, 0},
		"one of a query":      {"INSERT INTO vault (wide) SELECT ? FROM vault WHERE id = 1", []any{s()}, nil, 1},
		"upsert": {
			"INSERT INTO vault (id, wide) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET wide = ?",
			[]any{s(), s()},
			nil, 1,
		},
		"numbered":    {"UPDATE vault SET wide = ?1 WHERE id IN (1, 2)", []any{s()}, stamp.ErrManyRows, 0},
		"dollar":      {"UPDATE vault SET wide = $1 WHERE id = $2", []any{s(), 1}, errAny, 0},
		"wrong table": {"UPDATE nothing SET wide = ?", []any{s()}, errAny, 0},
		"fewer of another": {"UPDATE vault SET wide = CASE id WHEN 1 THEN ? ELSE ? END, narrow = ? WHERE id < 3", []any{
			s(), s(), stamp.At(fieldcrypt.New("pin"), narrowColumn, nil),
		}, stamp.ErrManyRows, 0},
		"several statements": {
			"UPDATE vault SET wide = ?; UPDATE vault SET note = note WHERE id = 1",
			[]any{s()},
			stamp.ErrManyRows, 0,
		},
		"no secret": {"UPDATE vault SET note = ?", []any{"x"}, nil, 0},
	} {
		for _, where := range []string{"alone", "in a transaction"} {
			for _, door := range []string{"Exec", "ExecContext", "Query", "QueryContext"} {
				name := name + ", " + where + ", " + door
				db, next := openDB(t, vaultTables...)
				on := any(newDriver(t, next, driver.Config{Keyring: r}))
				var tx dialect.Tx
				if where != "alone" {
					var err error
					if tx, err = on.(dialect.Driver).Tx(t.Context()); err != nil {
						t.Fatal(err)
					}
					if err := tx.Exec(t.Context(), "UPDATE vault SET note = ?", []any{"before"}, nil); err != nil {
						t.Fatal(err)
					}
					on = tx
				}
				query := test.query
				if strings.HasPrefix(door, "Query") {
					query += " RETURNING id"
				}
				var err error
				for _, d := range doors(t.Context()) {
					if d.name == door && door != "Query" {
						err = d.call(on, query, test.args)
					}
				}
				if door == "Query" {
					rows := new(entsql.Rows)
					if err = on.(dialect.ExecQuerier).Query(t.Context(), query, test.args, rows); err == nil {
						for rows.Next() {
						}
						err = errors.Join(rows.Err(), rows.Close())
					}
				}
				if test.want == errAny && err == nil || test.want != errAny && !errors.Is(err, test.want) { //nolint:errorlint // the marker itself
					t.Errorf("%s: got %v, want %v", name, err, test.want)
				}
				if name == "dollar, alone, Exec" && !strings.Contains(err.Error(), "use ?") {
					t.Errorf("%s: the error doesn't say what to do: %v", name, err)
				}
				if tx != nil {
					// The caller's transaction goes on.
					if err := tx.Exec(t.Context(), "UPDATE vault SET narrow = ?", []any{"after"}, nil); err != nil {
						t.Errorf("%s: the next statement: %v", name, err)
					}
					if err := tx.Commit(); err != nil {
						t.Errorf("%s: commit: %v", name, err)
					}
					if n := len(stored(t, db, "SELECT id FROM vault WHERE note = 'before' AND narrow = 'after' AND "+
						"id <= 3")); n != 3 && name[:9] != "no secret" {
						t.Errorf("%s: %d of the caller's rows are left", name, n)
					}
				}
				tokens := stored(t, db, "SELECT wide FROM vault WHERE wide LIKE 'gAAAA%'")
				if len(tokens) != test.rows {
					t.Errorf("%s: %d rows have a token, want %d", name, len(tokens), test.rows)
				}
				for _, token := range tokens {
					if text, err := r.Decrypt(token); err != nil || text != "text" {
						t.Errorf("%s: got %q, %v", name, text, err)
					}
				}
			}
		}
	}
}

// errAny stands for an error of any kind in tables.
var errAny = errors.New("any error")

// A query that changes rows and returns none is undone, as nobody counts them.
func TestRawWithoutResult(t *testing.T) {
	t.Parallel()
	db, next := openDB(t, vaultTables...)
	drv := newDriver(t, next, driver.Config{Keyring: ring(t, keyA)})
	update := func(on any) error {
		rows, err := on.(interface {
			QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
		}).QueryContext(t.Context(), "UPDATE vault SET wide = ?", stamp.At(fieldcrypt.New("text"), wideColumn, nil))
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
		}
		return errors.Join(rows.Err(), rows.Close()) //nolint:sqlclosecheck // its error counts
	}
	if err := update(drv); !errors.Is(err, stamp.ErrManyRows) {
		t.Errorf("got %v", err)
	}
	tx, err := drv.Tx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := update(tx); !errors.Is(err, stamp.ErrManyRows) {
		t.Errorf("in a transaction: %v", err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if tokens := stored(t, db, "SELECT wide FROM vault WHERE wide LIKE 'gAAAA%'"); len(tokens) > 0 {
		t.Errorf("%d rows are stored", len(tokens))
	}
}

// A statement's rows are returned unchanged if work follows it.
func TestRawRows(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	db, next := openDB(t, vaultTables...)
	drv := newDriver(t, next, driver.Config{Keyring: r}).(contextDriver)
	rows, err := drv.QueryContext(t.Context(), "UPDATE vault SET wide = ? WHERE id = 2 RETURNING id, wide, note, "+
		"1.5, x'00ff'", stamp.At(fieldcrypt.New("text"), wideColumn, nil))
	if err != nil {
		t.Fatal(err)
	}
	if names, err := rows.Columns(); err != nil || len(names) != 5 || names[1] != "wide" {
		t.Errorf("got %v, %v", names, err)
	}
	var (
		id     int
		secret fieldcrypt.Secret
		note   sql.NullString
		f      float64
		raw    []byte
	)
	if !rows.Next() {
		t.Fatal(rows.Err())
	}
	if err := rows.Scan(&id, &secret, &note, &f, &raw); err != nil || id != 2 || note.Valid || f != 1.5 ||
		string(raw) != "\x00\xff" {
		t.Errorf("got %d, %v, %v, %x, %v", id, note, f, raw, err)
	}
	if rows.Next() {
		t.Error("there is a second row")
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil { //nolint:sqlclosecheck // its error counts
		t.Error(err)
	}
	if _, err := secret.Reveal(); !errors.Is(err, fieldcrypt.ErrNoOpener) {
		t.Errorf("got %v, want ErrNoOpener", err)
	}
	if got, err := secret.OpenedBy(seal.NewOpenerAt(r, wideColumn, "", false)).Reveal(); err != nil || got != "text" {
		t.Errorf("got %q, %v", got, err)
	}
	// A query builder's rows know their keyring.
	entRows := new(entsql.Rows)
	if err := drv.Query(t.Context(), "UPDATE vault SET wide = ? WHERE id = 3 RETURNING id, wide",
		[]any{stamp.At(fieldcrypt.New("text"), wideColumn, nil)}, entRows); err != nil {
		t.Fatal(err)
	}
	entRows.Next()
	if err := entRows.Scan(&id, &secret); err != nil || id != 3 {
		t.Errorf("got %d, %v", id, err)
	}
	if err := entRows.Close(); err != nil {
		t.Error(err)
	}
	if got, err := secret.Reveal(); err != nil || got != "text" {
		t.Errorf("got %q, %v", got, err)
	}
	if got := stored(t, db, "SELECT wide FROM vault WHERE wide LIKE 'gAAAA%'"); len(got) != 2 {
		t.Errorf("%d rows have a token", len(got))
	}
}

// Rows that are closed early are still counted and committed, and leak no
// goroutine or connection.
func TestRawRowsClosedEarly(t *testing.T) { //nolint:paralleltest // it counts goroutines
	r := ring(t, keyA)
	db, next := openDB(t, vaultTables...)
	drv := newDriver(t, next, driver.Config{Keyring: r}).(contextDriver)
	run := func(query string, read int, args ...any) error {
		t.Helper()
		rows, err := drv.QueryContext(t.Context(), query, args...)
		if err != nil {
			return err
		}
		for range read {
			if !rows.Next() {
				t.Errorf("%s: no row: %v", query, rows.Err())
			}
		}
		return errors.Join(rows.Err(), rows.Close()) //nolint:sqlclosecheck // its error counts
	}
	s := func() any { return stamp.At(fieldcrypt.New("text"), wideColumn, nil) }
	before := runtime.NumGoroutine()
	for n := range 100 {
		for _, read := range []int{0, 1} {
			if err := run("INSERT INTO vault (wide) VALUES (?), (?) RETURNING id", read, s(), s()); err != nil {
				t.Fatal(err)
			}
			if err := run("UPDATE vault SET wide = ? WHERE id <= 3 RETURNING id", read, s()); !errors.Is(err,
				stamp.ErrManyRows) {
				t.Fatalf("run %d: got %v", n, err)
			}
		}
	}
	if got := stored(t, db, "SELECT id FROM vault WHERE wide LIKE 'gAAAA%'"); len(got) != 400 {
		t.Errorf("%d rows have a token", len(got))
	}
	if got := stored(t, db, "SELECT wide FROM vault WHERE id <= 3"); !slices.Equal(got,
		[]string{"one", "two", "three"}) {
		t.Errorf("got %v", got)
	}
	if open := db.Stats().InUse; open > 0 {
		t.Errorf("%d connections are in use", open)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if runtime.NumGoroutine() <= before {
			return
		}
	}
	t.Errorf("%d goroutines, before %d", runtime.NumGoroutine(), before)
}

// A context that ends while rows are read rolls the transaction back.
func TestRawRowsOfAnEndedContext(t *testing.T) {
	t.Parallel()
	db, next := openDB(t, vaultTables...)
	drv := newDriver(t, next, driver.Config{Keyring: ring(t, keyA)}).(contextDriver)
	ctx, cancel := context.WithCancel(t.Context())
	rows, err := drv.QueryContext(ctx, "UPDATE vault SET wide = ? WHERE id = 1 RETURNING id",
		stamp.At(fieldcrypt.New("text"), wideColumn, nil))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for rows.Next() {
	}
	if err := errors.Join(rows.Err(), rows.Close()); err == nil { //nolint:sqlclosecheck // its error counts
		t.Error("there is no error")
	}
	if got := stored(t, db, "SELECT wide FROM vault WHERE id = 1"); got[0] != "one" {
		t.Errorf("got %v", got)
	}
}

// Raw SQL must store a digest with the secret of an indexed column, and a
// secret with a digest.
func TestRawDigests(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	at := func(text string) any { return stamp.At(fieldcrypt.New(text), chestPIN, nil) }
	digest := func(text string) any { return stamp.DigestOf(fieldcrypt.New(text), chestPIN, nil) }
	for name, test := range map[string]struct {
		query string
		args  []any
		want  error
	}{
		"both": {"INSERT INTO chest (pin, pin_index) VALUES (?, ?)", []any{at("a"), digest("a")}, nil},
		"two rows": {
			"INSERT INTO chest (pin, pin_index) VALUES (?, ?), (?, ?)",
			[]any{at("a"), digest("a"), at("b"), digest("b")},
			nil,
		},
		"twice the same": {
			"INSERT INTO chest (pin, pin_index) VALUES (?, ?), (?, ?)",
			[]any{at("a"), digest("a"), at("a"), digest("a")},
			nil,
		},
		"absent": {
			"INSERT INTO chest (pin, pin_index) VALUES (?, ?)",
			[]any{stamp.At(fieldcrypt.Secret{}, chestPIN, nil), stamp.DigestOf(fieldcrypt.Secret{}, chestPIN, nil)},
			nil,
		},
		"no digest": {"INSERT INTO chest (pin) VALUES (?)", []any{at("a")}, blindindex.ErrBlindIndex},
		"one of two": {
			"INSERT INTO chest (pin, pin_index) VALUES (?, ?), (?, ?)",
			[]any{at("a"), digest("a"), at("b"), nil},
			blindindex.ErrBlindIndex,
		},
		"no secret": {
			"INSERT INTO chest (pin, pin_index) VALUES (?, ?)",
			[]any{nil, digest("a")},
			blindindex.ErrBlindIndex,
		},
		"of another": {
			"INSERT INTO chest (pin, pin_index) VALUES (?, ?)",
			[]any{at("a"), digest("b")},
			blindindex.ErrBlindIndex,
		},
		"one too many": {
			"INSERT INTO chest (pin, pin_index) VALUES (?, ?), (NULL, ?)",
			[]any{at("a"), digest("a"), digest("a")},
			blindindex.ErrBlindIndex,
		},
		"lookup by hand": {
			"UPDATE chest SET id = 7 WHERE pin_index = ?",
			[]any{digest("a")},
			blindindex.ErrBlindIndex,
		},
		"several columns": {
			"INSERT INTO chest (pin, pin_index) VALUES (?, ?) RETURNING (SELECT ?)",
			[]any{at("a"), digest("a"), stamp.At(fieldcrypt.New("x"), wideColumn, nil)},
			nil,
		},
	} {
		db, next := openDB(t, vaultTables...)
		err := newDriver(t, next, driver.Config{Keyring: r}).Exec(t.Context(), test.query, test.args, nil)
		var detail *fieldcrypt.Error
		if !errors.Is(err, test.want) || err != nil && (!errors.As(err, &detail) || detail.Column != "pin") {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		pins, digests := stored(t, db, "SELECT pin FROM chest ORDER BY id"), stored(t, db,
			"SELECT pin_index FROM chest ORDER BY id")
		if err != nil && len(pins) > 0 {
			t.Errorf("%s: %d rows are stored", name, len(pins))
		}
		for i := range pins {
			if pins[i] == "" && digests[i] == "" {
				continue
			}
			text, err := r.Decrypt(pins[i])
			if err != nil {
				t.Fatal(err)
			}
			want, err := new(blindindex.Digester).Primary(r, chestPIN, text)
			if err != nil || digests[i] != string(want) {
				t.Errorf("%s: the digest of row %d is %x, want %x, %v", name, i, digests[i], want, err)
			}
		}
	}
}

// Raw SQL's secret for a scoped column is sealed for the given tenant, and
// refused without one.
func TestRawTenants(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA)
	s := fieldcrypt.New("text")
	for name, test := range map[string]struct {
		column column.Column
		tenant any
		cfg    driver.Config
		want   error
		of     *keyring.Ring
	}{
		"bound by the schema":  {heldSecret, "b", driver.Config{}, nil, bound(t, r, heldSecret, "b")},
		"no tenant":            {heldSecret, nil, driver.Config{}, seal.ErrNoTenant, nil},
		"not bound":            {rentedKey, "b", driver.Config{}, nil, r},
		"not bound, no tenant": {rentedKey, nil, driver.Config{}, nil, r},
		"bound by the client": {
			rentedKey, "b",
			driver.Config{States: binding(states.Require, rentedKey)},
			nil,
			bound(t, r, rentedKey, "b"),
		},
		"bound by it, no tenant": {
			rentedKey, nil,
			driver.Config{States: binding(states.Require, rentedKey)},
			seal.ErrNoTenant, nil,
		},
		"in a schema chosen at run time": {
			rentedKey.InSchema("main"), "b",
			driver.Config{States: binding(states.Require, rentedKey)},
			nil, bound(t, r, rentedKey, "b"),
		},
	} {
		db, next := openDB(t, vaultTables...)
		test.cfg.Keyring = r
		query := "INSERT INTO " + test.column.Quoted() + " (" + column.QuoteName(test.column.Name) + ") VALUES (?)"
		err := newDriver(t, next, test.cfg).Exec(t.Context(), query, []any{stamp.At(s, test.column, test.tenant)}, nil)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		for _, token := range stored(t, db, "SELECT "+test.column.Name+" FROM "+test.column.Quoted()) {
			if test.of == nil {
				t.Errorf("%s: it is stored", name)
			} else if text, err := test.of.Decrypt(token); err != nil || text != "text" {
				t.Errorf("%s: got %q, %v", name, text, err)
			}
		}
	}
}

// The column's name has its schema in errors and in statements that the driver
// adds, except on SQLite, where ent omits it.
func TestInSchema(t *testing.T) {
	t.Parallel()
	err := newDriver(t, new(recorder), driver.Config{Keyring: ring(t, keyA)}).Exec(t.Context(), insert,
		[]any{stamp.At(fieldcrypt.New("text"), heldSecret.InSchema("billing"), nil)}, nil)
	var detail *fieldcrypt.Error
	if !errors.As(err, &detail) || detail.Table != "billing.held" {
		t.Errorf("got %v", err)
	}
	unique := letterStamp.InSchema("billing")
	args := []any{stamp.At(fieldcrypt.New("text"), unique, nil), stamp.DigestOf(fieldcrypt.New("text"), unique, nil)}
	rec := &schemaRecorder{}
	rec.changed = 1
	if err := newDriver(t, rec, driver.Config{Keyring: ring(t, keyA, keyB)}).
		Exec(t.Context(), insert, args, nil); err != nil {
		t.Fatal(err)
	}
	if n := len(rec.queries); n < 2 || !strings.Contains(rec.queries[1], `UPDATE "billing"."letter" SET "stamp_index"`) {
		t.Errorf("got %q", rec.queries)
	}
}

// schemaRecorder also records statements.
type schemaRecorder struct {
	recorder
	queries []string
}

func (r *schemaRecorder) Exec(ctx context.Context, query string, args, v any) error {
	r.queries = append(r.queries, query)
	return r.recorder.Exec(ctx, query, args, v)
}

func (r *schemaRecorder) Tx(context.Context) (dialect.Tx, error) { return r, nil }
