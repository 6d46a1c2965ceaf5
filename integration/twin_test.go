package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

// python is Debian's, where its packages are, or else the one in PATH.
func python() string {
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		return "/usr/bin/python3"
	}
	return "python3"
}

// pythonOf returns the Python of a page of the documentation that stands under
// a mark.
func pythonOf(t *testing.T, page, mark string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "<!-- python: "+mark+";")
	_, rest, ok2 := strings.Cut(rest, "```python\n")
	code, _, ok3 := strings.Cut(rest, "```")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("docs/%s has no Python under %q", page, mark)
	}
	return code
}

// twin runs the Python application's side, with JSON in and out.
func twin(t *testing.T, url, key string, input any, args ...string) []byte {
	t.Helper()
	if key == "" {
		key = keyring.GenerateKey()
	}
	return twinWith(t, url, key, "", input, args...)
}

// twinWith is twin with earlier keys.
func twinWith(t *testing.T, url, key, previous string, input any, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), python(), append([]string{"twin/twin.py"}, args...)...)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+url, "ENCRYPTION_KEY="+key, "ENCRYPTION_KEY_PREVIOUS="+previous,
		"PYTHONDONTWRITEBYTECODE=1")
	if input != nil {
		data, err := json.Marshal(input)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = bytes.NewReader(data)
	}
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		errors.As(err, &exit)
		t.Fatalf("twin %s: %v\n%s", strings.Join(args, " "), err, exit.Stderr)
	}
	return out
}

type twinAccount struct {
	ID          string           `json:"id,omitempty"`
	UserID      string           `json:"user_id"`
	AccountName string           `json:"account_name"`
	IsActive    bool             `json:"is_active"`
	Credentials []twinCredential `json:"credentials"`
}

type twinCredential struct {
	ID             string  `json:"id,omitempty"`
	CredentialType string  `json:"credential_type"`
	APIKey         string  `json:"api_key"`
	SecretKey      string  `json:"secret_key"`
	IsActive       bool    `json:"is_active"`
	ExpiresAt      *string `json:"expires_at"`
	CreatedAt      string  `json:"created_at,omitempty"`
	UpdatedAt      string  `json:"updated_at,omitempty"`
}

// twinSecrets are what both languages must read of each other's rows. Postgres
// and Python's str() exclude a NUL byte and invalid UTF-8 in neither token nor
// text, so both are among them as far as JSON can carry them.
var twinSecrets = map[string][2]string{
	"plain":     {"PKTEST7UQ0NJ2IGT9A3Z", "9tzkSGWEMw5dnXyZ0aCrh3oLPuQvB1jF2sKiNlHt"},
	"empty":     {"", ""},
	"non-ASCII": {"ключ-密钥-🔑", "café\u0301"},
	"control":   {"a\x00b", "line\r\nbreak\t"},
	"longest":   {strings.Repeat("x", 303), strings.Repeat("密", 101)},
}

func TestPythonReadsWhatGoWrites(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, env *environment) {
		ctx := t.Context()
		for name, secrets := range twinSecrets {
			credential := env.credential(t, env.account(t, name), secrets[0], secrets[1])
			if name == "plain" {
				credential.Update().SetExpiresAt(time.Date(2027, 1, 31, 7, 0, 0, 5000, time.FixedZone("", -5*60*60))).SaveX(ctx)
			}
		}
		var accounts []twinAccount
		if err := json.Unmarshal(twin(t, env.url, env.key, nil, "read"), &accounts); err != nil {
			t.Fatal(err)
		}
		if len(accounts) != len(twinSecrets) {
			t.Fatalf("Python read %d accounts", len(accounts))
		}
		for _, account := range accounts {
			got := account.Credentials[0]
			if diff := cmp.Diff(twinSecrets[account.UserID], [2]string{got.APIKey, got.SecretKey}); diff != "" {
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
			stored := env.client.UserCredential.GetX(ctx, id)
			created, err := time.Parse("2006-01-02T15:04:05.999999", got.CreatedAt)
			if err != nil || !created.Equal(stored.CreatedAt) {
				t.Errorf("%s: created at %s, want %v", account.UserID, got.CreatedAt, stored.CreatedAt)
			}
		}
	})
}

func TestGoReadsWhatPythonWrites(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, env *environment) {
		ctx := t.Context()
		expires := "2027-01-31T12:00:00.000005"
		var accounts []twinAccount
		for name, secrets := range twinSecrets {
			c := twinCredential{CredentialType: "polygon", APIKey: secrets[0], SecretKey: secrets[1], IsActive: true}
			if name == "plain" {
				c.ExpiresAt = &expires
			}
			accounts = append(accounts, twinAccount{UserID: name, AccountName: name, Credentials: []twinCredential{c}})
		}
		twin(t, env.url, env.key, accounts, "write")

		read := env.client.UserAccount.Query().WithCredentials().AllX(ctx)
		if len(read) != len(twinSecrets) {
			t.Fatalf("read %d accounts", len(read))
		}
		for _, account := range read {
			c := account.Edges.Credentials[0]
			got := [2]string{reveal(t, c.APIKey), reveal(t, c.SecretKey)}
			if diff := cmp.Diff(twinSecrets[account.UserID], got); diff != "" {
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

// Each updates and removes rows that the other made.
func TestTwinsShareRows(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, env *environment) {
		ctx := t.Context()
		ours := env.credential(t, env.account(t, "go"), "PK1", "s1")
		twin(t, env.url, env.key, map[string]any{"api_key": "PK2", "is_active": false}, "update", ours.ID.String())
		updated := env.client.UserCredential.GetX(ctx, ours.ID)
		if got := reveal(t, updated.APIKey); got != "PK2" || updated.IsActive || reveal(t, updated.SecretKey) != "s1" {
			t.Errorf("after Python's update: %q, active %v", got, updated.IsActive)
		}
		if !updated.UpdatedAt.After(ours.UpdatedAt) {
			t.Errorf("Python's update left updated_at at %v", updated.UpdatedAt)
		}

		twin(t, env.url, env.key, []twinAccount{{UserID: "py", AccountName: "py", Credentials: []twinCredential{
			{CredentialType: "alpaca", APIKey: "PK3", SecretKey: "s3", IsActive: true},
		}}}, "write")
		theirs := env.client.UserCredential.Query().Where(usercredential.UserID("py")).OnlyX(ctx)
		theirs.Update().SetSecretKey(credent.NewSecret("s4")).ExecX(ctx)
		var accounts []twinAccount
		if err := json.Unmarshal(twin(t, env.url, env.key, nil, "read"), &accounts); err != nil {
			t.Fatal(err)
		}
		if got := accounts[1].Credentials[0]; got.SecretKey != "s4" || got.APIKey != "PK3" {
			t.Errorf("Python reads %+v", got)
		}
		twin(t, env.url, env.key, nil, "remove-credential", theirs.ID.String())
		twin(t, env.url, env.key, nil, "delete-account", "go")
		if n := env.client.UserCredential.Query().CountX(ctx); n != 0 {
			t.Errorf("%d credentials left", n)
		}
	})
}

// A database that the Python application made and filled is taken over with the
// first migration as the baseline.
func TestTakeOverFromPython(t *testing.T) {
	t.Parallel()
	for name, opts := range drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, key := newDatabase(t, ""), keyring.GenerateKey()
			twin(t, url, key, nil, "create-all")
			twin(t, url, key, []twinAccount{{UserID: "py", AccountName: "py", Credentials: []twinCredential{
				{CredentialType: "alpaca", APIKey: "PK", SecretKey: "s", IsActive: true},
			}}}, "write")
			db := openDB(t, url, opts...)
			if err := testopt.Apply(t.Context(), db); !errors.Is(err, migrate.ErrNotClean) {
				t.Fatalf("without a baseline: %v", err)
			}
			if err := testopt.Apply(t.Context(), db, testopt.WithBaseline(createTables)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(versions(t), appliedVersions(t, db)); diff != "" {
				t.Error(diff)
			}
			ring, err := keyring.New(key)
			if err != nil {
				t.Fatal(err)
			}
			client := open(t, url, append(opts, testopt.WithKeyring(ring))...)
			if got := reveal(t, client.UserCredential.Query().OnlyX(t.Context()).APIKey); got != "PK" {
				t.Errorf("revealed %q", got)
			}
		})
	}
}
