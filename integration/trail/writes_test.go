package trail

import (
	"context"
	"errors"
	"strings"
	"testing"

	"entgo.io/ent/dialect/sql"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
)

// Every mutation of ent's leaves an entry for each row, with who did it.
func TestTrailOfMutations(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		ctx := as(t)
		account, err := w.client.UserAccount.Create().SetUserID("u-1").SetAccountName("Ada").Save(ctx)
		if err != nil {
			t.Fatal(err)
		}
		w.want(t, "create an account", audit.Entry{
			Action: audit.ActionCreate, Table: accounts, Row: account.ID.String(), Tenant: "u-1", Note: accountFields,
		})

		one := w.credential(t, account, "one")
		created := audit.Entry{
			Action: audit.ActionCreate, Table: credentials, Row: one.ID.String(), Tenant: "u-1", KeyID: "key",
			Note: credentialFields,
		}
		w.want(t, "create", created)

		bulk, err := w.client.UserCredential.CreateBulk(w.create(w.client, account, "two"),
			w.create(w.client, account, "three")).Save(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want := []audit.Entry{created, created}
		for i, row := range bulk {
			want[i].Row = row.ID.String()
		}
		w.want(t, "bulk", want...)

		if err := w.client.UserCredential.UpdateOne(one).SetSecretKey(credent.NewSecret("new")).Exec(ctx); err != nil {
			t.Fatal(err)
		}
		w.want(t, "update one", audit.Entry{
			Action: audit.ActionUpdate, Table: credentials, Row: one.ID.String(), Tenant: "u-1", KeyID: "key",
			Note: "secret_key,updated_at",
		})

		n, err := w.client.UserCredential.Update().Where(usercredential.IDIn(bulk[0].ID, bulk[1].ID)).
			SetIsActive(false).Save(ctx)
		if err != nil || n != 2 {
			t.Fatal(n, err)
		}
		for i, row := range bulk {
			want[i] = audit.Entry{
				Action: audit.ActionUpdate, Table: credentials, Row: row.ID.String(), Tenant: "u-1",
				Note: "is_active,updated_at",
			}
		}
		w.want(t, "update many", want...)

		if err := w.client.UserCredential.DeleteOne(bulk[0]).Exec(ctx); err != nil {
			t.Fatal(err)
		}
		w.want(t, "delete one",
			audit.Entry{Action: audit.ActionDelete, Table: credentials, Row: bulk[0].ID.String(), Tenant: "u-1"})
		if n, err := w.client.UserCredential.Delete().Where(usercredential.APIKeyIs(credent.NewSecret("three"))).
			Exec(ctx); err != nil || n != 1 {
			t.Fatal(n, err)
		}
		w.want(t, "delete by a secret",
			audit.Entry{Action: audit.ActionDelete, Table: credentials, Row: bulk[1].ID.String(), Tenant: "u-1"})

		none, err := w.client.UserCredential.Delete().Where(usercredential.ID(uuid.New())).Exec(ctx)
		if err != nil || none != 0 {
			t.Fatal(none, err)
		}
		if err := w.client.UserCredential.UpdateOneID(uuid.New()).SetIsActive(true).Exec(ctx); !ent.IsNotFound(err) {
			t.Fatal(err)
		}
		w.want(t, "nothing to change")

		if err := w.client.UserAccount.DeleteOne(account).Exec(ctx); err != nil {
			t.Fatal(err)
		}
		w.want(t, "the database removes credentials with their account",
			audit.Entry{Action: audit.ActionDelete, Table: accounts, Row: account.ID.String(), Tenant: "u-1"},
			audit.Entry{
				Action: audit.ActionDelete, Table: credentials, Row: one.ID.String(), Tenant: "u-1",
				Note: "with its user_accounts",
			})
	})
}

// An account's change of user is a move of it and its credentials, whether or
// not their keys depend on the user. That they are opened to be encrypted again
// is no reveal, and waits for nothing in Sync mode.
func TestTrailOfMoves(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		binding credent.State
		mode    audit.Mode
	}{
		"bound": {credent.Require, audit.Batched}, "bound, Sync": {credent.Require, audit.Sync},
		"not bound": {credent.Off, audit.Batched}, "not bound, Sync": {credent.Off, audit.Sync},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
				w := &world{
					Env: env, trail: openTrail(t, env, audit.Config{Mode: test.mode}),
					seen: make(map[string]bool),
				}
				var err error
				if w.client, err = credent.NewClient(env.Pool(t), env.Dialect(), credent.Config{
					Keyring: env.Ring, Trail: w.trail, Binding: test.binding,
				}); err != nil {
					t.Fatal(err)
				}
				account, err := w.client.UserAccount.Create().SetUserID("u-1").SetAccountName("Ada").Save(as(t))
				if err != nil {
					t.Fatal(err)
				}
				row := w.credential(t, account, "key")
				_ = w.entries(t)
				tx, err := w.client.Tx(as(t))
				if err != nil {
					t.Fatal(err)
				}
				if err := tx.UserAccount.UpdateOne(account).SetUserID("u-2").Exec(as(t)); err != nil {
					t.Fatal(err)
				}
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				w.want(t, "move",
					audit.Entry{
						Action: audit.ActionMove, Table: accounts, Row: account.ID.String(), Tenant: "u-2",
						Note: "updated_at,user_id; from the tenant u-1",
					},
					audit.Entry{
						Action: audit.ActionMove, Table: credentials, Row: row.ID.String(), Tenant: "u-2",
						Note: "user_id; from the tenant u-1",
					})
			})
		})
	}
}

// An upsert is told by the row that it made or changed.
func TestTrailOfUpserts(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		ctx := as(t)
		upsert := func(name string) uuid.UUID {
			id, err := w.client.UserAccount.Create().SetUserID("u-1").SetAccountName(name).
				OnConflictColumns("user_id").Update(func(u *ent.UserAccountUpsert) { u.UpdateAccountName() }).ID(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		id := upsert("Ada")
		e := audit.Entry{
			Action: audit.ActionCreate, Table: accounts, Row: id.String(), Tenant: "u-1",
			Note: "upsert: " + accountFields,
		}
		w.want(t, "makes a row", e)
		if again := upsert("Grace"); again != id {
			t.Fatalf("got row %s, want %s", again, id)
		}
		e.Action = audit.ActionUpdate
		w.want(t, "changes a row", e)
	})
}

// What is rolled back leaves no entry: a transaction, or a savepoint of one.
func TestTrailOfRolledBack(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		ctx := as(t)
		account, err := w.client.UserAccount.Create().SetUserID("u-1").SetAccountName("Ada").Save(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = w.entries(t)
		begin := func() *ent.Tx {
			tx, err := w.client.Tx(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return tx
		}
		tx := begin()
		if _, err := w.create(tx.Client(), account, "gone").Save(ctx); err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		w.want(t, "a transaction that is rolled back")

		tx = begin()
		kept, err := w.create(tx.Client(), account, "kept").Save(ctx)
		if err != nil {
			t.Fatal(err)
		}
		exec := func(query string) {
			if _, err := tx.ExecContext(ctx, query); err != nil {
				t.Fatal(err)
			}
		}
		exec("SAVEPOINT half")
		if _, err := w.create(tx.Client(), account, "gone").Save(ctx); err != nil {
			t.Fatal(err)
		}
		exec("ROLLBACK TO SAVEPOINT half")
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		w.want(t, "a savepoint that is gone back to", audit.Entry{
			Action: audit.ActionCreate, Table: credentials, Row: kept.ID.String(), Tenant: "u-1", KeyID: "key",
			Note: credentialFields,
		})
		// The chain has no entry that the database lacks.
		report, err := audit.Verify(context.WithoutCancel(ctx), env.DB, env.Dialect(), env.Ring, audit.VerifyOptions{})
		if err != nil || len(report.Findings) > 0 {
			t.Errorf("the trail does not verify: %v, %v", report.Findings, err)
		}
	})
}

// Raw SQL is told by the columns that it stores secrets in, and otherwise by
// the number of its rows.
func TestTrailOfRawSQL(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		ctx := as(t)
		account, err := w.client.UserAccount.Create().SetUserID("u-1").SetAccountName("Ada").Save(ctx)
		if err != nil {
			t.Fatal(err)
		}
		row := w.credential(t, account, "key")
		_ = w.entries(t)
		secret := encrypted.At(credent.NewSecret("raw"), usercredential.SecretKeyColumn, nil)
		query, args := sql.Dialect(env.Dialect()).Update(credentials).Set("secret_key", secret).
			Where(sql.EQ("id", row.ID)).Query()
		if _, err := w.client.ExecContext(ctx, query, args...); err != nil {
			t.Fatal(err)
		}
		w.want(t, "a secret", audit.Entry{
			Action: audit.ActionUpdate, Table: credentials, Column: "secret_key", KeyID: "key", Note: "raw SQL",
		})
		if _, err := w.client.ExecContext(ctx, "DELETE FROM user_credentials"); err != nil {
			t.Fatal(err)
		}
		w.want(t, "no secret", audit.Entry{Action: audit.ActionUpdate, Note: "raw SQL without a secret"})
	})
}

// A change that the trail doesn't take isn't made.
func TestTrailRefusesChanges(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		ctx := as(t)
		account, err := w.client.UserAccount.Create().SetUserID("u-1").SetAccountName("Ada").Save(ctx)
		if err != nil {
			t.Fatal(err)
		}
		row := w.credential(t, account, "key")
		if err := w.trail.Close(ctx); err != nil {
			t.Fatal(err)
		}
		_, created := w.create(w.client, account, "other").Save(ctx)
		_, bulk := w.client.UserCredential.CreateBulk(w.create(w.client, account, "other")).Save(ctx)
		_, removed := w.client.UserCredential.Delete().Exec(ctx)
		_, cascaded := w.client.UserAccount.Delete().Exec(ctx)
		secret := encrypted.At(credent.NewSecret("raw"), usercredential.SecretKeyColumn, nil)
		query, args := sql.Dialect(env.Dialect()).Update(credentials).Set("secret_key", secret).Query()
		_, raw := w.client.ExecContext(ctx, query, args...)
		for name, err := range map[string]error{
			"create": created, "bulk": bulk, "delete": removed, "cascade": cascaded, "raw SQL": raw,
			"update": w.client.UserCredential.UpdateOne(row).SetIsActive(false).Exec(ctx),
		} {
			if !errors.Is(err, audit.ErrClosed) {
				t.Errorf("%s: got %v, want ErrClosed", name, err)
			}
		}
		if plaintext, err := row.APIKey.Reveal(); err != nil || plaintext != "key" {
			t.Errorf("a secret that wasn't read: %q, %v", plaintext, err)
		}
		stored, err := env.Client.UserCredential.Query().Only(ctx)
		if err != nil || !stored.IsActive || testdb.Reveal(t, stored.SecretKey) != "secret of key" {
			t.Errorf("the row was changed: %v, %v", stored, err)
		}
	})
}

// No value of a field, digest or token is in an entry.
func TestTrailHoldsNoValue(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		ctx := as(t)
		account, err := w.client.UserAccount.Create().SetUserID("u-1").SetAccountName(testdb.Canary).Save(ctx)
		if err != nil {
			t.Fatal(err)
		}
		row := w.credential(t, account, testdb.Canary)
		if err := w.client.UserCredential.UpdateOne(row).SetSecretKey(credent.NewSecret(testdb.Canary)).
			Exec(ctx); err != nil {
			t.Fatal(err)
		}
		got, err := w.client.UserCredential.Get(ctx, row.ID)
		if err != nil {
			t.Fatal(err)
		}
		_ = testdb.Reveal(t, got.APIKey)
		if err := w.client.UserAccount.DeleteOne(account).Exec(ctx); err != nil {
			t.Fatal(err)
		}
		all := w.entries(t)
		if len(all) != 6 {
			t.Errorf("there are %d entries, want 6: %v", len(all), all)
		}
		for _, e := range all {
			text := strings.Join([]string{
				string(e.Action), e.Actor, e.Tenant, e.Table, e.Column, e.Row, e.KeyID, string(e.Outcome),
				e.Request, e.Note,
			}, " ")
			testdb.FindCanary(t, "an entry", text)
			if strings.Contains(text, "gAAAA") {
				t.Errorf("an entry has a token: %s", text)
			}
		}
	})
}
