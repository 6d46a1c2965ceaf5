// Package bound tests tokens that are bound to table, column and tenant on two
// tables of its own, with other types of tenants than in Credent's own tables.
package bound

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"
	"github.com/google/uuid"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/testdb/bare"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// Two tables with the same columns. The schema of the second binds.
var (
	columns = []encrypted.Column{
		{Table: "devices", Name: "key", Size: 500, Type: "string", ID: "id", Tenant: "owner"},
		{Table: "devices", Name: "pin", Size: 500, Type: "string", ID: "id", Tenant: "owner"},
		{Table: "orders", Name: "key", Size: 500, Type: "string", ID: "id", Tenant: "owner", Bound: true},
	}
	// fields are their ValueScanners, which ent would have.
	fields [3]column.Field
	_      = bind()
)

func bind() bool {
	for i, c := range columns {
		scanner := column.NewField(c.Name, c.Size)
		fields[i] = scanner
		encrypted.Register(encrypted.Binding{Column: c, Scanner: func() any { return scanner }})
	}
	return true
}

// tenants are of each type that the tables' column can have, two of each, as
// arguments.
var tenants = map[string]struct {
	postgres, sqlite string
	one, other       any
}{
	"text": {"varchar(255)", "TEXT", "a", "A"},
	"uuid": {
		"uuid", "uuid", uuid.MustParse("6B4A2F10-0000-4000-8000-00000000000A"),
		uuid.MustParse("6B4A2F10-0000-4000-8000-00000000000B"),
	},
	"integer": {"bigint", "INTEGER", int64(-7), int64(8)},
}

// database is one with both tables, a driver on it and a keyring.
type database struct {
	*sql.DB
	dialect string
	ring    *keyring.Keyring
}

// forEach runs a test for each type of tenant over both drivers of Postgres and
// both of SQLite.
func forEach(t *testing.T, test func(t *testing.T, db *database, one, other any)) {
	t.Helper()
	for name, tenant := range tenants {
		for _, driver := range bare.SQLDrivers {
			t.Run(name+" over "+driver, func(t *testing.T) {
				t.Parallel()
				db, columnType := new(database), tenant.sqlite
				var err error
				if db.DB, db.dialect = bare.Empty(t, driver); db.dialect == dialect.Postgres {
					columnType = tenant.postgres
				}
				if db.ring, err = keyring.New(fernet.GenerateKey()); err != nil {
					t.Fatal(err)
				}
				for _, table := range []string{"devices", "orders"} {
					db.exec(t, fmt.Sprintf(`CREATE TABLE %s (id int PRIMARY KEY, owner %s NOT NULL, "key" varchar(500), pin varchar(500))`, table, columnType))
				}
				test(t, db, tenant.one, tenant.other)
			})
		}
	}
}

func (db *database) exec(t *testing.T, query string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// binding gives the columns that the schema doesn't bind a state.
func binding(s encrypted.State) []encrypted.ColumnStates {
	return []encrypted.ColumnStates{{Column: columns[0], Binding: s}, {Column: columns[1], Binding: s}}
}

// client is a driver of the database.
func (db *database) client(t *testing.T, binding ...encrypted.ColumnStates) dialect.Driver {
	t.Helper()
	drv, err := encrypted.NewDriver(entsql.OpenDB(db.dialect, db.DB), encrypted.Config{
		Keyring: db.ring,
		States:  binding,
	})
	if err != nil {
		t.Fatal(err)
	}
	return drv
}

// placeholders returns a statement as the database wants it.
func (db *database) placeholders(query string) string {
	if db.dialect == dialect.SQLite {
		return strings.ReplaceAll(query, "$", "?")
	}
	return query
}

// exec runs the caller's own statement, outside a transaction.
func exec(ctx context.Context, db *database, client dialect.Driver, query string, args ...any) error {
	return client.Exec(ctx, db.placeholders(query), args, nil)
}

// update changes a row's column as generated code does: by a spec, which says
// the row.
func update(ctx context.Context, client dialect.Driver, values map[string]any) error {
	spec := sqlgraph.NewUpdateSpec("devices", []string{"id", "owner", "key", "pin"},
		sqlgraph.NewFieldSpec("id", field.TypeInt))
	spec.Node.ID.Value = 1
	for i, c := range columns[:2] {
		if v, ok := values[c.Name]; ok {
			value, err := fields[i].Value(fieldcrypt.New(v.(string)))
			if err != nil {
				return err
			}
			spec.SetField(c.Name, field.TypeString, value)
		}
	}
	if owner, ok := values["owner"]; ok {
		spec.SetField("owner", field.TypeOther, owner)
	}
	spec.Assign = func([]string, []any) error { return nil }
	spec.ScanValues = func(names []string) ([]any, error) {
		targets := make([]any, len(names))
		for i := range targets {
			targets[i] = new(any)
		}
		return targets, nil
	}
	if _, none, err := encrypted.CompleteUpdate(ctx, "", client, spec, true); none || err != nil {
		return err
	}
	return sqlgraph.UpdateNode(ctx, client, spec)
}

// insert stores a row with secrets that say where they are from.
func (db *database) insert(t *testing.T, client dialect.Driver, table string, id int, owner any) {
	t.Helper()
	of := columns[0]
	if table == "orders" {
		of = columns[2]
	}
	key := encrypted.At(fieldcrypt.New(fmt.Sprint("key of ", table, id)), of, owner)
	query, args := `INSERT INTO "`+table+`" ("id", "owner", "key") VALUES ($1, $2, $3)`, []any{id, owner, key}
	if table == "devices" {
		query = `INSERT INTO "devices" ("id", "owner", "key", "pin") VALUES ($1, $2, $3, $4)`
		args = append(args, encrypted.At(fieldcrypt.New(fmt.Sprint("pin of ", id)), columns[1], owner))
	}
	if err := exec(t.Context(), db, client, query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// read returns what a column of a row reveals. It is scanned as ent does it.
func (db *database) read(t *testing.T, client dialect.Driver, table, column string, id int, owner any) (string, error) {
	t.Helper()
	rows := new(entsql.Rows)
	query := fmt.Sprintf(`SELECT "id", "owner", %q FROM %q WHERE "id" = $1`, column, table)
	if err := client.Query(t.Context(), db.placeholders(query), []any{id}, rows); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var into any
	switch owner.(type) {
	case string:
		into = new(sql.NullString)
	case uuid.UUID:
		into = new(uuid.UUID)
	default:
		into = new(sql.NullInt64)
	}
	of := slices.IndexFunc(columns, func(c encrypted.Column) bool { return c.Table == table && c.Name == column })
	target := fields[of].ScanValue()
	if !rows.Next() {
		t.Fatal("no row", rows.Err())
	}
	if err := rows.Scan(new(sql.NullInt64), into, target); err != nil {
		t.Fatal(err)
	}
	secret, err := fields[of].FromValue(target)
	if err != nil {
		t.Fatal(err)
	}
	return secret.Reveal()
}

// bare reads a secret into the caller's type, which knows no column.
func (db *database) bare(t *testing.T, client dialect.Driver) (string, error) {
	t.Helper()
	rows := new(entsql.Rows)
	if err := client.Query(t.Context(), `SELECT "id", "key" FROM "devices" WHERE "id" = 0`, []any{}, rows); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var secret fieldcrypt.Secret
	if !rows.Next() {
		t.Fatal("no row", rows.Err())
	}
	if err := rows.Scan(new(sql.NullInt64), &secret); err != nil {
		t.Fatal(err)
	}
	return secret.Reveal()
}

// TestBoundTokensOfTwoTables exchanges tokens of two tenants, two columns and
// two tables: where they are bound none of them opens, and where they are not,
// each opens where it was moved to.
func TestBoundTokensOfTwoTables(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *database, one, other any) {
		bound := db.client(t, binding(encrypted.Require)...) // the third is by its schema
		for id, owner := range []any{one, one, other} {
			db.insert(t, bound, "devices", id, owner)
			db.insert(t, bound, "orders", id, owner)
		}
		plain := db.client(t, binding(encrypted.Accept)...)
		for id, owner := range []any{one, one, other} {
			db.insert(t, plain, "devices", 10+id, owner)
		}
		check := func(from, table, column string, id int, owner any, want string) {
			t.Helper()
			got, err := db.read(t, bound, table, column, id, owner)
			if want == "" && (got != "" || !errors.Is(err, encrypted.ErrWrongLocation) ||
				!errors.Is(err, encrypted.ErrUnknownKey)) {
				t.Errorf("%s: got %q, %v, want ErrWrongLocation", from, got, err)
			}
			if want != "" && (err != nil || got != want) {
				t.Errorf("%s: got %q, %v", from, got, err)
			}
		}
		// Two tables have a column of this name, and nobody says which it is.
		if _, err := db.bare(t, bound); !errors.Is(err, encrypted.ErrWrongLocation) ||
			!strings.Contains(err.Error(), "several tables have a column key") {
			t.Errorf("a column of either table: %v", err)
		}
		check("in place", "devices", "key", 0, one, "key of devices0")
		check("in place", "orders", "key", 2, other, "key of orders2")
		for from, token := range map[string]string{
			"":                    `SELECT "key" FROM devices WHERE id = 1`, // another row of the same tenant
			"another tenant":      `SELECT "key" FROM devices WHERE id = 2`,
			"another column":      `SELECT pin FROM devices WHERE id = 0`,
			"another table":       `SELECT "key" FROM orders WHERE id = 0`,
			"another tenant's of": `SELECT pin FROM devices WHERE id = 2`,
		} {
			db.exec(t, `UPDATE devices SET "key" = (`+token+`) WHERE id = 0`)
			if from == "" {
				check("another row of the tenant, which is not noticed", "devices", "key", 0, one, "key of devices1")
				continue
			}
			check(from, "devices", "key", 0, one, "")
		}
		db.exec(t, `UPDATE orders SET "key" = (SELECT "key" FROM devices WHERE id = 1) WHERE id = 0`)
		check("another table", "orders", "key", 0, one, "")

		for from, test := range map[string]struct{ token, want string }{
			"another tenant": {`SELECT "key" FROM devices WHERE id = 12`, "key of devices12"},
			"another column": {`SELECT pin FROM devices WHERE id = 10`, "pin of 10"},
		} {
			db.exec(t, `UPDATE devices SET "key" = (`+test.token+`) WHERE id = 11`)
			if got, err := db.read(t, plain, "devices", "key", 11, one); err != nil || got != test.want {
				t.Errorf("not bound, of %s: got %q, %v", from, got, err)
			}
		}
		if got, err := db.read(t, bound, "devices", "key", 10, one); got != "" ||
			!errors.Is(err, encrypted.ErrWrongLocation) {
			t.Errorf("not bound, where all are: got %q, %v, want ErrWrongLocation", got, err)
		}
		db.exec(t, `UPDATE orders SET "key" = (SELECT "key" FROM devices WHERE id = 10) WHERE id = 1`)
		if got, err := db.read(t, bound, "orders", "key", 1, one); got != "" ||
			!errors.Is(err, encrypted.ErrWrongLocation) {
			t.Errorf("an unbound token of another table: got %q, %v, want ErrWrongLocation", got, err)
		}
	})
}

// Updates look up the row's tenant; rotate finds the same tenant in the
// database.
func TestBoundUpdatesAndRotation(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *database, one, other any) {
		ctx := t.Context()
		plain, bound := db.client(t), db.client(t, binding(encrypted.Require)...)
		for id, owner := range []any{one, other} {
			db.insert(t, plain, "devices", id, owner)
			db.insert(t, plain, "orders", id, owner)
		}
		report, err := rotate.Run(ctx, db.DB, db.ring, rotate.Config{States: binding(encrypted.Write)})
		if err != nil || report.Rewritten() != 2 {
			t.Fatalf("%+v, %v", report, err)
		}
		if err := update(ctx, bound, map[string]any{"pin": "new"}); err != nil {
			t.Fatal(err)
		}
		for column, want := range map[string]string{"key": "key of devices1", "pin": "new"} {
			if got, err := db.read(t, bound, "devices", column, 1, other); err != nil || got != want {
				t.Errorf("%s: got %q, %v", column, got, err)
			}
		}
		const bare = `UPDATE "devices" SET "pin" = $1 WHERE "id" = $2`
		if err := exec(ctx, db, bound, bare, fieldcrypt.New("new"), 1); !errors.Is(err, encrypted.ErrNoLocation) ||
			!strings.Contains(err.Error(), "encrypted.At(") {
			t.Errorf("a bare secret: %v", err)
		}
		if err := exec(ctx, db, bound, bare, encrypted.At(fieldcrypt.New("new"), columns[1], nil), 1); !errors.Is(err,
			encrypted.ErrNoTenant) {
			t.Errorf("without the tenant: %v", err)
		}
		if err := update(ctx, bound, map[string]any{"owner": one, "key": "moved", "pin": "moved"}); err != nil {
			t.Fatal(err)
		}
		if got, err := db.read(t, bound, "devices", "key", 1, one); err != nil || got != "moved" {
			t.Errorf("moved: got %q, %v", got, err)
		}
		if err := update(ctx, bound, map[string]any{"owner": other}); !errors.Is(err, encrypted.ErrWrongLocation) {
			t.Errorf("moved without its secrets: %v", err)
		}
		if err := update(ctx, bound, map[string]any{"owner": other, "key": "x"}); !errors.Is(err,
			encrypted.ErrWrongLocation) {
			t.Errorf("moved with one of two secrets: %v", err)
		}
		if err := update(ctx, bound, map[string]any{"owner": one}); err != nil {
			t.Errorf("moved to where it is: %v", err)
		}

		counts, err := rotate.Verify(ctx, db.DB, db.ring)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range counts {
			if c.Bound != map[string]int64{"devices": 2, "orders": 2}[c.Table] || c.Primary != 2 {
				t.Errorf("%+v", c)
			}
		}
		if report, err := rotate.Run(ctx, db.DB, db.ring,
			rotate.Config{States: binding(encrypted.Accept)}); err != nil || report.Rewritten() != 2 {
			t.Fatalf("%+v, %v", report, err)
		}
		if got, err := db.read(t, plain, "devices", "key", 0, one); err != nil || got != "key of devices0" {
			t.Errorf("unbound again: got %q, %v", got, err)
		}
		if report, err := rotate.Run(ctx, db.DB, db.ring, rotate.Config{}); err != nil || report.Rewritten() != 0 {
			t.Errorf("what the schema binds was not left alone: %+v, %v", report, err)
		}
		// A token that was moved is listed, and left as it is.
		db.exec(t, `UPDATE orders SET "key" = (SELECT o."key" FROM orders AS o WHERE o.id = 1) WHERE id = 0`)
		report, err = rotate.Run(ctx, db.DB, db.ring, rotate.Config{})
		if !errors.Is(err, rotate.ErrQuarantined) || report.Tables[1].Quarantined != 1 ||
			!errors.Is(report.Tables[1].Examples[0].Err, encrypted.ErrWrongLocation) {
			t.Errorf("%+v, %v", report, err)
		}
	})
}

// TestRotateBindsToTheNewTenant has a row that becomes another's between its
// reading and its writing: rotate does not bind its secrets to the one it was.
func TestRotateBindsToTheNewTenant(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, db *database, one, other any) {
		if db.dialect != dialect.Postgres {
			return // rows are read and written while nobody else writes
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		db.insert(t, db.client(t), "devices", 0, one)
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(ctx, "UPDATE devices SET owner = $1", other); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			report, err := rotate.Run(ctx, db.DB, db.ring, rotate.Config{States: binding(encrypted.Write)})
			if err == nil && report.Tables[0].Skipped != 1 {
				err = fmt.Errorf("nothing was skipped: %+v", report)
			}
			done <- err
		}()
		for waiting := 0; waiting == 0; {
			err := db.QueryRowContext(ctx, `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting)
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got, err := db.read(t, db.client(t, binding(encrypted.Require)...), "devices", "key", 0,
			other); err != nil || got != "key of devices0" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}
