package twin

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

func TestPythonReadsWhatGoWrites(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		for name, secrets := range testdb.TwinSecrets {
			credential := env.Credential(t, env.Account(t, name), secrets[0], secrets[1])
			if name == "plain" {
				credential.Update().SetExpiresAt(time.Date(2027, 1, 31, 7, 0, 0, 5000, time.FixedZone("", -5*60*60))).
					SaveX(ctx)
			}
		}
		var accounts []testdb.TwinAccount
		if err := json.Unmarshal(testdb.Twin(t, env.URL, env.Key, nil, "read"), &accounts); err != nil {
			t.Fatal(err)
		}
		if len(accounts) != len(testdb.TwinSecrets) {
			t.Fatalf("Python read %d accounts", len(accounts))
		}
		for _, account := range accounts {
			got := account.Credentials[0]
			if diff := cmp.Diff(testdb.TwinSecrets[account.UserID], [2]string{got.APIKey, got.SecretKey}); diff != "" {
				t.Errorf("%s: %s", account.UserID, diff)
			}
			if !got.IsActive || !account.IsActive {
				t.Errorf("%s: not active", account.UserID)
			}
			switch {
			case account.UserID != "plain":
				if got.ExpiresAt != nil {
					t.Errorf("%s: expires at %s", account.UserID, *got.ExpiresAt)
				}
			case got.ExpiresAt == nil || *got.ExpiresAt != "2027-01-31T12:00:00.000005":
				t.Errorf("expires at %v", got.ExpiresAt)
			}
			id := uuid.MustParse(got.ID)
			stored := env.Client.UserCredential.GetX(ctx, id)
			created, err := time.Parse("2006-01-02T15:04:05.999999", got.CreatedAt)
			if err != nil || !created.Equal(stored.CreatedAt) {
				t.Errorf("%s: created at %s, want %v", account.UserID, got.CreatedAt, stored.CreatedAt)
			}
		}
	})
}

func TestGoReadsWhatPythonWrites(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		expires := "2027-01-31T12:00:00.000005"
		var accounts []testdb.TwinAccount
		for name, secrets := range testdb.TwinSecrets {
			c := testdb.TwinCredential{
				CredentialType: "polygon", APIKey: secrets[0],
				SecretKey: secrets[1], IsActive: true,
			}
			if name == "plain" {
				c.ExpiresAt = &expires
			}
			accounts = append(accounts, testdb.TwinAccount{
				UserID: name, AccountName: name,
				Credentials: []testdb.TwinCredential{c},
			})
		}
		testdb.Twin(t, env.URL, env.Key, accounts, "write")

		read := env.Client.UserAccount.Query().WithCredentials().AllX(ctx)
		if len(read) != len(testdb.TwinSecrets) {
			t.Fatalf("read %d accounts", len(read))
		}
		for _, account := range read {
			c := account.Edges.Credentials[0]
			got := [2]string{testdb.Reveal(t, c.APIKey), testdb.Reveal(t, c.SecretKey)}
			if diff := cmp.Diff(testdb.TwinSecrets[account.UserID], got); diff != "" {
				t.Errorf("%s: %s", account.UserID, diff)
			}
			switch {
			case account.UserID != "plain":
				if c.ExpiresAt != nil {
					t.Errorf("%s: expires at %v", account.UserID, c.ExpiresAt)
				}
			case c.ExpiresAt == nil || !c.ExpiresAt.Equal(time.Date(2027, 1, 31, 12, 0, 0, 5000, time.UTC)):
				t.Errorf("expires at %v", c.ExpiresAt)
			}
			if age := time.Since(c.CreatedAt); age < -time.Minute || age > time.Minute {
				t.Errorf("created %v ago", age)
			}
		}
	})
}

// Each updates and removes rows that the other created.
func TestTwinsShareRows(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		ours := env.Credential(t, env.Account(t, "go"), "PK1", "s1")
		testdb.Twin(t, env.URL, env.Key, map[string]any{"api_key": "PK2", "is_active": false}, "update",
			ours.ID.String())
		updated := env.Client.UserCredential.GetX(ctx, ours.ID)
		if got := testdb.Reveal(t, updated.APIKey); got != "PK2" || updated.IsActive || testdb.Reveal(t,
			updated.SecretKey) != "s1" {
			t.Errorf("after Python's update: %q, active %v", got, updated.IsActive)
		}
		if !updated.UpdatedAt.After(ours.UpdatedAt) {
			t.Errorf("Python's update left updated_at at %v", updated.UpdatedAt)
		}

		testdb.Twin(t, env.URL, env.Key, []testdb.TwinAccount{{
			UserID: "py", AccountName: "py",
			Credentials: []testdb.TwinCredential{
				{CredentialType: "alpaca", APIKey: "PK3", SecretKey: "s3", IsActive: true},
			},
		}}, "write")
		theirs := env.Client.UserCredential.Query().Where(usercredential.UserID("py")).OnlyX(ctx)
		theirs.Update().SetSecretKey(credent.NewSecret("s4")).ExecX(ctx)
		var accounts []testdb.TwinAccount
		if err := json.Unmarshal(testdb.Twin(t, env.URL, env.Key, nil, "read"), &accounts); err != nil {
			t.Fatal(err)
		}
		if got := accounts[1].Credentials[0]; got.SecretKey != "s4" || got.APIKey != "PK3" {
			t.Errorf("Python reads %+v", got)
		}
		testdb.Twin(t, env.URL, env.Key, nil, "remove-credential", theirs.ID.String())
		testdb.Twin(t, env.URL, env.Key, nil, "delete-account", "go")
		if n := env.Client.UserCredential.Query().CountX(ctx); n != 0 {
			t.Errorf("%d credentials left", n)
		}
	})
}

// A database that the Python application created and filled is adopted with the
// first migration as the baseline.
func TestTakeOverFromPython(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, key := testdb.NewDatabase(t, ""), keyring.GenerateKey()
			testdb.Twin(t, url, key, nil, "create-all")
			testdb.Twin(t, url, key, []testdb.TwinAccount{{
				UserID: "py", AccountName: "py",
				Credentials: []testdb.TwinCredential{
					{CredentialType: "alpaca", APIKey: "PK", SecretKey: "s", IsActive: true},
				},
			}}, "write")
			db := testdb.OpenDB(t, url, opts...)
			if err := testopt.Apply(t.Context(), db); !errors.Is(err, migrate.ErrNotClean) {
				t.Fatalf("without a baseline: %v", err)
			}
			if err := testopt.Apply(t.Context(), db, testopt.WithBaseline(testdb.CreateTables)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(testdb.Versions(t), testdb.AppliedVersions(t, db)); diff != "" {
				t.Error(diff)
			}
			ring, err := keyring.New(key)
			if err != nil {
				t.Fatal(err)
			}
			client := testdb.Open(t, url, append(opts, testopt.WithKeyring(ring))...)
			if got := testdb.Reveal(t, client.UserCredential.Query().OnlyX(t.Context()).APIKey); got != "PK" {
				t.Errorf("revealed %q", got)
			}
		})
	}
}
