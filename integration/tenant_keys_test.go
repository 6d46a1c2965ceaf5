package integration

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/rotate"
)

// tenanted is a database with the accounts of two users, and a client that gives each a key.
type tenanted struct {
	*environment
	driver   string
	opts     []credent.Option
	accounts map[string]*ent.UserAccount
}

func forEachTenanted(t *testing.T, test func(t *testing.T, e *tenanted)) {
	t.Helper()
	for name, opts := range drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t, opts...)
			e := &tenanted{environment: env, driver: name, opts: append(slices.Clone(opts), credent.WithKeyring(env.ring), credent.WithTenantKeys())}
			e.accounts = map[string]*ent.UserAccount{"u1": e.account(t, "u1"), "u2": e.account(t, "u2")}
			test(t, e)
		})
	}
}

// fresh returns a client that knows no key yet.
func (e *tenanted) fresh(t *testing.T, opts ...credent.Option) *ent.Client {
	t.Helper()
	return open(t, e.url, append(slices.Clone(e.opts), opts...)...)
}

func (e *tenanted) create(client *ent.UserCredentialClient, user string) *ent.UserCredentialCreate {
	return client.Create().SetAccount(e.accounts[user]).SetUserID(user).SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("PK of " + user)).SetSecretKey(credent.NewSecret("secret of " + user))
}

func oneRow(row credent.CopyRow) iter.Seq2[credent.CopyRow, error] {
	return func(yield func(credent.CopyRow, error) bool) { yield(row, nil) }
}

// writes are the ways to store secrets of a user, in the rows of a credential that is there where they need one.
func (e *tenanted) writes(client *ent.Client, db *sql.DB) map[string]func(ctx context.Context, user string, there *ent.UserCredential) error {
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
			return client.UserCredential.CreateBulk(e.create(client.UserCredential, user), e.create(client.UserCredential, user)).Exec(ctx)
		},
		"transaction": func(ctx context.Context, user string, _ *ent.UserCredential) error {
			return inTx(ctx, func(tx *ent.Tx) error { return e.create(tx.UserCredential, user).Exec(ctx) })
		},
		"update": func(ctx context.Context, user string, there *ent.UserCredential) error {
			return client.UserCredential.UpdateOneID(there.ID).SetAPIKey(credent.NewSecret("PK of " + user)).Exec(ctx)
		},
		"update in a transaction": func(ctx context.Context, user string, there *ent.UserCredential) error {
			return inTx(ctx, func(tx *ent.Tx) error {
				return tx.UserCredential.UpdateOneID(there.ID).SetSecretKey(credent.NewSecret("secret of " + user)).Exec(ctx)
			})
		},
		"upsert": func(ctx context.Context, user string, there *ent.UserCredential) error {
			return e.create(client.UserCredential, user).SetID(there.ID).OnConflictColumns(usercredential.FieldID).UpdateNewValues().Exec(ctx)
		},
		"copy": func(ctx context.Context, user string, _ *ent.UserCredential) error {
			_, err := credent.Copy(ctx, db, oneRow(credent.CopyRow{
				UserID: user, CredentialType: "alpaca",
				APIKey: credent.NewSecret("PK of " + user), SecretKey: credent.NewSecret("secret of " + user),
			}), credent.CopyConfig{}, e.opts...)
			return err
		},
		"copy with formats": func(ctx context.Context, user string, _ *ent.UserCredential) error {
			_, err := credent.Copy(ctx, db, oneRow(credent.CopyRow{
				UserAccountID: e.accounts[user].ID, CredentialType: "other",
				APIKey: credent.NewSecret("PK of " + user), SecretKey: credent.NewSecret("secret of " + user),
			}), credent.CopyConfig{}, append(slices.Clone(e.opts), credent.WithFormats())...)
			return err
		},
	}
}

// wantAll reveals every secret over every path that reads, with the wanted error for a user.
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
				if err != nil && (!errors.As(err, &named) || named.Table != usercredential.Table || named.Column != column || named.Row != row.ID.String()) {
					t.Errorf("%s: %v does not name the place", path, err)
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

func TestTenantShredded(t *testing.T) {
	t.Parallel()
	forEachTenanted(t, func(t *testing.T, e *tenanted) {
		ctx, client := t.Context(), e.fresh(t)
		db := openDB(t, e.url, e.opts...)
		there := make(map[string]*ent.UserCredential)
		for user := range e.accounts {
			there[user] = e.credential(t, e.accounts[user], "PK of "+user, "secret of "+user) // without a key of its own
		}
		e.wantAll(t, client, nil)
		for name, write := range e.writes(client, db) {
			for user := range e.accounts {
				if err := write(ctx, user, there[user]); err != nil {
					t.Fatalf("%s of %s: %v", name, user, err)
				}
			}
		}
		last := e.credential(t, e.accounts["u1"], "PK of u1", "secret of u1")
		e.wantAll(t, client, nil)
		e.wantAll(t, e.fresh(t, credent.Strict()), nil)
		before := pgDump(t, e.url)

		done, err := rotate.DestroyTenant(ctx, e.db, e.ring, "u1")
		if err != nil {
			t.Fatal(err)
		}
		if done.Again || done.Rows != 8 || done.Secrets != 16 || done.Overwritten != 2 {
			t.Errorf("got %+v", *done)
		}
		shredded := map[string]error{"u1": credent.ErrShredded}
		e.wantAll(t, e.fresh(t), shredded)
		if _, err := e.fresh(t, credent.Strict()).UserCredential.Query().All(ctx); !errors.Is(err, credent.ErrShredded) {
			t.Errorf("strictly: %v", err)
		}
		e.wantNothingReadable(t, e.db, "u1")

		late := e.fresh(t)
		stored := e.dump(t)
		for name, write := range e.writes(late, db) {
			if err := write(ctx, "u1", there["u1"]); !errors.Is(err, credent.ErrShredded) {
				t.Errorf("%s: got %v", name, err)
			}
			if err := write(ctx, "u2", there["u2"]); err != nil {
				t.Errorf("%s of u2: %v", name, err)
			}
		}
		if diff := cmp.Diff(stored, e.dump(t)); diff != "" {
			t.Errorf("something was stored for u1: %s", diff)
		}
		if err := late.UserCredential.UpdateOneID(last.ID).SetIsActive(false).Exec(ctx); err != nil {
			t.Errorf("an update without secrets: %v", err)
		}
		if err := credent.Check(ctx, late); err != nil {
			t.Errorf("check: %v", err)
		}

		// A dump of now has no key of u1, with which any keyring could read; one of before has.
		e.wantAll(t, open(t, restore(t, pgDump(t, e.url)), e.opts...), shredded)
		old := restore(t, before)
		e.wantAll(t, open(t, old, e.opts...), nil)
		if done, err := rotate.DestroyTenant(ctx, openDB(t, old), e.ring, "u1"); err != nil || done.Secrets != 16 {
			t.Errorf("again, in what was restored: %+v, %v", done, err)
		}
		e.wantAll(t, open(t, old, e.opts...), shredded)
	})
}

// dump is what is stored for u1.
func (e *tenanted) dump(t *testing.T) []string {
	t.Helper()
	return lines(t, e.db, "SELECT concat_ws(' ', id, api_key, secret_key, encode(api_key_index, 'hex')) FROM user_credentials WHERE user_id = 'u1' ORDER BY id")
}

// wantNothingReadable looks at what is stored as whoever has the database and the keyring can.
func (e *tenanted) wantNothingReadable(t *testing.T, db *sql.DB, user string) {
	t.Helper()
	tokens := lines(t, db, "SELECT unnest(ARRAY[api_key, secret_key]) FROM user_credentials WHERE user_id = $1", user)
	if len(tokens) == 0 {
		t.Error("there is nothing to look at")
	}
	for _, token := range tokens {
		if _, err := e.ring.Decrypt(token); !errors.Is(err, credent.ErrUnknownKey) {
			t.Errorf("the keyring opens a token: %v", err)
		}
	}
	if got := lines(t, db, "SELECT concat_ws(' ', tenant, wrapped IS NULL, destroyed_at IS NULL) FROM credent_tenant_keys WHERE tenant = $1", user); !slices.Equal(got, []string{user + " t f"}) {
		t.Errorf("the key: %v", got)
	}
	if n := lines(t, db, "SELECT count(*)::text FROM user_credentials WHERE user_id = $1 AND api_key_index IS NOT NULL", user); n[0] != "0" {
		t.Errorf("%s digests are left", n[0])
	}
}

// restore makes a database of a dump.
func restore(t *testing.T, dump string) string {
	t.Helper()
	url := newDatabase(t, "")
	cmd := exec.CommandContext(t.Context(), filepath.Join(server.BinDir(), "psql"), "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", url)
	cmd.Stdin = strings.NewReader(dump)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	return url
}

// A service sees and makes the key of its user only, and changes and destroys none.
func TestTenantKeysOfServices(t *testing.T) {
	t.Parallel()
	forEachService(t, func(t *testing.T, s *service) {
		app := open(t, s.serviceURL, append(slices.Clone(s.opts), credent.WithTenantKeys())...)
		for _, user := range []string{"u1", "u2"} {
			for range 2 {
				if err := app.UserCredential.Create().SetAccount(s.accounts[user]).SetCredentialType("alpaca").
					SetAPIKey(credent.NewSecret("PK")).SetSecretKey(credent.NewSecret("s")).Exec(as(t, user)); err != nil {
					t.Fatal(err)
				}
			}
			rows, err := open(t, s.serviceURL, append(slices.Clone(s.opts), credent.WithTenantKeys())...).UserCredential.Query().All(as(t, user))
			if err != nil {
				t.Fatal(err)
			}
			if len(rows) < 3 {
				t.Errorf("%s sees %d", user, len(rows))
			}
			for _, row := range rows {
				reveal(t, row.APIKey)
			}
		}
		if err := app.UserCredential.Create().SetAccount(s.accounts["u2"]).SetUserID("u2").SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("PK")).SetSecretKey(credent.NewSecret("s")).Exec(as(t, "u1")); err == nil {
			t.Error("u1 stores for u2")
		}
		db := openDB(t, s.serviceURL, s.opts...)
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
				err := tx.QueryRowContext(t.Context(), "SELECT coalesce(string_agg(tenant, ','), '') FROM credent_tenant_keys").Scan(&seen)
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
			"INSERT INTO credent_tenant_keys (tenant, wrapped) VALUES ('u1', 'gAAAAx') ON CONFLICT (tenant) DO UPDATE SET wrapped = 'gAAAAx'",
		} {
			err := inTx("u1", func(tx *sql.Tx) error {
				_, err := tx.ExecContext(t.Context(), statement)
				return err
			})
			if code := stateOf(err); code != "42501" {
				t.Errorf("%s: %v", statement, err)
			}
		}
		if _, err := rotate.ListTenants(t.Context(), db); !errors.Is(err, rotate.ErrHidden) {
			t.Errorf("list: %v", err)
		}
		if _, err := rotate.DestroyTenant(t.Context(), db, s.ring, "u1"); !errors.Is(err, rotate.ErrHidden) {
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

// Many clients need the keys of two users at once, in transactions, some of which are rolled back, in pools of one connection.
func TestTenantKeysConcurrently(t *testing.T) {
	t.Parallel()
	forEachTenanted(t, func(t *testing.T, e *tenanted) {
		var wait sync.WaitGroup
		for n := range 8 {
			wait.Go(func() {
				pool := openDB(t, e.url, e.opts...)
				pool.SetMaxOpenConns(1)
				client := credent.NewClient(pool, "postgres", e.opts...)
				for i := range 4 {
					if err := e.attempt(t.Context(), client, (n+i)%2 == 0); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wait.Wait()
		if keys := lines(t, e.db, "SELECT tenant FROM credent_tenant_keys ORDER BY tenant"); !slices.Equal(keys, []string{"u1", "u2"}) {
			t.Errorf("keys of %v", keys)
		}
		e.wantAll(t, e.fresh(t), nil)
		counts, err := rotate.Verify(t.Context(), e.db, e.ring)
		if err != nil || counts.Err() != nil {
			t.Errorf("%v, %v", counts, err)
		}
		if counts[0].Tenant != counts[0].Rows || counts[0].Rows == 0 {
			t.Errorf("got %+v", counts[0])
		}
	})
}

// attempt stores a credential of each user in a transaction, perhaps after it has rolled that back.
func (e *tenanted) attempt(ctx context.Context, client *ent.Client, rollBack bool) error {
	tx, err := client.Tx(ctx)
	if err != nil {
		return err
	}
	store := func() error {
		return tx.UserCredential.CreateBulk(e.create(tx.UserCredential, "u2"), e.create(tx.UserCredential, "u1")).Exec(ctx)
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

// A transaction that made a key is rolled back: what is stored afterwards is not under that key.
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

// The process is killed when it has overwritten what there is to overwrite, and is about to destroy the key: nothing is done.
func TestTenantDestroyKilled(t *testing.T) {
	t.Parallel()
	forEachTenanted(t, func(t *testing.T, e *tenanted) {
		for user := range e.accounts {
			e.credential(t, e.accounts[user], "PK of "+user, "secret of "+user)
			if err := e.create(e.fresh(t).UserCredential, user).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		before := pgDump(t, e.url)
		e.exec(t, "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$")
		e.exec(t, "CREATE TRIGGER wait BEFORE UPDATE OF wrapped ON credent_tenant_keys FOR EACH ROW EXECUTE FUNCTION wait()")
		conn, err := e.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		lock := func(f string) {
			if _, err := conn.ExecContext(t.Context(), "SELECT "+f+"(42)"); err != nil {
				t.Fatal(err)
			}
		}
		lock("pg_advisory_lock")
		command := func() *exec.Cmd {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "tenant", "destroy", "u1", "--yes")
			cmd.Env = append(os.Environ(), envCommand+"=1", "DATABASE_URL="+e.url, "ENCRYPTION_KEY="+e.key)
			return cmd
		}
		cmd := command()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waiting := "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND " +
			"database = (SELECT oid FROM pg_database WHERE datname = current_database())"
		waitFor(t, e.db, waiting, "1")
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		lock("pg_advisory_unlock")
		waitFor(t, e.db, "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%destroyed_at = excluded%' "+
			"AND pid <> pg_backend_pid()", "0")
		e.exec(t, "DROP TRIGGER wait ON credent_tenant_keys")
		e.exec(t, "DROP FUNCTION wait")
		if diff := cmp.Diff(before, pgDump(t, e.url)); diff != "" {
			t.Errorf("it was done in part: %s", diff)
		}
		e.wantAll(t, e.fresh(t), nil)
		if out, err := command().CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		e.wantAll(t, e.fresh(t), map[string]error{"u1": credent.ErrShredded})
	})
}

func waitFor(t *testing.T, db *sql.DB, query, want string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); lines(t, db, query)[0] != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: still not %s", query, want)
		}
	}
}

// Rows are brought under the keys of their tenants and back beside writers; each secret can be read at every moment. Both with
// tokens that are bound and with such as are not.
func TestRotateTenantKeys(t *testing.T) {
	t.Parallel()
	forEachTenanted(t, func(t *testing.T, e *tenanted) {
		columns := []string{"user_credentials.api_key", "user_credentials.secret_key"}
		for name, opts := range map[string][]credent.Option{"unbound": nil, "bound": {credent.Bound(columns...), credent.AllowUnbound(columns...)}} {
			var cfg rotate.Config
			if opts != nil {
				cfg.Bind = columns
			}
			for range 20 {
				for user := range e.accounts {
					e.credential(t, e.accounts[user], "PK of "+user, "secret of "+user)
				}
			}
			stop := e.writeOn(t, e.fresh(t, opts...))
			cfg.TenantKeys = rotate.ToTenantKeys
			report, err := rotate.Run(t.Context(), e.db, e.ring, cfg)
			stop()
			if err != nil || report.Rewritten() == 0 {
				t.Fatalf("%s: %+v, %v", name, report, err)
			}
			e.wantAll(t, e.fresh(t, opts...), nil)
			counts, err := rotate.Verify(t.Context(), e.db, e.ring)
			if err != nil || counts.Err() != nil {
				t.Fatalf("%s: %v, %v", name, counts, err)
			}
			for _, c := range counts[:2] {
				if c.Tenant != c.Rows || cfg.Bind != nil && c.Bound != c.Rows {
					t.Errorf("%s: got %+v", name, c)
				}
			}
			cfg.TenantKeys = rotate.ToKeyring
			if _, err := rotate.Run(t.Context(), e.db, e.ring, cfg); err != nil {
				t.Fatal(err)
			}
			e.wantAll(t, e.fresh(t, opts...), nil)
			if counts, err = rotate.Verify(t.Context(), e.db, e.ring); err != nil || counts[0].Primary != counts[0].Rows || counts[1].Tenant != 0 {
				t.Errorf("%s: back: %+v, %v", name, counts, err)
			}
		}
	})
}

// writeOn stores, changes and reads until it is stopped.
func (e *tenanted) writeOn(t *testing.T, client *ent.Client) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for user := range e.accounts {
		wait.Go(func() {
			for ctx.Err() == nil {
				row, err := e.create(client.UserCredential, user).Save(t.Context())
				if err == nil {
					err = client.UserCredential.UpdateOne(row).SetAPIKey(credent.NewSecret("PK of " + user)).Exec(t.Context())
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

// An account that gets another user ID takes its secrets along, under the key of the other user.
func TestTenantKeysOfMovedAccount(t *testing.T) {
	t.Parallel()
	forEachTenanted(t, func(t *testing.T, e *tenanted) {
		client := e.fresh(t)
		row, err := e.create(client.UserCredential, "u1").Save(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		move := func(client *ent.UserAccountClient) error {
			return client.UpdateOneID(e.accounts["u1"].ID).SetUserID("u3").Exec(t.Context())
		}
		if err := move(client.UserAccount); !errors.Is(err, credent.ErrContext) {
			t.Errorf("outside of a transaction: %v", err)
		}
		tx, err := client.Tx(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := move(tx.UserAccount); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := rotate.DestroyTenant(t.Context(), e.db, e.ring, "u1"); err != nil {
			t.Fatal(err)
		}
		moved, err := e.fresh(t).UserCredential.Get(t.Context(), row.ID)
		if err != nil {
			t.Fatal(err)
		}
		if moved.UserID != "u3" || reveal(t, moved.APIKey) != "PK of u1" || reveal(t, moved.SecretKey) != "secret of u1" {
			t.Errorf("got %s", moved)
		}
		if _, err := rotate.DestroyTenant(t.Context(), e.db, e.ring, "u3"); err != nil {
			t.Fatal(err)
		}
		if moved, err = e.fresh(t).UserCredential.Get(t.Context(), row.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := moved.APIKey.Reveal(); !errors.Is(err, credent.ErrShredded) {
			t.Errorf("got %v", err)
		}
	})
}

// Tokens that are exchanged between tenants do not open, also where they are not bound.
func TestTenantKeysKeepTenantsApart(t *testing.T) {
	t.Parallel()
	forEachTenanted(t, func(t *testing.T, e *tenanted) {
		for user := range e.accounts {
			if err := e.create(e.fresh(t).UserCredential, user).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		e.exec(t, "UPDATE user_credentials AS a SET api_key = b.api_key, secret_key = b.secret_key FROM user_credentials AS b WHERE a.id <> b.id")
		e.wantAll(t, e.fresh(t), map[string]error{"u1": credent.ErrUnknownKey, "u2": credent.ErrUnknownKey})
		e.exec(t, "UPDATE user_credentials AS a SET api_key = b.api_key, secret_key = b.secret_key FROM user_credentials AS b WHERE a.id <> b.id")
		// Nor are wrapped keys of use in another's place.
		e.exec(t, "UPDATE credent_tenant_keys AS a SET wrapped = b.wrapped FROM credent_tenant_keys AS b WHERE a.tenant <> b.tenant")
		e.wantAll(t, e.fresh(t), map[string]error{"u1": credent.ErrUnknownKey, "u2": credent.ErrUnknownKey})
		if err := e.create(e.fresh(t).UserCredential, "u1").Exec(t.Context()); !errors.Is(err, credent.ErrUnknownKey) {
			t.Errorf("a write with a key that does not open: %v", err)
		}
	})
}

// In the window secrets under the keys of tenants are read, and written under the keyring, except for those of a tenant whose
// key was destroyed.
func TestAllowTenantKeys(t *testing.T) {
	t.Parallel()
	forEachTenanted(t, func(t *testing.T, e *tenanted) {
		for user := range e.accounts {
			if err := e.create(e.fresh(t).UserCredential, user).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		e.opts = append(slices.Clone(drivers[e.driver]), credent.WithKeyring(e.ring), credent.AllowTenantKeys())
		db := openDB(t, e.url, e.opts...)
		window := e.fresh(t)
		there := make(map[string]*ent.UserCredential)
		for user := range e.accounts {
			there[user] = window.UserCredential.Query().Where(usercredential.UserID(user)).OnlyX(t.Context())
		}
		for name, write := range e.writes(window, db) {
			for user := range e.accounts {
				if err := write(t.Context(), user, there[user]); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		e.wantAll(t, e.fresh(t), nil)
		counts, err := rotate.Verify(t.Context(), e.db, e.ring)
		if err != nil || counts[0].Tenant != 0 || counts[0].Primary != counts[0].Rows {
			t.Errorf("%+v, %v", counts, err)
		}
		if _, err := rotate.DestroyTenant(t.Context(), e.db, e.ring, "u1"); err != nil {
			t.Fatal(err)
		}
		late := e.fresh(t)
		e.wantAll(t, late, map[string]error{"u1": credent.ErrShredded})
		for name, write := range e.writes(late, db) {
			if err := write(t.Context(), "u1", there["u1"]); !errors.Is(err, credent.ErrShredded) {
				t.Errorf("%s: %v", name, err)
			}
		}
		e.wantNothingReadable(t, e.db, "u1")
	})
}
