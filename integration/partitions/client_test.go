package partitions

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"entgo.io/ent/dialect/sql"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// users is the number of users, enough for many partitions to have rows.
const users = 40

func userOf(i int) string { return fmt.Sprint("user ", i) }

// fill creates the users' accounts with credentials, in bulk.
func (w *world) fill(t *testing.T, each int) (accounts []*ent.UserAccount, credentials []*ent.UserCredential) {
	t.Helper()
	var accountsOf []*ent.UserAccountCreate
	for i := range users {
		accountsOf = append(accountsOf, w.Client.UserAccount.Create().SetUserID(userOf(i)).SetAccountName("x"))
	}
	accounts = w.Client.UserAccount.CreateBulk(accountsOf...).SaveX(t.Context())
	var creates []*ent.UserCredentialCreate
	for i := range users * each {
		creates = append(creates, w.Client.UserCredential.Create().SetAccount(accounts[i%users]).
			SetUserID(userOf(i%users)).
			SetCredentialType("alpaca").SetAPIKey(credent.NewSecret(fmt.Sprint("key ", i))).
			SetSecretKey(credent.NewSecret(fmt.Sprint("secret ", i))))
	}
	return accounts, w.Client.UserCredential.CreateBulk(creates...).SaveX(t.Context())
}

// The client behaves as on unpartitioned tables.
func TestClient(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		accounts, credentials := w.fill(t, 3)
		if got := w.Client.UserCredential.Query().CountX(ctx); got != 3*users {
			t.Fatalf("%d rows, want %d", got, 3*users)
		}
		var used int
		w.Value(t, &used, "SELECT count(DISTINCT tableoid) FROM user_credentials")
		if w.name == "partitions" && used < 8 {
			t.Errorf("%d partitions have rows", used)
		}
		c := w.Client.UserCredential.GetX(ctx, credentials[7].ID)
		if got := testdb.Reveal(t, c.APIKey); got != "key 7" || c.UserID != userOf(7) {
			t.Errorf("got %q of %s", got, c.UserID)
		}
		found := w.Client.UserCredential.Query().Where(usercredential.APIKeyIs(credent.NewSecret("key 8"))).OnlyX(ctx)
		if found.ID != credentials[8].ID {
			t.Error("another row is found by its key")
		}

		one := w.Client.UserCredential.UpdateOneID(c.ID).SetSecretKey(credent.NewSecret("new")).SaveX(ctx)
		if got := testdb.Reveal(t, one.SecretKey); got != "new" {
			t.Errorf("updated to %q", got)
		}
		n := w.Client.UserCredential.Update().Where(usercredential.UserID(userOf(3))).SetIsActive(false).SaveX(ctx)
		if n != 3 {
			t.Errorf("%d rows updated, want 3", n)
		}
		if n := w.Client.UserCredential.Update().Where(usercredential.UserID(userOf(4)),
			usercredential.APIKeyIs(credent.NewSecret("key 4"))).
			SetSecretKey(credent.NewSecret("of one")).SaveX(ctx); n != 1 {
			t.Errorf("%d rows updated, want 1", n)
		}

		eager := w.Client.UserAccount.Query().Where(useraccount.UserID(userOf(5))).WithCredentials().OnlyX(ctx)
		if len(eager.Edges.Credentials) != 3 {
			t.Errorf("%d credentials, want 3", len(eager.Edges.Credentials))
		}
		for _, c := range w.Client.UserCredential.Query().WithAccount().AllX(ctx) {
			if c.Edges.Account == nil || c.Edges.Account.UserID != c.UserID {
				t.Fatalf("the account of %s is %v", c.UserID, c.Edges.Account)
			}
		}
		if w.joins {
			if n := w.Client.UserAccount.Query().Where(useraccount.HasCredentialsWith(usercredential.IsActive(false))).
				CountX(ctx); n != 1 {
				t.Errorf("%d accounts, want 1", n)
			}
		}

		w.Client.UserCredential.DeleteOneID(credentials[9].ID).ExecX(ctx)
		w.Client.UserAccount.DeleteOne(accounts[6]).ExecX(ctx)
		if n := w.Client.UserCredential.Query().CountX(ctx); n != 3*users-1-3 {
			t.Errorf("%d rows are left, want %d", n, 3*users-4)
		}
		tx := testdb.Must(w.Client.Tx(ctx))
		tx.UserCredential.Delete().Where(usercredential.UserIDIn(userOf(1), userOf(2))).ExecX(ctx)
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if n := w.Client.UserCredential.Query().CountX(ctx); n != 3*users-4 {
			t.Errorf("%d rows after the rollback, want %d", n, 3*users-4)
		}
		w.CheckIndex(t, w.Ring)
	})
}

// An upsert names (user_id, id), or an account's user_id. One that names id is
// refused with the reason.
func TestUpsert(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		account := w.Client.UserAccount.GetX(ctx, w.Client.UserAccount.Create().SetUserID("u1").SetAccountName("a").
			OnConflictColumns(useraccount.FieldUserID).UpdateAccountName().IDX(ctx))
		again := w.Client.UserAccount.Create().SetUserID("u1").SetAccountName("b").
			OnConflictColumns(useraccount.FieldUserID).UpdateAccountName().IDX(ctx)
		if again != account.ID || w.Client.UserAccount.GetX(ctx, account.ID).AccountName != "b" {
			t.Error("the account was not updated")
		}
		id := uuid.New()
		create := func(key string) *ent.UserCredentialCreate {
			return w.Client.UserCredential.Create().SetID(id).SetAccount(account).SetUserID("u1").
				SetCredentialType("alpaca").
				SetAPIKey(credent.NewSecret(key)).SetSecretKey(credent.NewSecret("s"))
		}
		both := sql.ConflictColumns(usercredential.FieldUserID, usercredential.FieldID)
		for _, key := range []string{"first", "second"} {
			if err := create(key).OnConflict(both).UpdateNewValues().Exec(ctx); err != nil {
				t.Fatal(err)
			}
			if got := testdb.Reveal(t, w.Client.UserCredential.GetX(ctx, id).APIKey); got != key {
				t.Errorf("got %q, want %q", got, key)
			}
		}
		if err := w.Client.UserCredential.CreateBulk(create("third")).OnConflict(both).UpdateNewValues().
			Exec(ctx); err != nil {
			t.Error(err)
		}
		w.CheckIndex(t, w.Ring)
		for name, err := range map[string]error{
			"one": create("x").OnConflictColumns(usercredential.FieldID).UpdateNewValues().Exec(ctx),
			"bulk": w.Client.UserCredential.CreateBulk(create("x")).OnConflictColumns(usercredential.FieldID).
				UpdateNewValues().Exec(ctx),
			"ignored": create("x").OnConflictColumns(usercredential.FieldID).Ignore().Exec(ctx),
			"account": w.Client.UserAccount.Create().SetID(account.ID).SetUserID("u1").SetAccountName("c").
				OnConflictColumns(useraccount.FieldID).UpdateNewValues().Exec(ctx),
		} {
			if !errors.Is(err, client.ErrConflictTarget) || !strings.Contains(err.Error(), "(user_id, id)") {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// Two users' rows may share an ID, which no constraint forbids. An update that
// needs the row's user is then refused.
func TestSeveralRowsOfOneID(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		a, b := w.Account(t, "a"), w.Account(t, "b")
		c := w.Credential(t, a, "k1", "s1")
		w.Client.UserCredential.Create().SetID(c.ID).SetAccount(b).SetUserID("b").SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("k2")).SetSecretKey(credent.NewSecret("s2")).ExecX(ctx)
		bound := testdb.Open(t, w.URL, append(w.Opts[:len(w.Opts):len(w.Opts)], w.IsBound()...)...)
		err := bound.UserCredential.UpdateOneID(c.ID).SetAPIKey(credent.NewSecret("k3")).Exec(ctx)
		if !errors.Is(err, credent.ErrSeveralRows) {
			t.Errorf("got %v", err)
		}
		if _, err := w.Client.UserCredential.Get(ctx, c.ID); !ent.IsNotSingular(err) {
			t.Errorf("Get: %v", err)
		}
		if got := w.Client.UserCredential.Query().Where(usercredential.ID(c.ID), usercredential.UserID("b")).
			OnlyX(ctx); testdb.Reveal(t, got.APIKey) != "k2" {
			t.Error("another row is found by user and id")
		}
	})
}

// A credential belongs to its account's user, as on unpartitioned tables.
func TestTenantMismatch(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		a := w.Account(t, "a")
		w.Account(t, "b")
		create := w.Client.UserCredential.Create().SetCredentialType("alpaca").SetAPIKey(credent.NewSecret("k")).
			SetSecretKey(credent.NewSecret("s"))
		for name, c := range map[string]*ent.UserCredentialCreate{
			"another user's account": create.SetAccount(a).SetUserID("b"),
			"no account":             create.SetUserAccountID(uuid.New()).SetUserID("a"),
		} {
			err := c.Exec(ctx)
			if !errors.Is(err, credent.ErrTenantMismatch) || !ent.IsConstraintError(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		row := credent.CopyRow{
			UserAccountID: a.ID, UserID: "b", CredentialType: "alpaca",
			APIKey: credent.NewSecret("k"), SecretKey: credent.NewSecret("s"),
		}
		_, err := testopt.Copy(ctx, w.DB, testdb.Sequence(row), credent.CopyConfig{}, testopt.WithKeyring(w.Ring))
		if !errors.Is(err, credent.ErrTenantMismatch) {
			t.Errorf("Copy: %v", err)
		}
	})
}
