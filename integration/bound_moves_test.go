package integration

import (
	"errors"
	"strings"
	"testing"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
)

// TestBoundTenantsAreFollowed has the ways in which a trigger would give a row another user_id than its tokens are bound to: each
// is refused, and changes nothing.
func TestBoundTenantsAreFollowed(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, func(t *testing.T, env *environment) {
		ctx := t.Context()
		env.client = env.onPool(env.isBound()...)
		account, rows := env.seed(t)
		other := env.account(t, "another")
		secret := credent.NewSecret
		apart := func(s string) string { return env.placeholders(s) }
		before := env.tokens(t)
		for name, move := range map[string]func(c *ent.Client) error{
			"an upsert of the account": func(c *ent.Client) error {
				return c.UserAccount.Create().SetID(account.ID).SetUserID("u-c").SetAccountName("x").OnConflictColumns("id").UpdateNewValues().Exec(ctx)
			},
			"a modifier of the account": func(c *ent.Client) error {
				return c.UserAccount.UpdateOneID(account.ID).Modify(func(u *entsql.UpdateBuilder) { u.Set("user_id", "u-c") }).Exec(ctx)
			},
			"SQL about the account": func(c *ent.Client) error {
				_, err := c.ExecContext(ctx, apart("UPDATE user_accounts SET user_id = $1 WHERE id = $2"), "u-c", account.ID)
				return err
			},
			"SQL about the account, in a list": func(c *ent.Client) error {
				_, err := c.ExecContext(ctx, "UPDATE user_accounts SET (user_id, account_name) = ('u-c', 'x')")
				return err
			},
			"another account, and no user": func(c *ent.Client) error {
				_, err := c.ExecContext(ctx, apart("UPDATE user_credentials SET user_account_id = $1, api_key = $2, secret_key = $3 WHERE id = $4"),
					other.ID, secret("k"), secret("s"), rows[0].ID)
				return err
			},
			"another account, and its own user": func(c *ent.Client) error {
				return c.UserCredential.UpdateOneID(rows[0].ID).SetUserAccountID(other.ID).SetUserID(account.UserID).Exec(ctx)
			},
			"another account, its own user and new secrets": func(c *ent.Client) error {
				return c.UserCredential.UpdateOneID(rows[0].ID).SetUserAccountID(other.ID).SetUserID(account.UserID).
					SetAPIKey(secret("k")).SetSecretKey(secret("s")).Exec(ctx)
			},
			"a modifier to another account": func(c *ent.Client) error {
				return c.UserCredential.UpdateOneID(rows[0].ID).SetAPIKey(secret("k")).SetSecretKey(secret("s")).
					Modify(func(u *entsql.UpdateBuilder) { u.Set("user_account_id", other.ID) }).Exec(ctx)
			},
			"an upsert to another account": func(c *ent.Client) error {
				return c.UserCredential.Create().SetID(rows[0].ID).SetUserAccountID(other.ID).SetCredentialType("alpaca").
					SetAPIKey(secret("k")).SetSecretKey(secret("s")).
					OnConflictColumns("id").Update(func(u *ent.UserCredentialUpsert) { u.UpdateUserAccountID() }).Exec(ctx)
			},
			"a list of conflicts": func(c *ent.Client) error {
				if !env.isSQLite() { // which alone takes it
					return credent.ErrContext
				}
				_, err := c.ExecContext(ctx, "INSERT INTO user_accounts (id, user_id, account_name) VALUES (?, 'u-z', 'x') "+
					"ON CONFLICT (user_id) DO UPDATE SET is_active = 1 ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id", account.ID)
				return err
			},
			"after a comparison": func(c *ent.Client) error {
				_, err := c.ExecContext(ctx, apart("UPDATE user_credentials SET is_active = credential_type IS DISTINCT FROM $1, user_id = $2 WHERE id = $3"),
					"x", "another", rows[0].ID)
				return err
			},
			"an upsert after a comparison": func(c *ent.Client) error {
				_, err := c.ExecContext(ctx, apart("INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, secret_key) "+
					"VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET is_active = user_credentials.credential_type IS DISTINCT FROM excluded.credential_type, "+
					"api_key = excluded.api_key"), rows[0].ID, other.ID, other.UserID, "alpaca", secret("k"), secret("s"))
				return err
			},
		} {
			for _, inTx := range []bool{false, true} {
				err := func() error {
					if !inTx {
						return move(env.client)
					}
					tx, err := env.client.Tx(ctx)
					if err != nil {
						return err
					}
					if err := move(tx.Client()); err != nil {
						return errors.Join(err, tx.Rollback())
					}
					return tx.Commit()
				}()
				if !errors.Is(err, credent.ErrContext) && (!strings.Contains(name, "comparison") || !errors.Is(err, credent.ErrPredicate)) {
					t.Errorf("%s, in a transaction %v: got %v, want ErrContext", name, inTx, err)
				}
			}
		}
		if diff := cmp.Diff(before, env.tokens(t)); diff != "" {
			t.Errorf("something was changed: %s", diff)
		}
		// What gives all anew, and other statements about accounts, go on.
		for name, err := range map[string]error{
			"moved with its secrets": env.client.UserCredential.UpdateOneID(rows[0].ID).SetUserAccountID(other.ID).SetUserID("another").
				SetAPIKey(secret("k")).SetSecretKey(secret("s")).Exec(ctx),
			"account": account.Update().SetAccountName("New").Exec(ctx),
			"upsert of another account": env.client.UserAccount.Create().SetUserID("third").SetAccountName("x").
				OnConflictColumns("user_id").Update(func(u *ent.UserAccountUpsert) { u.UpdateAccountName() }).Exec(ctx),
		} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		moved := env.client.UserCredential.GetX(ctx, rows[0].ID)
		if apiKey, err := moved.APIKey.Reveal(); moved.UserID != "another" || apiKey != "k" || err != nil {
			t.Errorf("got %q of %s, %v", apiKey, moved.UserID, err)
		}
	})
}
