package paths

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// plainEnv makes the test binary the child of TestPlainClient, since the
// default keyring is read once per process.
const plainEnv = "CREDENT_TEST_PLAIN"

// TestPlainClient has clients without Credent's driver and hooks, created as in
// ent's documentation. A column without an index is stored under the default
// key, and refused without one; an indexed column is refused.
func TestPlainClient(t *testing.T) {
	t.Parallel()
	for mode, key := range map[string]string{"with a key": keyring.GenerateKey(), "without a key": ""} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPlainClientChild$", "-test.v")
			// The child connects to its own database: nobody may be connected
			// to the template while it is copied.
			cmd.Env = append(os.Environ(), plainEnv+"="+mode, pgserver.EnvURL+"="+testdb.NewDatabase(t, ""),
				"ENCRYPTION_KEY="+key, "ENCRYPTION_KEY_FILE=", "ENCRYPTION_KEY_PREVIOUS=",
				"ENCRYPTION_KEY_PREVIOUS_FILE=")
			out, err := cmd.CombinedOutput()
			if err != nil || strings.Count(string(out), "--- PASS: TestPlainClientChild/") < 3 {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestPlainClientChild runs in TestPlainClient's child.
func TestPlainClientChild(t *testing.T) {
	t.Parallel()
	switch os.Getenv(plainEnv) {
	case "with a key":
		testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
			// Seed and check with the environment's keyring, as the plain
			// client writes.
			env.Key = os.Getenv("ENCRYPTION_KEY")
			env.Ring = testdb.Keyring(t, env.Key)
			env.Client = env.OnPool(testopt.WithKeyring(env.Ring))
			for _, path := range writePaths() {
				t.Run(path.name, func(t *testing.T) { path.asPlain().try(t, env, plainSetting) })
			}
			t.Run("many rows", func(t *testing.T) { plainManyRows(t, env) })
		})
	case "without a key":
		testdb.ForEachDatabase(t, plainWithoutKey)
	}
}

var plainSetting = setting{
	name:   "plain client",
	client: func(env *testdb.Env) *ent.Client { return plainClient(env) },
	keep:   true,
}

// plainClient returns a client without Credent's driver and hooks.
func plainClient(env *testdb.Env) *ent.Client {
	return ent.NewClient(ent.Driver(env.EntDriver()), ent.Log(func(...any) {}))
}

// asPlain returns the path with its expected outcome without Credent's driver
// and hooks: nothing else can write a blind index.
func (p writePath) asPlain() writePath {
	switch {
	case p.raw:
		p.refused = errSomehow // by database/sql, by pgx, or by the CHECK
	case errors.Is(p.refused, credent.ErrRedacted):
		p.refused = errSomehow // by the CHECK
		if p.marker {
			p.write = func(context.Context, *writer) error { return errSomehow } // an ordinary text
		}
	case p.refused != nil:
		p.refused = orNoDriverError{p.refused}
	case !p.plainly:
		p.refused = credent.ErrNoDriver
	}
	return p
}

// plainManyRows checks that generated code refuses one token for many rows, and
// that a plain client stores and reads a column without an index.
func plainManyRows(t *testing.T, env *testdb.Env) {
	t.Helper()
	ctx, client := t.Context(), plainClient(env)
	_, rows := env.Seed(t)
	before := env.Tokens(t)
	for column, err := range map[string]error{
		"api_key":    client.UserCredential.Update().SetAPIKey(credent.NewSecret("new")).Exec(ctx),
		"secret_key": client.UserCredential.Update().SetSecretKey(credent.NewSecret("new")).Exec(ctx),
	} {
		if !errors.Is(err, credent.ErrManyRows) {
			t.Errorf("%s: got %v, want ErrManyRows", column, err)
		}
	}
	if diff := cmp.Diff(before, env.Tokens(t)); diff != "" {
		t.Error("something was changed:", diff)
	}
	client.UserCredential.Update().Where(usercredential.ID(rows[1].ID)).
		SetSecretKey(credent.NewSecret("new")).ExecX(ctx)
	got := client.UserCredential.GetX(ctx, rows[1].ID)
	if apiKey, secretKey := testdb.Reveal(t, got.APIKey), testdb.Reveal(t,
		got.SecretKey); apiKey != "api1" || secretKey != "new" {
		t.Errorf("read %q, %q", apiKey, secretKey)
	}
	plainLookup(t, client)
}

// plainLookup looks up a secret, and must fail: without digests it would find
// nothing.
func plainLookup(t *testing.T, client *ent.Client) {
	t.Helper()
	where := usercredential.APIKeyIs(credent.NewSecret("api1"))
	_, err := client.UserCredential.Query().Where(where).All(t.Context())
	_, errDelete := client.UserCredential.Delete().Where(usercredential.Not(where)).Exec(t.Context())
	for _, err := range []error{err, errDelete} {
		if !errors.Is(err, credent.ErrNoDriver) {
			t.Errorf("looked up: got %v, want ErrNoDriver", err)
		}
	}
}

// plainWithoutKey writes and reads without a key in the environment.
func plainWithoutKey(t *testing.T, env *testdb.Env) {
	ctx := t.Context()
	account, rows := env.Seed(t)
	before := env.Tokens(t)
	create := func(client *ent.Client) *ent.UserCredentialCreate {
		return client.UserCredential.Create().SetUserAccountID(account.ID).SetUserID("u1").SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("a")).SetSecretKey(credent.NewSecret("b"))
	}
	clients := map[string]*ent.Client{
		"plain":             plainClient(env),
		"plain, debug":      plainClient(env).Debug(),
		"Credent's driver":  env.OnPool(),
		"credent.NewClient": testdb.Must(testopt.NewClient(env.DB, env.Dialect())),
	}
	for name, client := range clients {
		want := credent.ErrNoKey
		if strings.HasPrefix(name, "plain") {
			want = credent.ErrNoDriver
			plainLookup(t, client)
		}
		for path, write := range map[string]func() error{
			"Create": func() error { return create(client).Exec(ctx) },
			"CreateBulk": func() error {
				return client.UserCredential.CreateBulk(create(client),
					create(client)).Exec(ctx)
			},
			"Update": func() error {
				return client.UserCredential.Update().Where(usercredential.ID(rows[0].ID)).
					SetAPIKey(credent.NewSecret("a")).Exec(ctx)
			},
			"UpdateOne": func() error {
				return client.UserCredential.UpdateOneID(rows[0].ID).SetAPIKey(credent.NewSecret("a")).Exec(ctx)
			},
			"upsert": func() error {
				return create(client).SetID(rows[0].ID).OnConflictColumns("id").UpdateNewValues().Exec(ctx)
			},
			"transaction": func() error {
				tx, err := client.Tx(ctx)
				if err != nil {
					return err
				}
				return errors.Join(create(tx.Client()).Exec(ctx), tx.Rollback())
			},
		} {
			err := write()
			var detail *credent.Error
			if !errors.Is(err, want) || !errors.As(err, &detail) || detail.Column != "api_key" {
				t.Errorf("%s, %s: got %v, want %v of api_key", name, path, err, want)
			}
		}
		var detail *credent.Error
		err := client.UserCredential.UpdateOneID(rows[0].ID).SetSecretKey(credent.NewSecret("a")).Exec(ctx)
		if !errors.Is(err, credent.ErrNoKey) || !errors.As(err, &detail) || detail.Column != "secret_key" {
			t.Errorf("%s: got %v, want ErrNoKey of secret_key", name, err)
		}
		for _, as := range []passing{{bare: true}, {}} {
			secret := credent.NewSecret("a")
			raw := client.UserCredential.UpdateOneID(rows[0].ID).Modify(func(u *entsql.UpdateBuilder) {
				u.Set("api_key", as.apiKey(secret)).Set("api_key_index", as.digest(secret))
			}).Exec(ctx)
			if raw == nil {
				t.Errorf("%s: a raw secret was accepted", name)
			}
		}
		for _, c := range client.UserCredential.Query().AllX(ctx) {
			if _, err := c.APIKey.Reveal(); !errors.Is(err, credent.ErrNoKey) {
				t.Errorf("%s: revealed with %v", name, err)
			}
		}
	}
	if _, err := testopt.Open(ctx, env.URL, env.Opts...); !errors.Is(err, credent.ErrNoKey) {
		t.Errorf("Open: %v", err)
	}
	if after := env.Tokens(t); len(after) != len(before) || after[rows[0].ID] != before[rows[0].ID] {
		t.Error("something was changed")
	}
}
