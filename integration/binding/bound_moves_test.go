package binding

import (
	"errors"
	"strings"
	"testing"

	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
)

// TestBoundTenantsAreFollowed has the ways in which a trigger would give a row
// another user_id than its tokens are bound to: each is refused, and changes
// nothing.
func TestBoundTenantsAreFollowed(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		env.Client = env.OnPool(env.IsBound()...)
		account, rows := env.Seed(t)
		other := env.Account(t, "another")
		secret := credent.NewSecret
		apart := func(s string) string { return env.Placeholders(s) }
		before := env.Tokens(t)
		for name, move := range map[string]func(c *ent.Client) error{
			"an upsert of the account": func(c *ent.Client) error {
				return c.UserAccount.Create().SetID(account.ID).SetUserID("u-c").SetAccountName("x").
					OnConflictColumns("id").UpdateNewValues().Exec(ctx)
			},
			"a modifier of the account": func(c *ent.Client) error {
				return c.UserAccount.UpdateOneID(account.ID).
					Modify(func(u *entsql.UpdateBuilder) { u.Set("user_id", "u-c") }).Exec(ctx)
			},
			"another account, and its own user": func(c *ent.Client) error {
				return c.UserCredential.UpdateOneID(rows[0].ID).SetUserAccountID(other.ID).
					SetUserID(account.UserID).Exec(ctx)
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
				return c.UserCredential.Create().SetID(rows[0].ID).SetUserAccountID(other.ID).
					SetCredentialType("alpaca").
					SetAPIKey(secret("k")).SetSecretKey(secret("s")).
					OnConflictColumns("id").Update(func(u *ent.UserCredentialUpsert) { u.UpdateUserAccountID() }).
					Exec(ctx)
			},
			"SQL of another user": func(c *ent.Client) error { // the database refuses it
				_, err := c.ExecContext(ctx, apart("UPDATE user_credentials SET is_active = credential_type IS "+
					"DISTINCT FROM $1, user_id = $2 WHERE id = $3"),
					"x", "another", rows[0].ID)
				if sqlgraph.IsConstraintError(err) {
					return credent.ErrWrongLocation
				}
				return err
			},
			"SQL without the tenant": func(c *ent.Client) error {
				_, err := c.ExecContext(ctx, apart("UPDATE user_credentials SET secret_key = $1 WHERE id = $2"),
					encrypted.At(secret("s"), usercredential.SecretKeyColumn, nil), rows[0].ID)
				return err
			},
		} {
			for _, inTx := range []bool{false, true} {
				err := func() error {
					if !inTx {
						return move(env.Client)
					}
					tx, err := env.Client.Tx(ctx)
					if err != nil {
						return err
					}
					if err := move(tx.Client()); err != nil {
						return errors.Join(err, tx.Rollback())
					}
					return tx.Commit()
				}()
				want := credent.ErrWrongLocation
				if name == "SQL without the tenant" {
					want = credent.ErrNoTenant
				}
				if !errors.Is(err, want) {
					t.Errorf("%s, in a transaction %v: got %v, want %v", name, inTx, err, want)
				}
			}
		}
		if diff := cmp.Diff(before, env.Tokens(t)); diff != "" {
			t.Errorf("something was changed: %s", diff)
		}
		// What gives all again, and other statements about accounts, go on.
		for name, err := range map[string]error{
			"moved with its secrets": env.Client.UserCredential.UpdateOneID(rows[0].ID).SetUserAccountID(other.ID).
				SetUserID("another").
				SetAPIKey(secret("k")).SetSecretKey(secret("s")).Exec(ctx),
			"account": account.Update().SetAccountName("New").Exec(ctx),
			"upsert of another account": env.Client.UserAccount.Create().SetUserID("third").SetAccountName("x").
				OnConflictColumns("user_id").Update(func(u *ent.UserAccountUpsert) { u.UpdateAccountName() }).Exec(ctx),
		} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		moved := env.Client.UserCredential.GetX(ctx, rows[0].ID)
		if apiKey, err := moved.APIKey.Reveal(); moved.UserID != "another" || apiKey != "k" || err != nil {
			t.Errorf("got %q of %s, %v", apiKey, moved.UserID, err)
		}
	})
}

// TestBoundRawSQL has the caller's own SQL about tenants, which nobody reads. A
// secret opens where its statement said that it is stored, and nowhere else.
func TestBoundRawSQL(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		env.Client = env.OnPool(env.IsBound()...)
		for name, test := range map[string]struct {
			query string // of the other account, the secrets' arguments, and the rows' account and ID
			want  map[string]error
		}{
			"to another account": {
				"UPDATE user_credentials SET user_account_id = $1, user_id = 'another', api_key = " +
					"$2, secret_key = $3, api_key_index = $4 WHERE user_account_id = $5 AND id = $6",
				map[string]error{"another": nil, "u1": credent.ErrWrongLocation},
			},
			"upsert": {
				"INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, secret_key, " +
					"api_key_index) SELECT $6, id, user_id, 'alpaca', $2, $3, $4 FROM user_accounts WHERE id IN ($1, " +
					"$5) AND id = $1 ON CONFLICT (id) DO UPDATE SET is_active = user_credentials.credential_type IS " +
					"DISTINCT FROM excluded.credential_type, api_key = excluded.api_key, secret_key = " +
					"excluded.secret_key, api_key_index = excluded.api_key_index",
				map[string]error{"another": credent.ErrWrongLocation, "u1": nil},
			},
		} {
			if !env.IsSQLite() {
				test.query = strings.NewReplacer("SELECT $6", "SELECT CAST($6 AS uuid)", "$4 FROM",
					"CAST($4 AS bytea) FROM").Replace(test.query)
			}
			for tenant, want := range test.want {
				account, rows := env.Seed(t)
				other := env.Account(t, "another")
				apiKey, secretKey := credent.NewSecret("k"), credent.NewSecret("s")
				exec := func(args ...any) error {
					_, err := env.Client.ExecContext(ctx, env.Placeholders(test.query),
						append(append([]any{other.ID}, args...), account.ID, rows[0].ID)...)
					return err
				}
				if err := exec(apiKey, secretKey, nil); !errors.Is(err, credent.ErrNoLocation) {
					t.Errorf("%s, bare: %v", name, err)
				}
				if err := exec(encrypted.At(apiKey, usercredential.APIKeyColumn, tenant),
					encrypted.At(secretKey, usercredential.SecretKeyColumn, tenant),
					encrypted.DigestOf(apiKey, usercredential.APIKeyColumn, nil)); err != nil {
					t.Fatalf("%s, for %s: %v", name, tenant, err)
				}
				row := env.Client.UserCredential.GetX(ctx, rows[0].ID)
				for want, secret := range map[string]credent.Secret{"k": row.APIKey, "s": row.SecretKey} {
					if got, err := secret.Reveal(); !errors.Is(err, test.want[tenant]) || err == nil && got != want {
						t.Errorf("%s, for %s in a row of %s: got %q, %v", name, tenant, row.UserID, got, err)
					}
				}
				if got := testdb.Found(t, env.Client, "k"); want == nil && !got[row.ID] {
					t.Errorf("%s, for %s: it isn't found", name, tenant)
				}
			}
		}
	})
}

// TestBoundTokensStayBehindSQL has SQL of the client's that changes the user_id
// of an account: the tokens stay behind and open nowhere, until it is undone.
func TestBoundTokensStayBehindSQL(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		env.Client = env.OnPool(env.IsBound()...)
		for name, query := range map[string]string{
			"SQL about the account": "UPDATE user_accounts SET user_id = $2 WHERE id = $1",
			"in a list":             "UPDATE user_accounts SET (user_id, account_name) = ($2, 'x') WHERE id = $1",
			"a list of conflicts": "INSERT INTO user_accounts (id, user_id, account_name) VALUES ($1, $2, 'x') " +
				"ON CONFLICT (user_id) DO UPDATE SET is_active = true ON CONFLICT (id) DO UPDATE SET user_id = " +
				"excluded.user_id",
		} {
			if name == "a list of conflicts" && !env.IsSQLite() {
				continue // which alone takes it
			}
			account, rows := env.Seed(t)
			before := env.Tokens(t)
			for _, user := range []string{"another", "u1"} {
				if _, err := env.Client.ExecContext(ctx, env.Placeholders(query), account.ID, user); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				row := env.Client.UserCredential.GetX(ctx, rows[0].ID)
				if _, err := row.APIKey.Reveal(); row.UserID != user || (err == nil) != (user == "u1") ||
					err != nil && !errors.Is(err, credent.ErrWrongLocation) {
					t.Errorf("%s, of %s: %v", name, row.UserID, err)
				}
			}
			if diff := cmp.Diff(before, env.Tokens(t)); diff != "" {
				t.Errorf("%s: something was changed: %s", name, diff)
			}
		}
	})
}
