package partitions

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/rotate"
)

// service returns a client connected with a service's role.
func (w *world) service(t *testing.T, opts ...testopt.Option) (app *ent.Client, role, url string) {
	t.Helper()
	role, url = testdb.NewServiceRole(t, w.Env)
	all := append(w.Opts[:len(w.Opts):len(w.Opts)], testopt.WithKeyring(w.Ring))
	return testdb.Open(t, url, append(all, opts...)...), role, url
}

// A user sees and changes only the user's own rows, and without a user none are
// visible.
func TestRowLevelSecurity(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, w *world) {
		accounts, credentials := w.fill(t, 2)
		app, _, _ := w.service(t, testopt.RequireRowSecurity())
		for i := range users {
			ctx := credent.WithUser(t.Context(), userOf(i))
			list := app.UserCredential.Query().WithAccount().AllX(ctx)
			if len(list) != 2 || list[0].UserID != userOf(i) || list[0].Edges.Account.ID != accounts[i].ID {
				t.Fatalf("%s sees %d rows", userOf(i), len(list))
			}
		}
		mine := credent.WithUser(t.Context(), userOf(0))
		if n := app.UserCredential.Query().Where(usercredential.APIKeyIs(credent.NewSecret("key 1"))).
			CountX(mine); n != 0 {
			t.Error("another user's row is found by its key")
		}
		if err := app.UserCredential.UpdateOneID(credentials[1].ID).SetSecretKey(credent.NewSecret("x")).
			Exec(mine); !ent.IsNotFound(err) {
			t.Errorf("another user's row: %v", err)
		}
		if n := app.UserCredential.Delete().ExecX(mine); n != 2 {
			t.Errorf("%d rows deleted, want 2", n)
		}
		create := app.UserCredential.Create().SetCredentialType("alpaca").SetAPIKey(credent.NewSecret("k")).
			SetSecretKey(credent.NewSecret("s"))
		if err := create.SetAccount(accounts[0]).SetUserID(userOf(0)).Exec(mine); err != nil {
			t.Error(err)
		}
		err := app.UserCredential.Create().SetCredentialType("alpaca").SetAPIKey(credent.NewSecret("k")).
			SetSecretKey(credent.NewSecret("s")).
			SetAccount(accounts[1]).SetUserID(userOf(1)).Exec(mine)
		if err == nil {
			t.Error("a row of another user was stored")
		}
		if n, err := app.UserCredential.Query().Count(credent.WithUser(t.Context(), "")); n != 0 {
			t.Errorf("without a user: %d rows, %v", n, err)
		}
	})
}

// Whatever is granted on partitions, only the owner sees rows in them.
func TestPartitionsHaveNoWayAround(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, w *world) {
		w.fill(t, 2)
		_, role, url := w.service(t)
		w.Exec(t, "GRANT ALL ON ALL TABLES IN SCHEMA public TO "+role)
		db := testdb.OpenDB(t, url, w.Opts...)
		for _, table := range testdb.Lines(t, w.DB, "SELECT inhrelid::regclass::text FROM pg_inherits "+
			"JOIN pg_class c ON c.oid = inhrelid WHERE c.relkind = 'r' ORDER BY 1") {
			if n := testdb.Lines(t, db, "SELECT count(*)::text FROM "+table)[0]; n != "0" {
				t.Errorf("%s shows %s rows", table, n)
			}
			if strings.HasPrefix(table, "credent_audit_") {
				_, err := db.ExecContext(t.Context(), "UPDATE "+table+" SET actor = 'nobody'")
				if err == nil || !strings.Contains(err.Error(), "the audit trail takes new entries") {
					t.Errorf("%s: a change of the trail: %v", table, err)
				}
				continue
			}
			if _, err := db.ExecContext(t.Context(), "UPDATE "+table+" SET updated_at = now()"); err != nil {
				t.Errorf("%s: %v", table, err)
			}
		}
		var n int
		w.Value(t, &n, "SELECT count(*) FROM user_credentials WHERE updated_at > now() - interval '1 day' AND "+
			"api_key_index IS NOT NULL")
		if n != 2*users {
			t.Errorf("%d rows of the owner", n)
		}
	})
}

// An account that changes its user takes its credentials along, into another
// partition as well, and their tokens are bound to the new user.
func TestAccountMoves(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		w.Client = testdb.Open(t, w.URL, append(w.Opts[:len(w.Opts):len(w.Opts)], w.IsBound()...)...)
		accounts, _ := w.fill(t, 2)
		if !w.moves {
			return
		}
		was := testdb.Lines(t, w.DB, "SELECT DISTINCT tableoid::regclass::text || user_id FROM user_credentials")
		for i, account := range accounts {
			tx := testdb.Must(w.Client.Tx(ctx))
			tx.UserAccount.UpdateOne(account).SetUserID(fmt.Sprint("moved ", i)).ExecX(ctx)
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		now := testdb.Lines(t, w.DB, "SELECT DISTINCT tableoid::regclass::text || user_id FROM user_credentials")
		if len(was) != users || len(now) != users {
			t.Errorf("%d and %d places", len(was), len(now))
		}
		for _, c := range w.Client.UserCredential.Query().WithAccount().AllX(ctx) {
			if !strings.HasPrefix(c.UserID, "moved ") || c.Edges.Account.UserID != c.UserID {
				t.Errorf("a row is of %s", c.UserID)
			}
			if _, err := c.APIKey.Reveal(); err != nil {
				t.Error(err)
			}
		}
		if n := w.Client.UserCredential.Query().CountX(ctx); n != 2*users {
			t.Errorf("%d rows", n)
		}
		all, bound, unbound := w.AtPlace(t)
		if bound != 4*users || unbound != 0 {
			t.Errorf("%d tokens are bound, %d aren't", bound, unbound)
		}
		w.CheckDigests(t, w.Ring, all)
	})
}

// While binding is on, no SQL moves a row to another user and leaves its tokens
// behind, within a partition, to another one, or by a DELETE and an INSERT.
func TestTokensAreNotLeftBehind(t *testing.T) {
	t.Parallel()
	forEach(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		accounts, _ := w.fill(t, 2)
		if !w.moves {
			return
		}
		move := func(i int, to string) error {
			_, err := w.DB.ExecContext(ctx, "UPDATE user_accounts SET user_id = $1 WHERE user_id = $2", to,
				accounts[i].UserID)
			return err
		}
		if err := move(0, "elsewhere"); err != nil {
			t.Errorf("without binding: %v", err)
		}
		for _, c := range ent.EncryptedColumns() {
			change := rotate.StateChange{Column: c, Protection: rotate.Binding, To: credent.Accept}
			if _, err := rotate.SetState(ctx, w.DB, w.Ring, change); err != nil {
				t.Fatal(err)
			}
			for i := 1; i < users; i++ { // some stay in their partition
				if err := move(i, fmt.Sprint("to ", i)); err == nil ||
					!strings.Contains(err.Error(), "would be left behind") {
					t.Errorf("account %d: %v", i, err)
				}
			}
			tx := testdb.Must(w.DB.BeginTx(ctx, nil))
			for _, query := range []string{
				"CREATE TEMPORARY TABLE kept AS SELECT * FROM user_credentials WHERE user_id = 'user 1'",
				"DELETE FROM user_credentials WHERE user_id = 'user 1'",
				"UPDATE kept SET user_id = 'user 2', user_account_id = (SELECT id FROM user_accounts WHERE user_id = " +
					"'user 2')",
				"INSERT INTO user_credentials SELECT * FROM kept",
			} {
				if _, err := tx.ExecContext(ctx, query); err != nil {
					t.Fatalf("%s: %v", query, err)
				}
			}
			if err := tx.Commit(); err == nil || !strings.Contains(err.Error(), "would be left behind") {
				t.Errorf("by a DELETE and an INSERT: %v", err)
			}
			w.Exec(t, "DELETE FROM credent_states")
		}
		// This isn't a move.
		w.Client.UserAccount.Delete().Where(useraccount.UserID("user 3")).ExecX(context.WithoutCancel(ctx))
	})
}
