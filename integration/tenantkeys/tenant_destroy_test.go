package tenantkeys

import (
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/rotate"
)

func TestTenantShredded(t *testing.T) {
	t.Parallel()
	forEachTenanted(t, func(t *testing.T, e *tenanted) {
		ctx, client := t.Context(), e.fresh(t)
		db := e.Pool(t)
		there := make(map[string]*ent.UserCredential)
		for user := range e.accounts {
			// without a key of its own
			there[user] = e.Credential(t, e.accounts[user], "PK of "+user, "secret of "+user)
		}
		e.wantAll(t, client, nil)
		for name, write := range e.writes(client, db) {
			for user := range e.accounts {
				if err := write(ctx, user, there[user]); err != nil {
					t.Fatalf("%s of %s: %v", name, user, err)
				}
			}
		}
		last := e.Credential(t, e.accounts["u1"], "PK of u1", "secret of u1")
		e.wantAll(t, client, nil)
		e.wantAll(t, e.fresh(t, testopt.VerifyOnRead()), nil)
		before := e.Backup(t)

		done, err := rotate.DestroyTenant(ctx, e.DB, e.Ring, "u1")
		if err != nil {
			t.Fatal(err)
		}
		if done.Again || done.Rows != 8 || done.Secrets != 16 || done.Overwritten != 2 {
			t.Errorf("got %+v", *done)
		}
		shredded := map[string]error{"u1": credent.ErrShredded}
		e.wantAll(t, e.fresh(t), shredded)
		if _, err := e.fresh(t, testopt.VerifyOnRead()).UserCredential.Query().
			All(ctx); !errors.Is(err, credent.ErrShredded) {
			t.Errorf("strictly: %v", err)
		}
		e.wantNothingReadable(t, e.DB, "u1")

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

		// A dump of now has no key of u1, with which any keyring could read;
		// one of before has.
		e.wantAll(t, e.Backup(t)(t).Open(t, e.opts...), shredded)
		old := before(t)
		e.wantAll(t, old.Open(t, e.opts...), nil)
		if done, err := rotate.DestroyTenant(ctx, old.Pool(t), e.Ring, "u1"); err != nil || done.Secrets != 16 {
			t.Errorf("again, in what was restored: %+v, %v", done, err)
		}
		e.wantAll(t, old.Open(t, e.opts...), shredded)
	})
}

// dump is what is stored for u1.
func (e *tenanted) dump(t *testing.T) []string {
	t.Helper()
	digest := "encode(api_key_index, 'hex')"
	if e.IsSQLite() {
		digest = "hex(api_key_index)"
	}
	return testdb.Lines(t, e.DB,
		"SELECT concat_ws(' ', id, api_key, secret_key, "+digest+") FROM user_credentials WHERE user_id = 'u1' ORDER "+
			"BY id")
}

// wantNothingReadable looks at what is stored as anyone who has the database
// and the keyring can.
func (e *tenanted) wantNothingReadable(t *testing.T, db *sql.DB, user string) {
	t.Helper()
	tokens := testdb.Lines(t, db, "SELECT api_key FROM user_credentials WHERE user_id = $1 UNION ALL "+
		"SELECT secret_key FROM user_credentials WHERE user_id = $1", user)
	if len(tokens) == 0 {
		t.Error("there is nothing to look at")
	}
	for _, token := range tokens {
		if _, err := e.Ring.Decrypt(token); !errors.Is(err, credent.ErrUnknownKey) {
			t.Errorf("the keyring opens a token: %v", err)
		}
	}
	if got := testdb.Lines(t, db,
		"SELECT tenant FROM credent_tenant_keys WHERE tenant = $1 AND wrapped IS NULL AND destroyed_at IS NOT NULL",
		user); !slices.Equal(got, []string{user}) {
		t.Errorf("the key: %v", got)
	}
	if n := testdb.Lines(t, db,
		"SELECT CAST(count(*) AS text) FROM user_credentials WHERE user_id = $1 AND length(api_key_index) <> 33",
		user); n[0] != "0" {
		t.Errorf("%s digests are left", n[0])
	}
}

// The process is killed when it has overwritten what there is to overwrite, and
// is about to destroy the key: nothing is done.
func TestTenantDestroyKilled(t *testing.T) {
	t.Parallel()
	forEachTenantedPostgres(t, func(t *testing.T, e *tenanted) {
		for user := range e.accounts {
			e.Credential(t, e.accounts[user], "PK of "+user, "secret of "+user)
			if err := e.create(e.fresh(t).UserCredential, user).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		before := testdb.PgDump(t, e.URL)
		e.Exec(t, "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM "+
			"pg_advisory_xact_lock(42); RETURN NEW; END $$")
		e.Exec(t, "CREATE TRIGGER wait BEFORE UPDATE OF wrapped ON credent_tenant_keys FOR EACH ROW EXECUTE FUNCTION "+
			"wait()")
		conn := testdb.Session(t, e.DB)
		lock := func(f string) {
			if _, err := conn.ExecContext(t.Context(), "SELECT "+f+"(42)"); err != nil {
				t.Fatal(err)
			}
		}
		lock("pg_advisory_lock")
		command := func() *exec.Cmd {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "tenant", "destroy", "u1", "--yes")
			cmd.Env = append(os.Environ(), testdb.EnvCommand+"=1", "DATABASE_URL="+e.URL, "ENCRYPTION_KEY="+e.Key)
			return cmd
		}
		cmd := command()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waiting := "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND " +
			"database = (SELECT oid FROM pg_database WHERE datname = current_database())"
		waitFor(t, e.DB, waiting, "1")
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		lock("pg_advisory_unlock")
		waitFor(t, e.DB, "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND query "+
			"LIKE '%destroyed_at = excluded%' AND pid <> pg_backend_pid()", "0")
		e.Exec(t, "DROP TRIGGER wait ON credent_tenant_keys")
		e.Exec(t, "DROP FUNCTION wait")
		if diff := cmp.Diff(before, testdb.PgDump(t, e.URL)); diff != "" {
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
	for deadline := time.Now().Add(time.Minute); testdb.Lines(t, db,
		query)[0] != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: still not %s", query, want)
		}
	}
}

// A verification counts the keys of tenants as of the moment of the rows.
func TestTenantDestroyedAmidAVerification(t *testing.T) {
	t.Parallel()
	forEachTenantedPostgres(t, func(t *testing.T, e *tenanted) {
		const rows = 30
		client := e.fresh(t)
		for range rows {
			if err := e.create(client.UserCredential, "u1").Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var once sync.Once
		var destroyed error
		counts, err := rotate.VerifyWith(t.Context(), e.DB, e.Ring, rotate.Config{
			Batch: 2, Workers: 1, Progress: func(p rotate.Progress) {
				if p.Read > 0 {
					once.Do(func() { _, destroyed = rotate.DestroyTenant(t.Context(), e.DB, e.Ring, "u1") })
				}
			},
		})
		if err != nil || destroyed != nil {
			t.Fatal(err, destroyed)
		}
		for _, c := range counts[:2] {
			if c.Tenant != rows || c.Shredded != 0 || c.Readable != 0 || c.Index != nil && c.Index.Wrong != 0 {
				t.Errorf("%+v", c)
			}
		}
		if counts, err = rotate.Verify(t.Context(), e.DB, e.Ring); err != nil || counts[0].Shredded != rows {
			t.Errorf("%+v, %v", counts, err)
		}
	})
}

// In the window secrets under the keys of tenants are read, and written under
// the keyring, except for a tenant with a destroyed key.
func TestAcceptTenantKeys(t *testing.T) {
	t.Parallel()
	forEachTenanted(t, func(t *testing.T, e *tenanted) {
		for user := range e.accounts {
			if err := e.create(e.fresh(t).UserCredential, user).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		e.opts = []testopt.Option{testopt.WithKeyring(e.Ring), testopt.WithTenantKeys(credent.Accept)}
		db := e.Pool(t)
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
		counts, err := rotate.Verify(t.Context(), e.DB, e.Ring)
		if err != nil || counts[0].Tenant != 0 || counts[0].Primary != counts[0].Rows {
			t.Errorf("%+v, %v", counts, err)
		}
		if _, err := rotate.DestroyTenant(t.Context(), e.DB, e.Ring, "u1"); err != nil {
			t.Fatal(err)
		}
		late := e.fresh(t)
		e.wantAll(t, late, map[string]error{"u1": credent.ErrShredded})
		for name, write := range e.writes(late, db) {
			if err := write(t.Context(), "u1", there["u1"]); !errors.Is(err, credent.ErrShredded) {
				t.Errorf("%s: %v", name, err)
			}
		}
		e.wantNothingReadable(t, e.DB, "u1")
	})
}

// An account that gets another user ID takes its secrets along, under the key
// of the other user.
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
		if err := move(client.UserAccount); !errors.Is(err, credent.ErrWrongLocation) {
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
		if _, err := rotate.DestroyTenant(t.Context(), e.DB, e.Ring, "u1"); err != nil {
			t.Fatal(err)
		}
		moved, err := e.fresh(t).UserCredential.Get(t.Context(), row.ID)
		if err != nil {
			t.Fatal(err)
		}
		if moved.UserID != "u3" || testdb.Reveal(t, moved.APIKey) != "PK of u1" || testdb.Reveal(t,
			moved.SecretKey) != "secret of u1" {
			t.Errorf("got %s", moved)
		}
		if _, err := rotate.DestroyTenant(t.Context(), e.DB, e.Ring, "u3"); err != nil {
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
