package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// brokerKeys are keys in the formats that brokers and data providers give out,
// and what else may come.
var brokerKeys = map[string]string{
	"alpaca live":          "AKFZXJH121U18SHHDRFO",
	"alpaca live, PK":      "PKV7UQ0NJ2IGT9A3ZK1D",
	"alpaca paper":         "PKTEST7UQ0NJ2IGT9A3Z",
	"alpaca secret":        "9tzkSGWEMw5dnXyZ0aCrh3oLPuQvB1jF2sKiNlHt",
	"sp":                   "sp_live_5f2b9c0d7a1e4836",
	"polygon":              "b2k9xq7hnd3vlt0m5r8wzcfyje1gaspo",
	"special characters":   `p@$$'w"ö\rd;--%s{}<>&` + "\t\n\x00",
	"non-ASCII":            "ключ-密钥-🔑",
	"empty":                "",
	"303 bytes":            strings.Repeat("x", 303),
	"303 bytes, non-ASCII": strings.Repeat("密", 101),
	"looks like a token":   "gAAAAABrBQW31GvVf3fvm80I0LQW_aic",
}

func TestSecretsAreStoredAsTokens(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		account := env.Account(t, "u1")
		for name, key := range brokerKeys {
			created := env.Credential(t, account, key, key)
			if got := testdb.Reveal(t, created.APIKey); got != key {
				t.Errorf("%s: the created node reveals %q, want %q", name, got, key)
			}

			var apiKey, secretKey string
			env.Value(t, &apiKey, "SELECT api_key FROM user_credentials WHERE id = $1", created.ID)
			env.Value(t, &secretKey, "SELECT secret_key FROM user_credentials WHERE id = $1", created.ID)
			for _, token := range []string{apiKey, secretKey} {
				if !strings.HasPrefix(token, "gAAAA") || len(token) <= len(key) || len(token) > 500 {
					t.Errorf("%s: stored as %d characters that begin %.5s", name, len(token), token)
				}
				if key != "" && strings.Contains(token, key) {
					t.Errorf("%s: stored as it is", name)
				}
				if got, err := env.Ring.Decrypt(token); err != nil || got != key {
					t.Errorf("%s: the stored token opens to %q, %v", name, got, err)
				}
			}
			if apiKey == secretKey {
				t.Errorf("%s: the same value was encrypted to the same token twice", name)
			}

			read, err := env.Client.UserCredential.Get(t.Context(), created.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got := testdb.Reveal(t, read.APIKey); got != key {
				t.Errorf("%s: read back as %q, want %q", name, got, key)
			}
			if !read.SecretKey.Equal(credent.NewSecret(key)) {
				t.Errorf("%s: the second field does not equal what was set", name)
			}
		}
	})
}

func TestUpdateEncrypts(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		credential := env.Credential(t, env.Account(t, "u1"), "PKOLD", "old secret")
		var before string
		env.Value(t, &before, "SELECT secret_key FROM user_credentials")

		updated, err := credential.Update().SetAPIKey(credent.NewSecret("PKNEW")).Save(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if got := testdb.Reveal(t, updated.APIKey); got != "PKNEW" {
			t.Errorf("the updated node reveals %q", got)
		}
		if got := testdb.Reveal(t, updated.SecretKey); got != "old secret" {
			t.Errorf("the field that was not set reveals %q", got)
		}
		if !updated.UpdatedAt.After(credential.UpdatedAt) || !updated.CreatedAt.Equal(credential.CreatedAt) {
			t.Errorf("updated_at went from %v to %v, created_at from %v to %v",
				credential.UpdatedAt, updated.UpdatedAt, credential.CreatedAt, updated.CreatedAt)
		}
		var token, after string
		env.Value(t, &token, "SELECT api_key FROM user_credentials")
		env.Value(t, &after, "SELECT secret_key FROM user_credentials")
		if got, err := env.Ring.Decrypt(token); err != nil || got != "PKNEW" {
			t.Errorf("the stored token opens to %q, %v", got, err)
		}
		if before != after {
			t.Error("a field that was not set was written")
		}
	})
}

// A secret that was read from one row is encrypted again for another, never
// copied.
func TestSecretOfAnotherRow(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		account := env.Account(t, "u1")
		first, err := env.Client.UserCredential.Get(t.Context(), env.Credential(t, account, "PK1", "s1").ID)
		if err != nil {
			t.Fatal(err)
		}
		second := env.Client.UserCredential.Create().SetAccount(account).SetUserID("u1").SetCredentialType("polygon").
			SetAPIKey(first.APIKey).SetSecretKey(first.APIKey).SaveX(t.Context())
		if got := testdb.Reveal(t, second.APIKey); got != "PK1" {
			t.Errorf("revealed %q", got)
		}
		var tokens int
		env.Value(t, &tokens, "SELECT count(DISTINCT token) FROM (SELECT api_key AS token FROM user_credentials "+
			"UNION ALL SELECT secret_key FROM user_credentials WHERE id = $1) AS t", second.ID)
		if tokens != 3 {
			t.Errorf("%d different tokens, want 3", tokens)
		}
	})
}

func TestLengthLimit(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		account := env.Account(t, "u1")
		create := func(secret string) error {
			return env.Client.UserCredential.Create().SetAccount(account).SetUserID("u1").SetCredentialType("alpaca").
				SetAPIKey(credent.NewSecret(secret)).SetSecretKey(credent.NewSecret("s")).Exec(t.Context())
		}
		if err := create(strings.Repeat("x", 303)); err != nil {
			t.Errorf("303 bytes: %v", err)
		}
		for _, long := range []string{strings.Repeat("x", 304), strings.Repeat("密", 102), strings.Repeat("x", 1<<20)} {
			err := create(long)
			var fieldErr *credent.Error
			if !errors.Is(err, credent.ErrTooLong) || !errors.As(err, &fieldErr) {
				t.Fatalf("%d bytes: %v", len(long), err)
			}
			if fieldErr.Table != "user_credentials" || fieldErr.Column != "api_key" {
				t.Errorf("%d bytes: error is about %s.%s", len(long), fieldErr.Table, fieldErr.Column)
			}
			if !strings.Contains(err.Error(), "303") || strings.Contains(err.Error(), long[:50]) {
				t.Errorf("%d bytes: %v", len(long), err)
			}
		}
		if n := env.Client.UserCredential.Query().CountX(t.Context()); n != 1 {
			t.Errorf("%d rows, want 1", n)
		}
	})
}

func TestAbsentSecretIsRefused(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		account := env.Account(t, "u1")
		err := env.Client.UserCredential.Create().SetAccount(account).SetUserID("u1").SetCredentialType("alpaca").
			SetAPIKey(credent.Secret{}).SetSecretKey(credent.NewSecret("s")).Exec(t.Context())
		if !ent.IsConstraintError(err) && err == nil {
			t.Errorf("an absent secret in a required column: %v", err)
		}
		err = env.Client.UserCredential.Create().SetAccount(account).SetUserID("u1").SetCredentialType("alpaca").
			SetSecretKey(credent.NewSecret("s")).Exec(t.Context())
		if !ent.IsValidationError(err) {
			t.Errorf("a secret that was not set: %v", err)
		}
	})
}

func TestRelations(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		first, second := env.Account(t, "u1"), env.Account(t, "u2")
		a := env.Credential(t, first, "PK1", "s1")
		env.Credential(t, first, "PK2", "s2")
		env.Credential(t, second, "PK3", "s3")

		accounts, err := env.Client.UserAccount.Query().
			WithCredentials(func(q *ent.UserCredentialQuery) { q.Order(usercredential.ByCreatedAt()) }).
			Order(useraccount.ByUserID()).All(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string][]string{}
		for _, account := range accounts {
			for _, c := range account.Edges.Credentials {
				got[account.UserID] = append(got[account.UserID], testdb.Reveal(t, c.APIKey))
			}
		}
		if diff := cmp.Diff(map[string][]string{"u1": {"PK1", "PK2"}, "u2": {"PK3"}}, got); diff != "" {
			t.Error(diff)
		}
		if owner := a.QueryAccount().OnlyX(ctx); owner.ID != first.ID {
			t.Errorf("the credential's account is %v", owner.ID)
		}
		if n := first.QueryCredentials().CountX(ctx); n != 2 {
			t.Errorf("the account has %d credentials", n)
		}

		if err := env.Client.UserAccount.DeleteOne(first).Exec(ctx); err != nil {
			t.Fatal(err)
		}
		if n := env.Client.UserCredential.Query().CountX(ctx); n != 1 {
			t.Errorf("%d credentials after the account with two of three was removed", n)
		}
	})
}

func TestConstraints(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		account := env.Account(t, "u1")
		err := env.Client.UserAccount.Create().SetUserID("u1").SetAccountName("again").Exec(ctx)
		if !ent.IsConstraintError(err) {
			t.Errorf("a user_id twice: %v", err)
		}
		err = env.Client.UserCredential.Create().SetUserAccountID(uuid.New()).SetUserID("u1").
			SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("s")).Exec(ctx)
		if !ent.IsConstraintError(err) {
			t.Errorf("an account that is not there: %v", err)
		}
		for _, column := range []string{"api_key", "secret_key"} {
			id := env.Credential(t, account, "k", "s").ID
			_, err := env.DB.ExecContext(ctx, "UPDATE user_credentials SET "+column+" = 'PKPLAINTEXT' WHERE id = $1",
				id)
			if err == nil || !strings.Contains(err.Error(), "user_credentials_"+column+"_encrypted") {
				t.Errorf("plaintext in %s: %v", column, err)
			}
			if _, err := env.DB.ExecContext(ctx, "UPDATE user_credentials SET "+column+" = '' WHERE id = $1",
				id); err == nil {
				t.Errorf("an empty text in %s was accepted", column)
			}
		}
	})
}

// The server's sessions are in New York; every time is UTC all the same.
func TestTimesAreUTC(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		var zone string
		env.Value(t, &zone, "SHOW TimeZone")
		if zone == "UTC" {
			t.Fatal("the server's time zone is UTC, so this test would show nothing")
		}
		noon := time.Date(2027, 1, 31, 12, 0, 0, 123456000, time.UTC)
		there := noon.In(time.FixedZone("Tokyo", 9*60*60))
		before := time.Now().UTC().Add(-time.Second)
		created := env.Client.UserCredential.Create().SetAccount(env.Account(t, "u1")).SetUserID("u1").
			SetCredentialType("alpaca").SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("s")).
			SetExpiresAt(there).SaveX(ctx)

		var raw string
		env.Value(t, &raw, "SELECT expires_at::text FROM user_credentials")
		if raw != "2027-01-31 12:00:00.123456" {
			t.Errorf("stored as %s", raw)
		}
		read := env.Client.UserCredential.GetX(ctx, created.ID)
		if !read.ExpiresAt.Equal(noon) {
			t.Errorf("read as %v", read.ExpiresAt)
		}
		if !read.CreatedAt.Equal(created.CreatedAt) {
			t.Errorf("created at %v, read back as %v", created.CreatedAt, read.CreatedAt)
		}
		var utc bool
		env.Value(t, &utc, "SELECT created_at BETWEEN $1 AND timezone('utc', now()) + interval '1 second' FROM "+
			"user_credentials", before.Format("2006-01-02 15:04:05.999999"))
		if !utc {
			t.Error("created_at is not now in UTC")
		}
		for name, predicate := range map[string]bool{
			"an hour before": env.Client.UserCredential.Query().
				Where(usercredential.ExpiresAtGT(there.Add(-time.Hour))).ExistX(ctx),
			"an hour after": !env.Client.UserCredential.Query().
				Where(usercredential.ExpiresAtGT(there.Add(time.Hour))).ExistX(ctx),
		} {
			if !predicate {
				t.Errorf("a predicate with a time in another zone, %s, is wrong", name)
			}
		}
		cleared := read.Update().ClearExpiresAt().SaveX(ctx)
		if cleared.ExpiresAt != nil {
			t.Errorf("cleared, it is %v", cleared.ExpiresAt)
		}
	})
}

// An INSERT that is neither ent's nor the Python application's gets the same
// defaults.
func TestDefaultsInTheDatabase(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		token, err := env.Ring.Encrypt("PK1")
		if err != nil {
			t.Fatal(err)
		}
		env.Exec(t, "INSERT INTO user_accounts (user_id, account_name) VALUES ('u1', 'by hand')")
		env.Exec(t, "INSERT INTO user_credentials (user_account_id, user_id, credential_type, api_key, secret_key) "+
			"SELECT id, user_id, 'alpaca', $1, $1 FROM user_accounts", token)

		account := env.Client.UserAccount.Query().WithCredentials().OnlyX(ctx)
		credential := account.Edges.Credentials[0]
		if got := testdb.Reveal(t, credential.APIKey); got != "PK1" {
			t.Errorf("revealed %q", got)
		}
		if !account.IsActive || !credential.IsActive || credential.ExpiresAt != nil {
			t.Errorf("active %v, %v; expires at %v", account.IsActive, credential.IsActive, credential.ExpiresAt)
		}
		for _, id := range []uuid.UUID{account.ID, credential.ID} {
			if id.Version() != 4 {
				t.Errorf("%v is of version %d", id, id.Version())
			}
		}
		for _, at := range []time.Time{
			account.CreatedAt, account.UpdatedAt, credential.CreatedAt,
			credential.UpdatedAt,
		} {
			if age := time.Since(at); age < -time.Minute || age > time.Minute {
				t.Errorf("a default time is %v off", age)
			}
		}
	})
}

func TestEachClientHasItsKeyring(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		account := env.Account(t, "u1")
		first := env.Credential(t, account, "PK1", "s1")
		otherRing, err := keyring.New(keyring.GenerateKey())
		if err != nil {
			t.Fatal(err)
		}
		other := testdb.Open(t, env.URL, testopt.WithKeyring(otherRing))
		second := other.UserCredential.Create().SetUserAccountID(account.ID).SetUserID("u1").
			SetCredentialType("polygon").
			SetAPIKey(credent.NewSecret("PK2")).SetSecretKey(credent.NewSecret("s2")).SaveX(ctx)

		if got := testdb.Reveal(t, other.UserCredential.GetX(ctx, second.ID).APIKey); got != "PK2" {
			t.Errorf("revealed %q", got)
		}
		foreign := other.UserCredential.GetX(ctx, first.ID)
		_, err = foreign.APIKey.Reveal()
		var fieldErr *credent.Error
		if !errors.Is(err, credent.ErrUnknownKey) || !errors.As(err, &fieldErr) {
			t.Fatalf("revealing a secret under another key: %v", err)
		}
		if fieldErr.Table != "user_credentials" || fieldErr.Column != "api_key" || fieldErr.Row != first.ID.String() {
			t.Errorf("the error is about %s.%s of row %s", fieldErr.Table, fieldErr.Column, fieldErr.Row)
		}

		strict := testdb.Open(t, env.URL, testopt.WithKeyring(otherRing), testopt.VerifyOnRead())
		if _, err := strict.UserCredential.Query().All(ctx); !errors.Is(err, credent.ErrUnknownKey) {
			t.Errorf("a strict query over a secret under another key: %v", err)
		}
		both, err := keyring.New(keyring.GenerateKey(), env.Key)
		if err != nil {
			t.Fatal(err)
		}
		if got := testdb.Reveal(t, testdb.Open(t, env.URL, testopt.WithKeyring(both)).
			UserCredential.GetX(ctx, first.ID).APIKey); got != "PK1" {
			t.Errorf("with its key as a previous one: revealed %q", got)
		}
	})
}
