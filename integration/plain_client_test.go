package integration

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/pgserver"
)

// plainEnv makes the test binary the child of TestPlainClient, since the default keyring is read once a process.
const plainEnv = "CREDENT_TEST_PLAIN"

// TestPlainClient has clients that were made without Credent's driver and hooks, as ent's documentation makes them. What ent
// seals by itself is stored under the default key; what it passes on raw is refused, and without a key everything is.
func TestPlainClient(t *testing.T) {
	t.Parallel()
	for mode, key := range map[string]string{"with a key": credent.GenerateKey(), "without a key": ""} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPlainClientChild$", "-test.v")
			// The child connects to a database of its own: nobody may be connected to the template while it is copied.
			cmd.Env = append(os.Environ(), plainEnv+"="+mode, pgserver.EnvURL+"="+newDatabase(t, ""),
				"ENCRYPTION_KEY="+key, "ENCRYPTION_KEY_FILE=", "ENCRYPTION_KEY_PREVIOUS=", "ENCRYPTION_KEY_PREVIOUS_FILE=")
			out, err := cmd.CombinedOutput()
			if err != nil || strings.Count(string(out), "--- PASS: TestPlainClientChild/") < 3 {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestPlainClientChild is what TestPlainClient runs.
func TestPlainClientChild(t *testing.T) {
	t.Parallel()
	switch os.Getenv(plainEnv) {
	case "with a key":
		forEachDatabase(t, func(t *testing.T, env *environment) {
			// What is seeded and checked with the environment's keyring is to be what the plain client writes.
			env.key = os.Getenv("ENCRYPTION_KEY")
			env.ring = keyring(t, env.key)
			env.client = env.onPool(credent.WithKeyring(env.ring))
			for _, path := range writePaths() {
				t.Run(path.name, func(t *testing.T) { path.asPlain().try(t, env, plainSetting) })
			}
			t.Run("many rows", func(t *testing.T) { plainManyRows(t, env) })
		})
	case "without a key":
		forEachDatabase(t, plainWithoutKey)
	}
}

var plainSetting = setting{
	name:   "plain client",
	client: func(env *environment) *ent.Client { return env.plainClient() },
	keep:   true,

	unindexed: true,
}

// plainClient returns a client without Credent's driver and hooks.
func (env *environment) plainClient() *ent.Client {
	return ent.NewClient(ent.Driver(env.driver()), ent.Log(func(...any) {}))
}

// asPlain returns the path with what is to come of it without Credent's driver and hooks.
func (p writePath) asPlain() writePath {
	switch {
	case p.raw:
		p.refused = errSomehow // by database/sql, by pgx, or by the CHECK
	case p.refused != nil && p.unguarded:
		p.write = func(context.Context, *writer) error { return errSomehow } // see plainManyRows
		p.refused = errSomehow
	case errors.Is(p.refused, credent.ErrRedacted):
		p.refused = errSomehow // by the CHECK
		if p.marker {
			p.write = func(context.Context, *writer) error { return errSomehow } // a text like any other
		}
	}
	return p
}

// plainManyRows shows what the hooks and the driver are for: nothing else refuses to store one token in many rows. They open.
func plainManyRows(t *testing.T, env *environment) {
	t.Helper()
	env.seed(t)
	n, err := env.plainClient().UserCredential.Update().SetAPIKey(credent.NewSecret("new")).Save(t.Context())
	if err != nil || n != 3 {
		t.Fatalf("%d rows, %v", n, err)
	}
	for _, p := range env.tokens(t) {
		if got, err := env.ring.Decrypt(p.APIKey); err != nil || got != "new" {
			t.Errorf("stored as what opens to %q, %v", got, err)
		}
	}
}

// plainWithoutKey writes and reads without a key in the environment.
func plainWithoutKey(t *testing.T, env *environment) {
	ctx := t.Context()
	account, rows := env.seed(t)
	before := env.tokens(t)
	create := func(client *ent.Client) *ent.UserCredentialCreate {
		return client.UserCredential.Create().SetUserAccountID(account.ID).SetUserID("u1").SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("a")).SetSecretKey(credent.NewSecret("b"))
	}
	d := dialect.Postgres
	if env.isSQLite() {
		d = dialect.SQLite
	}
	for name, client := range map[string]*ent.Client{
		"plain":             env.plainClient(),
		"plain, debug":      env.plainClient().Debug(),
		"Credent's driver":  env.onPool(),
		"credent.NewClient": credent.NewClient(env.db, d),
	} {
		for path, write := range map[string]func() error{
			"Create":     func() error { return create(client).Exec(ctx) },
			"CreateBulk": func() error { return client.UserCredential.CreateBulk(create(client), create(client)).Exec(ctx) },
			"Update": func() error {
				return client.UserCredential.Update().Where(usercredential.ID(rows[0].ID)).SetAPIKey(credent.NewSecret("a")).Exec(ctx)
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
			if !errors.Is(err, credent.ErrNoKey) || !errors.As(err, &detail) || detail.Column != "api_key" {
				t.Errorf("%s, %s: got %v, want ErrNoKey of api_key", name, path, err)
			}
		}
		raw := client.UserCredential.UpdateOneID(rows[0].ID).
			Modify(func(u *entsql.UpdateBuilder) { u.Set("api_key", credent.NewSecret("a")) }).Exec(ctx)
		if raw == nil {
			t.Errorf("%s: a raw secret was taken", name)
		}
		for _, c := range client.UserCredential.Query().AllX(ctx) {
			if _, err := c.APIKey.Reveal(); !errors.Is(err, credent.ErrNoKey) {
				t.Errorf("%s: revealed with %v", name, err)
			}
		}
	}
	if _, err := credent.Open(ctx, env.url); !errors.Is(err, credent.ErrNoKey) {
		t.Errorf("Open: %v", err)
	}
	if after := env.tokens(t); len(after) != len(before) || after[rows[0].ID] != before[rows[0].ID] {
		t.Error("something was changed")
	}
}
