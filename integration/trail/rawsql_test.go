package trail

import (
	"context"
	stdsql "database/sql"
	"errors"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/rotate"
)

// rawClient runs raw SQL: a client, or a transaction.
type rawClient interface {
	ExecContext(ctx context.Context, query string, args ...any) (stdsql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*stdsql.Rows, error)
}

// writes returns the ways to change rows without a secret among the arguments.
func writes(ctx context.Context, d string, on rawClient) map[string]func() error {
	exec := func(query string) func() error {
		return func() error {
			_, err := on.ExecContext(ctx, query)
			return err
		}
	}
	query := func(query string) func() error {
		return func() error {
			rows, err := on.QueryContext(ctx, query)
			if err != nil {
				return err
			}
			return errors.Join(rows.Close(), rows.Err()) //nolint:sqlclosecheck // its error counts
		}
	}
	all := map[string]func() error{
		"DELETE":             exec("DELETE FROM user_credentials"),
		"DDL":                exec("ALTER TABLE user_credentials ADD COLUMN more text"),
		"DELETE of no row":   exec("DELETE FROM user_credentials WHERE is_active = false"),
		"DELETE … RETURNING": query("DELETE FROM user_credentials RETURNING id"),
		"UPDATE by query":    query("UPDATE user_credentials SET is_active = false"),
		"several statements": exec("SELECT 1; DELETE FROM user_credentials"),
		"behind a comment":   query("/* SELECT */ DELETE FROM user_credentials RETURNING id"),
		"INSERT … RETURNING": query("INSERT INTO credent_states SELECT 'a.b', 'binding', 'off', changed_at FROM " +
			"credent_states RETURNING state"),
		"SELECT … by Exec":    exec("SELECT 1"),
		"a change behind CTE": query("WITH a AS (SELECT 1) DELETE FROM user_credentials RETURNING id"),
	}
	if d == dialect.Postgres {
		all["TRUNCATE"] = exec("TRUNCATE user_credentials CASCADE")
		all["a change in WITH"] = query("WITH gone AS (DELETE FROM user_credentials RETURNING id) SELECT 1")
		all["a change by DO"] = exec("DO $$ BEGIN DELETE FROM user_credentials; END $$")
		all["SELECT … INTO"] = query("SELECT * INTO copied FROM user_credentials")
	}
	return all
}

// A change by raw SQL has its entry in the same transaction. If the trail
// refuses the entry, the change isn't made, on any path.
func TestTrailRefusesRawSQL(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		_, rows := env.Seed(t)
		if err := w.trail.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, write := range writes(as(t), env.Dialect(), w.client) {
			if err := write(); !errors.Is(err, audit.ErrClosed) {
				t.Errorf("%s: got %v, want ErrClosed", name, err)
			}
			untouched(t, env, name, len(rows))
		}
		for name := range writes(as(t), env.Dialect(), w.client) {
			tx, err := w.client.Tx(as(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := writes(as(t), env.Dialect(), tx)[name](); !errors.Is(err, audit.ErrClosed) {
				t.Errorf("%s, in a transaction: got %v, want ErrClosed", name, err)
			}
			if err := tx.Commit(); err == nil {
				t.Errorf("%s: the transaction was committed", name)
			}
			untouched(t, env, name, len(rows))
		}
		rows2, err := w.client.QueryContext(as(t), "SELECT id FROM user_credentials")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(rows2.Close(), rows2.Err()); err != nil { //nolint:sqlclosecheck // its error counts
			t.Errorf("a query: %v", err)
		}
	})
}

// untouched checks that nothing was changed.
func untouched(t *testing.T, env *testdb.Env, what string, rows int) {
	t.Helper()
	var n int
	env.Value(t, &n, "SELECT count(*) FROM user_credentials WHERE is_active")
	if n != rows {
		t.Fatalf("%s: %d rows are unchanged, want %d", what, n, rows)
	}
	var columns int
	query := "SELECT count(*) FROM pragma_table_info('user_credentials') WHERE name = 'more'"
	if env.Dialect() == dialect.Postgres {
		query = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'more' OR table_name = 'copied'"
	}
	if env.Value(t, &columns, query); columns != 0 {
		t.Fatalf("%s: the table was changed", what)
	}
}

// Raw SQL's entry is committed with it, without waiting for a flush.
func TestTrailTellsRawSQLAtOnce(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		trail := openTrail(t, env, audit.Config{Flush: time.Hour})
		c, err := credent.NewClient(env.Pool(t), env.Dialect(), credent.Config{Keyring: env.Ring, Trail: trail})
		if err != nil {
			t.Fatal(err)
		}
		names := writes(as(t), env.Dialect(), c)
		delete(names, "INSERT … RETURNING") // its row would stay
		for name := range names {
			_, _ = env.Seed(t)
			before := len(stored(t, env.DB))
			tx, err := c.Tx(as(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := writes(as(t), env.Dialect(), tx)[name](); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			if all := stored(t, env.DB); len(all) != before {
				t.Errorf("%s, rolled back: got %+v", name, all[before:])
			}
			if err := writes(as(t), env.Dialect(), c)[name](); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			all := stored(t, env.DB)
			if len(all) != before+1 || all[before].Note != "raw SQL without a secret" || all[before].Actor != "ada" {
				t.Errorf("%s: got %+v", name, all[before:])
			}
			switch name {
			case "DDL":
				env.Exec(t, "ALTER TABLE user_credentials DROP COLUMN more")
			case "SELECT … INTO":
				env.Exec(t, "DROP TABLE copied")
			}
			env.Exec(t, "DELETE FROM user_credentials")
			env.Exec(t, "DELETE FROM user_accounts")
		}
	})
}

// Raw SQL that stores a secret and returns no rows also has an entry, although
// its changed rows aren't counted.
func TestTrailOfSecretByQuery(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		account := env.Account(t, "u-1")
		row := env.Credential(t, account, "key", "secret")
		query, args := entsql.Dialect(env.Dialect()).Update(credentials).
			Set("secret_key", encrypted.At(credent.NewSecret("new"), usercredential.SecretKeyColumn, nil)).
			Where(entsql.EQ("id", row.ID)).Returning("id").Query()
		rows, err := w.client.QueryContext(as(t), query, args...)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(rows.Close(), rows.Err()); err != nil { //nolint:sqlclosecheck // its error counts
			t.Fatal(err)
		}
		all := w.entries(t)
		if len(all) != 1 || all[0].Column != "secret_key" || all[0].Rows != 1 || all[0].Note != "raw SQL" {
			t.Errorf("got %+v", all)
		}
	})
}

// A client without a required trail changes nothing, on any path, and continues
// reading.
func TestTrailRequiredOfRawSQL(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		_, rows := env.Seed(t)
		cfg := credent.Config{Keyring: env.Ring}
		drv, err := client.WrapDriver(entsql.OpenDB(env.Dialect(), env.Pool(t)), cfg)
		if err != nil {
			t.Fatal(err)
		}
		c := ent.NewClient(ent.Driver(drv))
		if n, err := c.UserCredential.Query().Count(as(t)); err != nil || n != len(rows) {
			t.Fatal(n, err) // it doesn't know of the trail yet
		}
		if _, err := rotate.SetTrail(rotate.WithTrail(as(t), w.trail), env.DB, true); err != nil {
			t.Fatal(err)
		}
		if drv, err = client.WrapDriver(entsql.OpenDB(env.Dialect(), env.Pool(t)), cfg); err != nil {
			t.Fatal(err)
		}
		c = ent.NewClient(ent.Driver(drv))
		refused := func(name string, err error) {
			t.Helper()
			if !errors.Is(err, encrypted.ErrTrailRequired) {
				t.Errorf("%s: got %v, want ErrTrailRequired", name, err)
			}
			untouched(t, env, name, len(rows))
		}
		for name, write := range writes(as(t), env.Dialect(), c) {
			refused(name, write())
		}
		for name := range writes(as(t), env.Dialect(), c) {
			tx, err := c.Tx(as(t))
			if err != nil {
				t.Fatal(err)
			}
			err = writes(as(t), env.Dialect(), tx)[name]()
			_ = tx.Commit() // it contains nothing
			refused(name+", in a transaction", err)
		}
		const remove = "DELETE FROM user_credentials"
		refused("Exec", drv.Exec(as(t), remove, []any{}, nil))
		refused("Query", drv.Query(as(t), remove+" RETURNING id", []any{}, new(entsql.Rows)))

		count := func(name string, on rawClient, query string) {
			t.Helper()
			found, err := on.QueryContext(as(t), query)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			n := 0
			for found.Next() {
				n++
			}
			if err := errors.Join(found.Err(), found.Close()); err != nil || n != len(rows) { //nolint:sqlclosecheck // its error counts
				t.Errorf("%s: %d rows, %v", name, n, err)
			}
		}
		const read = "SELECT id FROM user_credentials"
		count("a query", c, read)
		tx, err := c.Tx(as(t))
		if err != nil {
			t.Fatal(err)
		}
		count("a query in a transaction", tx, read)
		for _, stmt := range []string{"SAVEPOINT a", "ROLLBACK TO SAVEPOINT a", "RELEASE SAVEPOINT a"} {
			if _, err := tx.ExecContext(as(t), stmt); err != nil {
				t.Errorf("%s: %v", stmt, err)
			}
		}
		count("another query in a transaction", tx, read)
		if err := tx.Commit(); err != nil {
			t.Error(err)
		}
		if env.Dialect() == dialect.Postgres {
			count("WITH", c, "WITH a AS ("+read+") SELECT id FROM a")
			env.Exec(t, "CREATE FUNCTION remove() RETURNS void LANGUAGE sql AS 'DELETE FROM user_credentials'")
			found, err := c.QueryContext(as(t), "SELECT remove()")
			if err == nil {
				err = errors.Join(found.Close(), found.Err()) //nolint:sqlclosecheck // its error counts
			}
			refused("a function that writes", err)
		}
		var selected entsql.Rows
		if err := drv.Query(as(t), read, []any{}, &selected); err != nil {
			t.Errorf("a query of the driver: %v", err)
		} else if err := selected.Close(); err != nil {
			t.Error(err)
		}
	})
}
