package tenantkeys

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/rotate"
)

// tenanted is a database with two users' accounts, and a client that gives each
// a key.
type tenanted struct {
	*testdb.Env
	opts     []testopt.Option // of the clients
	accounts map[string]*ent.UserAccount
}

// forEachTenanted runs a test over all drivers.
func forEachTenanted(t *testing.T, test func(t *testing.T, e *tenanted)) {
	t.Helper()
	testdb.ForEachDatabase(t, withTenants(test))
}

// forEachTenantedPostgres runs a test over the drivers of Postgres.
func forEachTenantedPostgres(t *testing.T, test func(t *testing.T, e *tenanted)) {
	t.Helper()
	testdb.ForEachDriver(t, withTenants(test))
}

func withTenants(test func(t *testing.T, e *tenanted)) func(t *testing.T, env *testdb.Env) {
	return func(t *testing.T, env *testdb.Env) {
		e := &tenanted{Env: env, opts: []testopt.Option{
			testopt.WithKeyring(env.Ring),
			testopt.WithTenantKeys(credent.Write),
		}}
		e.accounts = map[string]*ent.UserAccount{"u1": e.Account(t, "u1"), "u2": e.Account(t, "u2")}
		test(t, e)
	}
}

// fresh returns a client without cached keys.
func (e *tenanted) fresh(t *testing.T, opts ...testopt.Option) *ent.Client {
	t.Helper()
	return e.Open(t, append(slices.Clone(e.opts), opts...)...)
}

func (e *tenanted) create(client *ent.UserCredentialClient, user string) *ent.UserCredentialCreate {
	return client.Create().SetAccount(e.accounts[user]).SetUserID(user).SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("PK of " + user)).SetSecretKey(credent.NewSecret("secret of " + user))
}

func oneRow(row credent.CopyRow) iter.Seq2[credent.CopyRow, error] {
	return func(yield func(credent.CopyRow, error) bool) { yield(row, nil) }
}

// writes returns the ways to store a user's secrets, in the rows of an existing
// credential if they need one.
func (e *tenanted) writes(
	client *ent.Client, db *sql.DB,
) map[string]func(ctx context.Context, user string, there *ent.UserCredential) error {
	inTx := func(ctx context.Context, f func(tx *ent.Tx) error) error {
		tx, err := client.Tx(ctx)
		if err != nil {
			return err
		}
		if err := f(tx); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit()
	}
	return map[string]func(context.Context, string, *ent.UserCredential) error{
		"create": func(ctx context.Context, user string, _ *ent.UserCredential) error {
			return e.create(client.UserCredential, user).Exec(ctx)
		},
		"bulk": func(ctx context.Context, user string, _ *ent.UserCredential) error {
			return client.UserCredential.CreateBulk(e.create(client.UserCredential, user),
				e.create(client.UserCredential, user)).Exec(ctx)
		},
		"transaction": func(ctx context.Context, user string, _ *ent.UserCredential) error {
			return inTx(ctx, func(tx *ent.Tx) error { return e.create(tx.UserCredential, user).Exec(ctx) })
		},
		"update": func(ctx context.Context, user string, there *ent.UserCredential) error {
			return client.UserCredential.UpdateOneID(there.ID).SetAPIKey(credent.NewSecret("PK of " + user)).Exec(ctx)
		},
		"update in a transaction": func(ctx context.Context, user string, there *ent.UserCredential) error {
			return inTx(ctx, func(tx *ent.Tx) error {
				return tx.UserCredential.UpdateOneID(there.ID).SetSecretKey(credent.NewSecret("secret of " + user)).
					Exec(ctx)
			})
		},
		"upsert": func(ctx context.Context, user string, there *ent.UserCredential) error {
			return e.create(client.UserCredential, user).SetID(there.ID).OnConflictColumns(usercredential.FieldID).
				UpdateNewValues().Exec(ctx)
		},
		"copy": func(ctx context.Context, user string, _ *ent.UserCredential) error {
			_, err := testopt.Copy(ctx, db, oneRow(credent.CopyRow{
				UserID: user, CredentialType: "alpaca",
				APIKey: credent.NewSecret("PK of " + user), SecretKey: credent.NewSecret("secret of " + user),
			}), credent.CopyConfig{}, e.opts...)
			return err
		},
		"copy with formats": func(ctx context.Context, user string, _ *ent.UserCredential) error {
			_, err := testopt.Copy(ctx, db, oneRow(credent.CopyRow{
				UserAccountID: e.accounts[user].ID, CredentialType: "other",
				APIKey: credent.NewSecret("PK of " + user), SecretKey: credent.NewSecret("secret of " + user),
			}), credent.CopyConfig{}, append(slices.Clone(e.opts), testopt.WithFormats())...)
			return err
		},
	}
}

// wantAll reveals every secret over every read path, with the wanted error for
// a user.
func (e *tenanted) wantAll(t *testing.T, client *ent.Client, want map[string]error) {
	t.Helper()
	ctx := t.Context()
	paths := map[string]func() ([]*ent.UserCredential, error){
		"query": func() ([]*ent.UserCredential, error) { return client.UserCredential.Query().All(ctx) },
		"eager": func() (all []*ent.UserCredential, err error) {
			accounts, err := client.UserAccount.Query().WithCredentials().All(ctx)
			for _, a := range accounts {
				all = append(all, a.Edges.Credentials...)
			}
			return all, err
		},
		"edge": func() (all []*ent.UserCredential, err error) {
			for _, a := range e.accounts {
				of, err := client.UserAccount.Query().Where(useraccount.ID(a.ID)).QueryCredentials().All(ctx)
				if err != nil {
					return nil, err
				}
				all = append(all, of...)
			}
			return all, nil
		},
		"transaction": func() ([]*ent.UserCredential, error) {
			tx, err := client.Tx(ctx)
			if err != nil {
				return nil, err
			}
			all, err := tx.UserCredential.Query().All(ctx)
			return all, errors.Join(err, tx.Commit())
		},
	}
	for path, read := range paths {
		rows, err := read()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		seen := make(map[string]bool)
		for _, row := range rows {
			seen[row.UserID] = true
			for column, secret := range map[string]credent.Secret{"api_key": row.APIKey, "secret_key": row.SecretKey} {
				text, err := secret.Reveal()
				if !errors.Is(err, want[row.UserID]) || err == nil && !strings.HasSuffix(text, " of "+row.UserID) {
					t.Errorf("%s: %s of %s: got %v, want %v", path, column, row.UserID, err, want[row.UserID])
				}
				var named *credent.Error
				if err != nil && (!errors.As(err, &named) || named.Table != usercredential.Table ||
					named.Column != column || named.Row != row.ID.String()) {
					t.Errorf("%s: %v doesn't name the location", path, err)
				}
				if errors.Is(err, credent.ErrShredded) && errors.Is(err, credent.ErrCorrupt) {
					t.Errorf("%s: %v counts as damage", path, err)
				}
			}
		}
		if !seen["u1"] || !seen["u2"] {
			t.Errorf("%s: saw %v", path, seen)
		}
	}
}

// A service can see and create only its user's key, and can't change or destroy
// any.
func TestTenantKeysOfServices(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		app := testdb.Open(t, s.ServiceURL, append(slices.Clone(s.Opts), testopt.WithTenantKeys(credent.Write))...)
		for _, user := range []string{"u1", "u2"} {
			for range 2 {
				if err := app.UserCredential.Create().SetAccount(s.Accounts[user]).SetCredentialType("alpaca").
					SetAPIKey(credent.NewSecret("PK")).SetSecretKey(credent.NewSecret("s")).
					Exec(testdb.As(t, user)); err != nil {
					t.Fatal(err)
				}
			}
			rows, err := testdb.Open(t, s.ServiceURL, append(slices.Clone(s.Opts),
				testopt.WithTenantKeys(credent.Write))...).UserCredential.Query().All(testdb.As(t, user))
			if err != nil {
				t.Fatal(err)
			}
			if len(rows) < 3 {
				t.Errorf("%s sees %d", user, len(rows))
			}
			for _, row := range rows {
				testdb.Reveal(t, row.APIKey)
			}
		}
		if err := app.UserCredential.Create().SetAccount(s.Accounts["u2"]).SetUserID("u2").SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("PK")).SetSecretKey(credent.NewSecret("s")).
			Exec(testdb.As(t, "u1")); err == nil {
			t.Error("u1 stored for u2")
		}
		db := testdb.OpenDB(t, s.ServiceURL, s.Opts...)
		inTx := func(user string, f func(tx *sql.Tx) error) error {
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback() }()
			if _, err := tx.ExecContext(t.Context(), "SELECT set_config('app.user_id', $1, true)", user); err != nil {
				t.Fatal(err)
			}
			return f(tx)
		}
		for user, want := range map[string]string{"u1": "u1", "u2": "u2", "u3": "", "": ""} {
			if err := inTx(user, func(tx *sql.Tx) error {
				var seen string
				err := tx.QueryRowContext(t.Context(), "SELECT coalesce(string_agg(tenant, ','), '') FROM "+
					"credent_tenant_keys").Scan(&seen)
				if seen != want {
					t.Errorf("%q sees the keys of %q", user, seen)
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		}
		for _, statement := range []string{
			"UPDATE credent_tenant_keys SET wrapped = NULL, destroyed_at = now()",
			"UPDATE credent_tenant_keys SET wrapped = 'gAAAAx' WHERE tenant = 'u1'",
			"DELETE FROM credent_tenant_keys",
			"TRUNCATE credent_tenant_keys",
			"INSERT INTO credent_tenant_keys (tenant, wrapped) VALUES ('u3', 'gAAAAx')",
			"INSERT INTO credent_tenant_keys (tenant, destroyed_at) VALUES ('u1', now())",
			"INSERT INTO credent_tenant_keys (tenant, wrapped) VALUES ('u1', 'gAAAAx') ON CONFLICT (tenant) DO " +
				"UPDATE SET wrapped = 'gAAAAx'",
		} {
			err := inTx("u1", func(tx *sql.Tx) error {
				_, err := tx.ExecContext(t.Context(), statement)
				return err
			})
			if code := stateOf(err); code != "42501" {
				t.Errorf("%s: %v", statement, err)
			}
		}
		listed := 0
		for _, err := range rotate.AllTenants(t.Context(), db, "") {
			if listed++; !errors.Is(err, rotate.ErrHidden) {
				t.Errorf("list: %v", err)
			}
		}
		if listed != 1 {
			t.Errorf("list: %d errors", listed)
		}
		if _, err := rotate.DestroyTenant(t.Context(), db, s.Ring, "u1"); !errors.Is(err, rotate.ErrHidden) {
			t.Errorf("destroy: %v", err)
		}
	})
}

func stateOf(err error) string {
	var coded interface{ SQLState() string }
	if errors.As(err, &coded) {
		return coded.SQLState()
	}
	return ""
}

// Many clients need the keys of two users at once, in transactions, some rolled
// back, in pools of one connection.
func TestTenantKeysConcurrently(t *testing.T) {
	t.Parallel()
	forEachTenanted(t, func(t *testing.T, e *tenanted) {
		var wait sync.WaitGroup
		for n := range 8 {
			wait.Go(func() {
				pool := e.Pool(t)
				pool.SetMaxOpenConns(1)
				client := testdb.Must(testopt.NewClient(pool, e.Dialect(), e.opts...))
				for i := range 4 {
					if err := e.attempt(t.Context(), client, (n+i)%2 == 0); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wait.Wait()
		if keys := testdb.Lines(t, e.DB,
			"SELECT tenant FROM credent_tenant_keys ORDER BY tenant"); !slices.Equal(keys, []string{"u1", "u2"}) {
			t.Errorf("keys of %v", keys)
		}
		e.wantAll(t, e.fresh(t), nil)
		counts, err := rotate.Verify(t.Context(), e.DB, e.Ring)
		if err != nil || counts.Err() != nil {
			t.Errorf("%v, %v", counts, err)
		}
		if counts[0].Tenant != counts[0].Rows || counts[0].Rows == 0 {
			t.Errorf("got %+v", counts[0])
		}
	})
}

// attempt stores a credential of each user in a transaction, optionally after
// rolling one back.
func (e *tenanted) attempt(ctx context.Context, client *ent.Client, rollBack bool) error {
	tx, err := client.Tx(ctx)
	if err != nil {
		return err
	}
	store := func() error {
		return tx.UserCredential.CreateBulk(e.create(tx.UserCredential, "u2"), e.create(tx.UserCredential, "u1")).
			Exec(ctx)
	}
	if rollBack {
		_, savepoint := tx.ExecContext(ctx, "SAVEPOINT s")
		stored := store()
		_, back := tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT s")
		if err := errors.Join(savepoint, stored, back); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	if err := store(); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// A transaction that created a key is rolled back: later secrets aren't under
// that key.
func TestTenantKeyRolledBack(t *testing.T) {
	t.Parallel()
	forEachTenanted(t, func(t *testing.T, e *tenanted) {
		client := e.fresh(t)
		tx, err := client.Tx(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := e.create(tx.UserCredential, "u1").Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		for user := range e.accounts {
			if err := e.create(client.UserCredential, user).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		e.wantAll(t, e.fresh(t), nil)
	})
}

// Rows move under their tenants' keys and back beside writers; each secret can
// be read at every moment, with bound and with unbound tokens.
func TestRotateTenantKeys(t *testing.T) {
	t.Parallel()
	for name, binding := range map[string]credent.State{"unbound": credent.Off, "bound": credent.Write} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachTenanted(t, func(t *testing.T, e *tenanted) {
				testRotateTenantKeys(t, e, binding)
			})
		})
	}
}

func testRotateTenantKeys(t *testing.T, e *tenanted, binding credent.State) {
	t.Helper()
	opts := []testopt.Option{testopt.WithBinding(binding)}
	to := func(tenantKeys credent.State) rotate.Config {
		return rotate.Config{States: append(testdb.InState(states.TenantKeys, tenantKeys),
			testdb.InState(states.Binding, binding)...)}
	}
	for range 20 {
		for user := range e.accounts {
			e.Credential(t, e.accounts[user], "PK of "+user, "secret of "+user)
		}
	}
	stop := e.writeOn(t, e.fresh(t, opts...))
	report, err := rotate.Run(t.Context(), e.DB, e.Ring, to(credent.Write))
	stop()
	if err != nil || report.Rewritten() == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	e.wantAll(t, e.fresh(t, opts...), nil)
	counts, err := rotate.Verify(t.Context(), e.DB, e.Ring)
	if err != nil || counts.Err() != nil {
		t.Fatalf("%v, %v", counts, err)
	}
	for _, c := range counts[:2] {
		if c.Tenant != c.Rows || binding == credent.Write && c.Bound != c.Rows {
			t.Errorf("got %+v", c)
		}
	}
	if _, err := rotate.Run(t.Context(), e.DB, e.Ring, to(credent.Accept)); err != nil {
		t.Fatal(err)
	}
	e.wantAll(t, e.fresh(t, opts...), nil)
	if counts, err = rotate.Verify(t.Context(), e.DB, e.Ring); err != nil || counts[0].Primary != counts[0].Rows ||
		counts[1].Tenant != 0 {
		t.Errorf("back: %+v, %v", counts, err)
	}
}

// writeOn stores, changes and reads until stopped.
func (e *tenanted) writeOn(t *testing.T, client *ent.Client) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for user := range e.accounts {
		wait.Go(func() {
			for ctx.Err() == nil {
				row, err := e.create(client.UserCredential, user).Save(t.Context())
				if err == nil {
					err = client.UserCredential.UpdateOne(row).SetAPIKey(credent.NewSecret("PK of " + user)).
						Exec(t.Context())
				}
				if err != nil {
					t.Errorf("write: %v", err)
				}
				rows, err := client.UserCredential.Query().Where(usercredential.UserID(user)).Limit(20).All(t.Context())
				if err != nil {
					t.Errorf("read: %v", err)
				}
				for _, row := range rows {
					if text, err := row.SecretKey.Reveal(); err != nil || text != "secret of "+user {
						t.Errorf("read: %v", err)
					}
				}
			}
		})
	}
	return func() { cancel(); wait.Wait() }
}

// Tokens swapped between tenants don't open, even if they aren't bound.
func TestTenantKeysKeepTenantsApart(t *testing.T) {
	t.Parallel()
	forEachTenanted(t, func(t *testing.T, e *tenanted) {
		for user := range e.accounts {
			if err := e.create(e.fresh(t).UserCredential, user).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		e.Exec(t, "UPDATE user_credentials AS a SET api_key = b.api_key, secret_key = b.secret_key FROM "+
			"user_credentials AS b WHERE a.id <> b.id")
		e.wantAll(t, e.fresh(t), map[string]error{"u1": credent.ErrUnknownKey, "u2": credent.ErrUnknownKey})
		e.Exec(t, "UPDATE user_credentials AS a SET api_key = b.api_key, secret_key = b.secret_key FROM "+
			"user_credentials AS b WHERE a.id <> b.id")
		// Nor do swapped wrapped keys work.
		e.Exec(t, "UPDATE credent_tenant_keys AS a SET wrapped = b.wrapped FROM credent_tenant_keys AS b WHERE "+
			"a.tenant <> b.tenant")
		e.wantAll(t, e.fresh(t), map[string]error{"u1": credent.ErrUnknownKey, "u2": credent.ErrUnknownKey})
		if err := e.create(e.fresh(t).UserCredential, "u1").Exec(t.Context()); !errors.Is(err, credent.ErrUnknownKey) {
			t.Errorf("a write with a key that does not open: %v", err)
		}
	})
}
