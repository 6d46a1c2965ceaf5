package trail

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/credenttest"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

// A database that requires a trail keeps clients without one from writing and
// revealing, and the functions on rows as well.
func TestTrailRequired(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		_ = w.seed(t)
		if _, err := rotate.SetTrail(t.Context(), env.DB, true); !errors.Is(err, rotate.ErrTrailRequired) {
			t.Errorf("without a trail: got %v", err)
		}
		ctx := rotate.WithTrail(as(t), w.trail)
		if before, err := rotate.SetTrail(ctx, env.DB, true); err != nil || before {
			t.Fatal(before, err)
		}
		w.want(t, "switched on",
			audit.Entry{Action: audit.ActionState, Table: "credent_audit", Note: "the trail is required: on"})

		client, err := credent.NewClient(env.Pool(t), env.Dialect(), credent.Config{Keyring: env.Ring})
		if err != nil {
			t.Fatal(err)
		}
		row, err := client.UserCredential.Query().Only(as(t))
		if err != nil {
			t.Fatal(err)
		}
		plaintext, revealed := row.APIKey.Reveal()
		_, created := client.UserAccount.Create().SetUserID("u-2").SetAccountName("x").Save(as(t))
		_, removed := client.UserCredential.Delete().Exec(as(t))
		_, copied := credent.Copy(as(t), env.DB, testdb.Sequence(testdb.CopyRows(1, "u-1")...), credent.CopyConfig{},
			credent.Config{Keyring: env.Ring})
		_, rotated := rotate.Run(as(t), env.DB, env.Ring, rotate.Config{})
		_, destroyed := rotate.DestroyTenant(as(t), env.DB, env.Ring, "u-1")
		for name, err := range map[string]error{
			"reveal": revealed, "create": created, "delete": removed, "copy": copied, "rotate": rotated,
			"destroy": destroyed, "migrate": migrate.Apply(as(t), env.DB, migrate.Config{}),
		} {
			if !errors.Is(err, encrypted.ErrTrailRequired) {
				t.Errorf("%s: got %v, want ErrTrailRequired", name, err)
			}
		}
		if plaintext != "" {
			t.Error("the plaintext was revealed")
		}
		w.want(t, "nothing was done")
		if err := migrate.Apply(as(t), env.DB, migrate.Config{Trail: w.trail}); err != nil {
			t.Errorf("migrate with the trail: %v", err)
		}

		if before, err := rotate.SetTrail(ctx, env.DB, false); err != nil || !before {
			t.Fatal(before, err)
		}
		w.want(t, "switched off",
			audit.Entry{Action: audit.ActionState, Table: "credent_audit", Note: "the trail is required: off"})
	})
}

// Open fails on a database that requires a trail, when the service starts.
func TestOpenWithoutRequiredTrail(t *testing.T) {
	t.Parallel()
	env := testdb.New(t)
	w := newWorld(t, env, credent.Config{})
	if _, err := rotate.SetTrail(rotate.WithTrail(as(t), w.trail), env.DB, true); err != nil {
		t.Fatal(err)
	}
	if _, err := credent.Open(t.Context(), env.URL, credent.Config{Keyring: env.Ring}); !errors.Is(err,
		encrypted.ErrTrailRequired) {
		t.Errorf("got %v, want ErrTrailRequired", err)
	}
	client, err := credent.Open(t.Context(), env.URL, credent.Config{Keyring: env.Ring, Trail: w.trail})
	if err != nil {
		t.Fatal(err)
	}
	testdb.CloseAll(t, client)
}

// A member of credent_app has its user's trail under row-level security.
func TestTrailOfServiceRole(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		account := env.Account(t, "u-1")
		_ = env.Account(t, "u-2")
		app := *env
		app.URL = credenttest.AppURL(t, env.URL)
		w := &world{Env: env, trail: openTrail(t, &app, audit.Config{}), seen: make(map[string]bool)}
		client, err := credent.NewClient(app.Pool(t), app.Dialect(), credent.Config{
			Keyring: env.Ring, Trail: w.trail, RequireRowSecurity: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx := audit.WithRequestID(credent.WithUser(t.Context(), "u-1"), "request-1")
		row, err := w.create(client, account, "key").Save(ctx)
		if err != nil {
			t.Fatal(err)
		}
		read, err := client.UserCredential.Query().Only(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = testdb.Reveal(t, read.APIKey)
		if n, err := client.UserAccount.Update().SetAccountName("new").Save(ctx); err != nil || n != 1 {
			t.Fatal(n, err) // the user's entries only
		}
		reveal := revealOf(row, "api_key")
		reveal.Actor = "u-1"
		w.want(t, "a user", reveal,
			audit.Entry{
				Action: audit.ActionCreate, Table: credentials, Row: row.ID.String(), Tenant: "u-1", KeyID: "key",
				Note: credentialFields, Actor: "u-1",
			},
			audit.Entry{
				Action: audit.ActionUpdate, Table: accounts, Row: account.ID.String(), Tenant: "u-1",
				Note: "account_name,updated_at", Actor: "u-1",
			})
	})
}

// Copies, rotations, destroyed keys, states and migrations record their own
// entries, because ent doesn't run them.
func TestTrailOfFunctions(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		w := newWorld(t, env, credent.Config{})
		_ = env.Account(t, "u-1")
		ctx := rotate.WithTrail(as(t), w.trail)
		n, err := credent.Copy(ctx, env.DB, testdb.Sequence(testdb.CopyRows(5, "u-1")...), credent.CopyConfig{Batch: 3},
			credent.Config{Keyring: env.Ring, Trail: w.trail})
		if err != nil || n != 5 {
			t.Fatal(n, err)
		}
		imported := audit.Entry{Action: audit.ActionImport, Table: credentials, Rows: 3, Note: "credent.Copy"}
		last := imported
		last.Rows = 2
		w.want(t, "copy", imported, last)

		if _, err := rotate.Run(ctx, env.DB, env.Ring, rotate.Config{}); err != nil {
			t.Fatal(err)
		}
		all := w.entries(t)
		if len(all) < 2 || !strings.HasPrefix(all[0].Note, "rotate begins: ") ||
			!strings.Contains(all[1].Note, "rotate ends: 5 rows read") || all[0].KeyID != env.Ring.Primary().ID() {
			t.Errorf("rotate: got %+v", all)
		}
		if _, err := rotate.DestroyTenant(ctx, env.DB, env.Ring, "u-1"); err != nil {
			t.Fatal(err)
		}
		w.want(t, "destroy", audit.Entry{
			Action: audit.ActionDestroy, Table: "credent_tenant_keys", Row: "u-1", Tenant: "u-1", Rows: 5,
			Note: "10 secrets, 10 of them overwritten",
		})
	})
}

// The command records in the trail that the database requires.
func TestTrailOfCommand(t *testing.T) {
	t.Parallel()
	for _, env := range []*testdb.Env{testdb.New(t), testdb.NewSQLite(t, "modernc")} {
		run := func(args ...string) string {
			t.Helper()
			out, err := env.Command(args...).Output()
			if err != nil {
				t.Fatalf("%v: %v", args, err)
			}
			return strings.TrimSpace(string(out))
		}
		seen := make(map[uuid.UUID]bool)
		told := func(what string, want ...string) {
			t.Helper()
			var got []string
			for _, e := range stored(t, env.DB) {
				if !seen[e.ID] {
					seen[e.ID] = true
					got = append(got, fmt.Sprintf("%s %s %d %s", e.Action, e.Table, e.Rows, e.Note))
					if !strings.HasPrefix(e.Actor, "command:") {
						t.Errorf("%s: the actor is %q", what, e.Actor)
					}
				}
			}
			if len(got) != len(want) {
				t.Errorf("%s: got %q, want %q", what, got, want)
				return
			}
			for i := range want {
				if !strings.HasPrefix(got[i], want[i]) {
					t.Errorf("%s: got %q, want %q…", what, got[i], want[i])
				}
			}
		}
		run("audit", "on")
		told("audit on", "state credent_audit 1 the trail is required: on")
		run("account", "add", "--user", "u-1", "--name", "Ada")
		told("account add", "create user_accounts 1 account_name")
		file := filepath.Join(t.TempDir(), "rows.csv")
		if err := os.WriteFile(file, []byte("user_id,credential_type,api_key,secret_key\nu-1,alpaca,k,s\n"),
			0o600); err != nil {
			t.Fatal(err)
		}
		run("credential", "import", file)
		told("import", "import user_credentials 1 credent.Copy")
		if out := run("credential", "export", "--reveal"); !strings.Contains(out, ",k,s,") {
			t.Errorf("export: %s", out)
		}
		told("export --reveal", "export user_credentials 1 export begins, --reveal",
			"export user_credentials 1 export ends, --reveal")
		run("credential", "export")
		told("export", "export user_credentials 1 export begins, secrets redacted",
			"export user_credentials 1 export ends, secrets redacted")
		run("rotate")
		told("rotate", "rotate  1 rotate begins: ", "rotate user_credentials ")
		run("state", "set", "user_credentials.secret_key", "binding", "write", "--in-use")
		told("state set", "state user_credentials 1 ")
		run("account", "move", "u-1", "--user", "u-3")
		told("account move", "move user_accounts 1 updated_at,user_id; from the tenant u-1",
			"move user_credentials 1 user_id; from the tenant u-1")
		run("account", "move", "u-3", "--user", "u-1")
		told("account move", "move user_accounts 1 ", "move user_credentials 1 ")
		run("account", "remove", "u-1")
		told("remove", "delete user_credentials 1", "delete user_accounts 1")
		command := env.Command("account", "add", "--user", "u-2", "--name", "x")
		command.Env = append(command.Env, "ENCRYPTION_KEY=")
		var out bytes.Buffer
		command.Stderr = &out
		if err := command.Run(); err == nil || !strings.Contains(out.String(), "ENCRYPTION_KEY signs its entries") {
			t.Errorf("without a key: %v, %s", err, &out)
		}
		run("audit", "off")
		told("audit off", "state credent_audit 1 the trail is required: off")
	}
}
