package binding

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// TestBoundTokensCannotBeMoved swaps the tokens of pairs of rows with SQL:
// between two users, and between two columns of one row. Package
// integration/bound does the same with two tables. An unbound token opens
// wherever it is.
func TestBoundTokensCannotBeMoved(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		for name, client := range map[string]*ent.Client{
			"bound":     env.OnPool(env.IsBound()...),
			"not bound": env.Client,
		} {
			account := func(user string) *ent.UserAccount {
				return client.UserAccount.Create().SetUserID(user).SetAccountName("x").SaveX(ctx)
			}
			create := func(a *ent.UserAccount) *ent.UserCredential {
				return client.UserCredential.Create().SetAccount(a).SetUserID(a.UserID).SetCredentialType("alpaca").
					SetAPIKey(credent.NewSecret("key of " + a.UserID)).
					SetSecretKey(credent.NewSecret("secret of " + a.UserID)).SaveX(ctx)
			}
			one, other := create(account(name+" 1")), create(account(name+" 2"))
			move := func(query string) {
				t.Helper()
				env.Exec(t, env.Placeholders(query), one.ID, other.ID)
			}
			check := func(what, wantAPIKey, wantSecretKey string) {
				t.Helper()
				got := client.UserCredential.GetX(ctx, one.ID)
				for column, test := range map[string]struct {
					secret credent.Secret
					want   string
				}{"api_key": {got.APIKey, wantAPIKey}, "secret_key": {got.SecretKey, wantSecretKey}} {
					plaintext, err := test.secret.Reveal()
					if name == "not bound" || test.want == plaintext {
						if err != nil || plaintext != test.want {
							t.Errorf("%s, %s: %s: got %q, %v, want %q", name, what, column, plaintext, err, test.want)
						}
						continue
					}
					var detail *credent.Error
					if plaintext != "" || !errors.Is(err, credent.ErrWrongLocation) ||
						!errors.Is(err, credent.ErrUnknownKey) ||
						!errors.As(err, &detail) || detail.Column != column || detail.Row != one.ID.String() {
						t.Errorf("%s, %s: %s: got %q, %v, want ErrWrongLocation", name, what, column, plaintext, err)
					}
				}
			}
			mine := fmt.Sprintf(" of %s 1", name)
			check("in place", "key"+mine, "secret"+mine)
			move("UPDATE user_credentials SET api_key = (SELECT api_key FROM user_credentials WHERE id = $2) WHERE " +
				"id = $1")
			check("another user's", "key of "+name+" 2", "secret"+mine)
			client.UserCredential.UpdateOneID(one.ID).SetAPIKey(credent.NewSecret("key" + mine)).ExecX(ctx)
			check("stored again", "key"+mine, "secret"+mine)
			move("UPDATE user_credentials SET api_key = secret_key, secret_key = api_key WHERE id IN ($1, $2)")
			check("the other column", "secret"+mine, "key"+mine)
		}
	})
}

// A result without user_id can't be opened, and the error says what to do.
func TestBoundReadsNeedTheTenant(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		client := env.OnPool(env.IsBound()...)
		env.Client = client
		env.Credential(t, env.Account(t, "u1"), "key", "secret")
		for columns, want := range map[*[]string]error{
			{usercredential.FieldAPIKey}:                             credent.ErrNoTenant,
			{usercredential.FieldAPIKey, usercredential.FieldUserID}: nil,
		} {
			var got []struct {
				APIKey credent.Secret `sql:"api_key"`
				UserID string         `sql:"user_id"`
			}
			if err := client.UserCredential.Query().Select(*columns...).Scan(t.Context(), &got); err != nil {
				t.Fatal(err)
			}
			if _, err := got[0].APIKey.Reveal(); !errors.Is(err, want) {
				t.Errorf("%v: got %v, want %v", *columns, err, want)
			}
		}
		if err := credent.Check(t.Context(), client); err != nil {
			t.Error(err)
		}
		if err := credent.Check(t.Context(), env.OnPool(testopt.WithKeyring(env.Ring))); !errors.Is(err,
			credent.ErrUnknownKey) {
			t.Errorf("a client without binding: %v", err)
		}
	})
}

// An account's user_id, and the tenant its tokens are bound to, changes beside
// writers, or the change is refused.
func TestBoundAccountMoves(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		env.Client = env.OnPool(env.IsBound()...)
		account, rows := env.Seed(t)
		move := func(user string) error {
			tx, err := env.Client.Tx(ctx)
			if err != nil {
				return err
			}
			if err := tx.UserAccount.UpdateOneID(account.ID).SetUserID(user).Exec(ctx); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		}
		before := env.Tokens(t)
		for name, err := range map[string]error{
			"UpdateOne":   account.Update().SetUserID("u2").Exec(ctx),
			"Update":      env.Client.UserAccount.Update().Where(useraccount.ID(account.ID)).SetUserID("u2").Exec(ctx),
			"of one row":  rows[0].Update().SetUserID("u2").Exec(ctx),
			"half of one": rows[0].Update().SetUserID("u2").SetAPIKey(credent.NewSecret("x")).Exec(ctx),
		} {
			if !errors.Is(err, credent.ErrWrongLocation) {
				t.Errorf("%s outside of a transaction: got %v, want ErrWrongLocation", name, err)
			}
		}
		if diff := cmp.Diff(before, env.Tokens(t)); diff != "" {
			t.Errorf("something was changed: %s", diff)
		}
		updated := env.Client.UserCredential.GetX(ctx, rows[0].ID).UpdatedAt

		var writers sync.WaitGroup
		stop := make(chan struct{})
		for _, row := range rows[1:] {
			writers.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					err := env.Client.UserCredential.UpdateOneID(row.ID).
						SetAPIKey(credent.NewSecret(fmt.Sprint("new ", i))).Exec(ctx)
					if err != nil && !env.IsSQLite() { // its only writer may be the mover for long
						t.Errorf("write %d: %v", i, err)
						return
					}
				}
			})
		}
		writers.Go(func() { // writes too late for the old user_id are refused
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := env.Client.UserCredential.Create().SetUserAccountID(account.ID).SetCredentialType("alpaca").
					SetAPIKey(credent.NewSecret("added")).SetSecretKey(credent.NewSecret("added")).Exec(ctx)
				if err != nil && !errors.Is(err, credent.ErrTenantMismatch) && !env.IsSQLite() {
					t.Errorf("add: %v", err)
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
		for i := range 20 {
			if err := move(fmt.Sprint("u", i%2)); err != nil && !env.IsSQLite() {
				t.Errorf("move %d: %v", i, err)
			}
		}
		close(stop)
		writers.Wait()
		if err := move("last"); err != nil {
			t.Fatal(err)
		}
		all, bound, unbound := env.AtPlace(t)
		if bound != 2*len(all) || unbound != 0 ||
			all[rows[0].ID] != (testdb.Pair{APIKey: "api0", SecretKey: "secret0"}) {
			t.Errorf("%d are bound, %d are not: %v", bound, unbound, all)
		}
		row := env.Client.UserCredential.GetX(ctx, rows[0].ID)
		if row.UserID != "last" || !row.UpdatedAt.Equal(updated) || testdb.Reveal(t, row.APIKey) != "api0" {
			t.Errorf("moved: %v, updated at %v, before %v", row, row.UpdatedAt, updated)
		}
	})
}

// A program without binding changes the user_id: the tokens stay behind, and
// open again when it is set back.
func TestBoundTokensStayBehind(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		env.Client = env.OnPool(env.IsBound()...)
		_, rows := env.Seed(t)
		for user, want := range map[string]error{"u1": nil, "u2": credent.ErrWrongLocation} {
			env.Exec(t, env.Placeholders("UPDATE user_accounts SET user_id = $1"), user)
			for _, row := range rows {
				if _, err := env.Client.UserCredential.GetX(t.Context(), row.ID).
					APIKey.Reveal(); !errors.Is(err, want) {
					t.Errorf("of %s: got %v, want %v", user, err, want)
				}
			}
		}
		env.Exec(t, env.Placeholders("UPDATE user_accounts SET user_id = $1"), "u1")
		if _, bound, unbound := env.AtPlace(t); bound != 6 || unbound != 0 {
			t.Errorf("%d are bound, %d are not", bound, unbound)
		}
	})
}

// A service under row-level security looks up a row's tenant with its own role.
func TestBoundService(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		window := []testopt.Option{testopt.WithBinding(credent.Write)}
		app := testdb.Open(t, s.ServiceURL, append(slices.Clone(s.Opts), window...)...)
		ctx, mine, others := testdb.As(t, "u1"), s.Credentials["u1"][0], s.Credentials["u2"][0]
		before, err := s.RowsOf(t.Context(), "u2")
		if err != nil {
			t.Fatal(err)
		}
		if err := app.UserCredential.UpdateOneID(mine.ID).SetAPIKey(credent.NewSecret("new")).Exec(ctx); err != nil {
			t.Fatal(err)
		}
		const query = "UPDATE user_credentials SET secret_key = $1 WHERE id = $2"
		at := func(s, user string) any {
			return encrypted.At(credent.NewSecret(s), usercredential.SecretKeyColumn, user)
		}
		if _, err := app.ExecContext(ctx, query, at("new", "u1"), mine.ID); err != nil {
			t.Fatal(err)
		}
		if got := app.UserCredential.GetX(ctx, mine.ID); testdb.Reveal(t, got.APIKey) != "new" || testdb.Reveal(t,
			got.SecretKey) != "new" {
			t.Error("another secret was read")
		}
		if _, bound, unbound := s.AtPlace(t); bound != 2 || unbound != 4 {
			t.Errorf("%d are bound, %d are not", bound, unbound)
		}
		if err := app.UserCredential.UpdateOneID(others.ID).SetAPIKey(credent.NewSecret("x")).
			Exec(ctx); !ent.IsNotFound(err) {
			t.Errorf("another user's: %v", err)
		}
		result, err := app.ExecContext(ctx, query, at("x", "u2"), others.ID)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := result.RowsAffected(); n != 0 || err != nil {
			t.Errorf("another user's: %d rows, %v", n, err)
		}
		if after, err := s.RowsOf(t.Context(), "u2"); err != nil || after != before {
			t.Errorf("another user's row was changed: %v", err)
		}
	})
}
