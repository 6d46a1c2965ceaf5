package states

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// withState is the option that gives both columns a state.
func withState(p states.Protection, s credent.State) testopt.Option {
	switch p {
	case states.Binding:
		return testopt.WithBinding(s)
	case states.TenantKeys:
		return testopt.WithTenantKeys(s)
	default:
		return testopt.WithEncryption(s)
	}
}

// takesPlaintext takes the CHECKs away. On SQLite that lasts as long as the
// pool's connection, so it leaves only one.
func takesPlaintext(t *testing.T, env *testdb.Env) {
	t.Helper()
	if env.IsSQLite() {
		env.DB.SetMaxOpenConns(1)
		env.Exec(t, "PRAGMA ignore_check_constraints = 1")
		return
	}
	for _, c := range []string{"api_key", "secret_key"} {
		env.Exec(t, "ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_"+c+"_encrypted")
	}
}

// kinds are ways to store an API key for u1, some of them wrong ones. A kind
// is stored by a client with its options, in a row of its user.
var kinds = map[string]struct {
	user string
	opts []testopt.Option
}{
	"plaintext":  {"u1", []testopt.Option{testopt.WithEncryption(credent.Accept)}},
	"token":      {"u1", nil},
	"bound":      {"u1", []testopt.Option{testopt.WithBinding(credent.Write)}},
	"tenant key": {"u1", []testopt.Option{testopt.WithTenantKeys(credent.Write)}},
	"bound, tenant key": {"u1", []testopt.Option{
		testopt.WithBinding(credent.Write),
		testopt.WithTenantKeys(credent.Write),
	}},
	"token of u2":      {"u2", nil},
	"bound of u2":      {"u2", []testopt.Option{testopt.WithBinding(credent.Write)}},
	"tenant key of u2": {"u2", []testopt.Option{testopt.WithTenantKeys(credent.Write)}},
	"bound, tenant key of u2": {"u2", []testopt.Option{
		testopt.WithBinding(credent.Write),
		testopt.WithTenantKeys(credent.Write),
	}},
}

// readable says which kinds a client opens in u1's row, and with what error it
// refuses the others. Accept and write read alike.
var readable = map[states.Protection]map[credent.State]map[string]error{
	states.Encryption: {
		credent.Off: {
			"plaintext": nil, "token": credent.ErrEncrypted, "bound": credent.ErrEncrypted,
			"tenant key": credent.ErrEncrypted,
		},
		credent.Accept: {
			"plaintext": nil, "token": nil, "token of u2": nil, "bound": credent.ErrUnknownKey,
			"tenant key": credent.ErrUnknownKey,
		},
		credent.Write: {"plaintext": nil, "token": nil, "token of u2": nil, "bound": credent.ErrUnknownKey},
		credent.Require: {
			"plaintext": credent.ErrNotEncrypted, "token": nil, "token of u2": nil,
			"bound": credent.ErrUnknownKey,
		},
	},
	states.Binding: {
		credent.Off: {
			"plaintext": credent.ErrNotEncrypted, "token": nil, "bound": credent.ErrUnknownKey,
			"bound of u2": credent.ErrUnknownKey,
		},
		credent.Accept: {
			"plaintext": credent.ErrNotEncrypted, "token": nil, "token of u2": nil, "bound": nil,
			"bound of u2": credent.ErrWrongLocation, "tenant key": credent.ErrWrongLocation,
		},
		credent.Write: {"token": nil, "token of u2": nil, "bound": nil, "bound of u2": credent.ErrWrongLocation},
		credent.Require: {
			"token": credent.ErrWrongLocation, "token of u2": credent.ErrWrongLocation, "bound": nil,
			"bound of u2": credent.ErrWrongLocation, "bound, tenant key": credent.ErrWrongLocation,
		},
	},
	states.TenantKeys: {
		credent.Off: {
			"token": nil, "token of u2": nil, "tenant key": credent.ErrUnknownKey,
			"tenant key of u2": credent.ErrUnknownKey,
		},
		credent.Accept: {
			"plaintext": credent.ErrNotEncrypted, "token": nil, "token of u2": nil, "tenant key": nil,
			"tenant key of u2": credent.ErrUnknownKey,
			"bound":            credent.ErrUnknownKey,
		},
		credent.Write: {"token": nil, "token of u2": nil, "tenant key": nil, "tenant key of u2": credent.ErrUnknownKey},
		// Case A10: a token under the keyring opens in no tenant's row.
		credent.Require: {
			"plaintext": credent.ErrNotEncrypted, "token": credent.ErrUnderKeyring,
			"token of u2": credent.ErrUnderKeyring, "tenant key": nil,
			"tenant key of u2": credent.ErrUnknownKey, "bound": credent.ErrUnknownKey,
		},
	},
}

// TestStatesRead stores each kind of value, and reads it in each state.
func TestStatesRead(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		takesPlaintext(t, env)
		ring := testopt.WithKeyring(env.Ring)
		accounts := map[string]*ent.UserAccount{"u1": env.Account(t, "u1"), "u2": env.Account(t, "u2")}
		stored := make(map[string]string)
		for name, kind := range kinds {
			env.Client = env.OnPool(append(kind.opts, ring)...)
			id := env.Credential(t, accounts[kind.user], "key", "secret").ID
			stored[name] = env.Tokens(t)[id].APIKey
		}
		env.Client = env.OnPool(ring)
		id := env.Credential(t, accounts["u1"], "key", "secret").ID
		for protection, inState := range readable {
			for state, wants := range inState {
				client := env.OnPool(ring, withState(protection, state))
				for kind, want := range wants {
					env.Exec(t, env.Placeholders("UPDATE user_credentials SET api_key = $1 WHERE id = $2"),
						stored[kind], id)
					text, err := client.UserCredential.GetX(ctx, id).APIKey.Reveal()
					if !errors.Is(err, want) || err == nil && text != "key" {
						t.Errorf("%s %s, %s: got %q, %v, want %v", protection, state, kind, text, err, want)
					}
					if err != nil && strings.Contains(err.Error(), stored[kind]) && kind != "plaintext" {
						t.Errorf("%s %s, %s: the error quotes the token", protection, state, kind)
					}
				}
			}
		}
		// All at once.
		client := env.OnPool(ring, testopt.WithBinding(credent.Require), testopt.WithTenantKeys(credent.Require))
		for kind, want := range map[string]error{
			"bound, tenant key": nil, "bound": credent.ErrUnderKeyring, "tenant key": credent.ErrWrongLocation,
			"token": credent.ErrWrongLocation, "bound, tenant key of u2": credent.ErrWrongLocation,
		} {
			env.Exec(t, env.Placeholders("UPDATE user_credentials SET api_key = $1 WHERE id = $2"), stored[kind], id)
			if _, err := client.UserCredential.GetX(ctx, id).APIKey.Reveal(); !errors.Is(err, want) {
				t.Errorf("both required, %s: got %v, want %v", kind, err, want)
			}
		}
	})
}

// writes are the ways in which the client stores an API key for u1.
func writesOf(ctx context.Context, env *testdb.Env, client *ent.Client, account *ent.UserAccount,
	opts []testopt.Option,
) map[string]func() error {
	secret := credent.NewSecret
	create := func() *ent.UserCredentialCreate {
		return client.UserCredential.Create().SetAccount(account).SetUserID(account.UserID).SetCredentialType("alpaca").
			SetAPIKey(secret("key")).SetSecretKey(secret("secret"))
	}
	anID := func() uuid.UUID { return client.UserCredential.Query().FirstIDX(ctx) }
	return map[string]func() error{
		"create": func() error { return create().Exec(ctx) },
		"bulk":   func() error { return client.UserCredential.CreateBulk(create(), create()).Exec(ctx) },
		"update": func() error {
			id := create().SaveX(ctx).ID
			return client.UserCredential.UpdateOneID(id).SetAPIKey(secret("another")).
				SetSecretKey(secret("secret")).Exec(ctx)
		},
		"upsert": func() error {
			id := create().SaveX(ctx).ID
			return create().SetID(id).OnConflictColumns("id").UpdateNewValues().Exec(ctx)
		},
		"raw SQL": func() error {
			create().ExecX(ctx)
			query := "UPDATE user_credentials SET api_key = $1, api_key_index = $2, secret_key = $3 WHERE id = $4"
			if env.IsSQLite() {
				query = strings.NewReplacer("$1", "?", "$2", "?", "$3", "?", "$4", "?").Replace(query)
			}
			_, err := client.ExecContext(ctx, query, encrypted.At(secret("raw"), usercredential.APIKeyColumn, "u1"),
				encrypted.DigestOf(secret("raw"), usercredential.APIKeyColumn, nil),
				encrypted.At(secret("raw"), usercredential.SecretKeyColumn, "u1"), anID())
			return err
		},
		"copy": func() error {
			_, err := testopt.Copy(ctx, env.DB,
				iter.Seq2[credent.CopyRow, error](func(yield func(credent.CopyRow, error) bool) {
					yield(credent.CopyRow{
						UserID: "u1", CredentialType: "alpaca", APIKey: secret("key"),
						SecretKey: secret("secret"),
					}, nil)
				}), credent.CopyConfig{}, opts...)
			return err
		},
	}
}

// TestStatesWrite has what each way of writing stores in each state.
func TestStatesWrite(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		takesPlaintext(t, env)
		account := env.Account(t, "u1")
		for _, protection := range states.Protections {
			for _, state := range []credent.State{credent.Off, credent.Accept, credent.Write, credent.Require} {
				opts := []testopt.Option{testopt.WithKeyring(env.Ring), withState(protection, state)}
				client := env.OnPool(opts...)
				for name, write := range writesOf(ctx, env, client, account, opts) {
					env.Client.UserCredential.Delete().ExecX(ctx)
					if err := write(); err != nil {
						t.Errorf("%s %s, %s: %v", protection, state, name, err)
						continue
					}
					c := testdb.Must(rotate.Verify(ctx, env.DB, env.Ring, usercredential.SecretKeyColumn))[0]
					isNew := map[states.Protection]int64{
						states.Encryption: c.Rows - c.NotEncrypted, states.Binding: c.Bound,
						states.TenantKeys: c.Tenant,
					}[protection]
					want := int64(0)
					if state >= credent.Write {
						want = c.Rows
					}
					if c.Rows == 0 || isNew != want {
						t.Errorf("%s %s, %s: %d of %d the new way, want %d", protection, state, name,
							isNew, c.Rows, want)
					}
					for _, row := range client.UserCredential.Query().AllX(ctx) {
						if apiKey := testdb.Reveal(t, row.APIKey); apiKey == "" {
							t.Errorf("%s %s, %s: it doesn't read what it wrote", protection, state, name)
						}
					}
					if n := client.UserCredential.Query().Where(usercredential.APIKeyIs(credent.NewSecret("key"))).
						CountX(ctx); name == "create" && n != 1 {
						t.Errorf("%s %s, %s: a lookup finds %d rows", protection, state, name, n)
					}
				}
			}
		}
		// A plaintext that looks like a token would be taken for one.
		client := env.OnPool(testopt.WithKeyring(env.Ring), testopt.WithEncryption(credent.Off))
		for text, want := range map[string]error{
			"gAAAA-plaintext": credent.ErrLooksLikeToken,
			"a\x00b":          credent.ErrNotText, keyring.GenerateKey(): nil,
		} {
			err := client.UserCredential.Create().SetAccount(account).SetUserID("u1").SetCredentialType("alpaca").
				SetAPIKey(credent.NewSecret(text)).SetSecretKey(credent.NewSecret("secret")).Exec(ctx)
			if !errors.Is(err, want) || err != nil && strings.Contains(err.Error(), text) {
				t.Errorf("%q: got %v, want %v", text, err, want)
			}
		}
	})
}

// TestStatesContradict has states that don't go together, or with the schema.
func TestStatesContradict(t *testing.T) {
	t.Parallel()
	ring := testopt.WithKeyring(testdb.Keyring(t, keyring.GenerateKey()))
	apiKey, secretKey := usercredential.APIKeyColumn, usercredential.SecretKeyColumn
	unknown := encrypted.Column{Table: "user_credentials", Name: "user_id"}
	for name, test := range map[string]struct {
		opts []testopt.Option
		want error
		text string
	}{
		"none": {nil, nil, ""},
		"twice the same": {[]testopt.Option{
			testopt.WithBinding(credent.Write),
			testopt.WithBinding(credent.Write, apiKey),
		}, nil, ""},
		"twice otherwise": {[]testopt.Option{
			testopt.WithBinding(credent.Write),
			testopt.WithBinding(credent.Require, apiKey),
		}, credent.ErrInvalidStates, "as write and as require"},
		"two columns": {[]testopt.Option{
			testopt.WithBinding(credent.Write, secretKey),
			testopt.WithBinding(credent.Require, apiKey),
		}, nil, ""},
		"bound plaintext": {[]testopt.Option{
			testopt.WithEncryption(credent.Accept),
			testopt.WithBinding(credent.Accept),
		}, credent.ErrInvalidStates, "encryption is accept"},
		"plaintext of tenants": {[]testopt.Option{
			testopt.WithTenantKeys(credent.Write, apiKey),
			testopt.WithEncryption(credent.Off, apiKey),
		}, credent.ErrInvalidStates, "tenant-keys is write"},
		"plaintext of another": {[]testopt.Option{
			testopt.WithTenantKeys(credent.Write, apiKey),
			testopt.WithEncryption(credent.Off, secretKey),
		}, nil, ""},
		"bound while it is encypted": {[]testopt.Option{
			testopt.WithEncryption(credent.Write),
			testopt.WithBinding(credent.Accept),
		}, nil, ""},
		"no column": {
			[]testopt.Option{testopt.WithBinding(credent.Off, unknown)},
			credent.ErrNoColumn,
			"user_credentials.user_id",
		},
		"no state":    {[]testopt.Option{testopt.WithBinding(credent.State(7))}, credent.ErrInvalidStates, "no state"},
		"the default": {[]testopt.Option{testopt.WithBinding(credent.State(0))}, nil, ""},
	} {
		url := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
		client, err := testopt.Open(t.Context(), url, append(test.opts, ring, testopt.WithMigrations())...)
		if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
		if client != nil {
			testdb.CloseAll(t, client)
		}
		_, err = testopt.NewClient(testdb.OpenDB(t, url), "sqlite3", append(test.opts, ring)...)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: NewClient: got %v, want %v", name, err, test.want)
		}
	}
}

// set brings a state of both columns into the database, and makes it old enough
// for the next.
func setState(t *testing.T, env *testdb.Env, p states.Protection, s credent.State) {
	t.Helper()
	for _, c := range []encrypted.Column{usercredential.APIKeyColumn, usercredential.SecretKeyColumn} {
		if _, err := rotate.SetState(t.Context(), env.DB, env.Ring, rotate.StateChange{
			Column: c, Protection: p, To: s,
			InUse: true,
		}); err != nil {
			t.Fatal(err)
		}
	}
	agedStates(t, env)
}

func agedStates(t *testing.T, env *testdb.Env) {
	t.Helper()
	if env.IsSQLite() {
		env.Exec(t, "UPDATE credent_states SET changed_at = datetime(changed_at, '-10 minutes')")
		return
	}
	env.Exec(t, "UPDATE credent_states SET changed_at = changed_at - interval '10 minutes'")
}

// TestServicesCannotDisagree has services with another configuration than the
// database's: they don't start, and a client that is made without a context
// refuses each statement.
func TestServicesCannotDisagree(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		ring := testopt.WithKeyring(env.Ring)
		setState(t, env, states.Binding, credent.Write)
		for name, test := range map[string]struct {
			opts []testopt.Option
			want error
		}{
			"silent": {nil, nil}, "the same": {[]testopt.Option{testopt.WithBinding(credent.Write)}, nil},
			"another protection": {[]testopt.Option{testopt.WithTenantKeys(credent.Write)}, nil},
			"the step before":    {[]testopt.Option{testopt.WithBinding(credent.Accept)}, credent.ErrStateMismatch},
			"of one column": {[]testopt.Option{testopt.WithBinding(credent.Require,
				usercredential.SecretKeyColumn)}, credent.ErrStateMismatch},
			"off":           {[]testopt.Option{testopt.WithBinding(credent.Off)}, credent.ErrStateMismatch},
			"contradiction": {[]testopt.Option{testopt.WithEncryption(credent.Accept)}, credent.ErrInvalidStates},
		} {
			client := env.OnPool(append(test.opts, ring)...)
			_, err := client.UserAccount.Query().Count(ctx)
			if !errors.Is(err, test.want) {
				t.Errorf("%s: got %v, want %v", name, err, test.want)
			}
			if errors.Is(test.want, credent.ErrStateMismatch) &&
				!strings.Contains(err.Error(), "in the service, and write in the database") {
				t.Errorf("%s: the error lacks the values: %v", name, err)
			}
			if _, err := client.UserAccount.Create().SetUserID(name).SetAccountName("x").
				Save(ctx); !errors.Is(err, test.want) {
				t.Errorf("%s: a write: got %v, want %v", name, err, test.want)
			}
			if env.Driver == "mattn" {
				continue // which testopt.Open doesn't know
			}
			opened, err := testopt.Open(ctx, env.URL, append(append(test.opts, ring), env.Opts...)...)
			if !errors.Is(err, test.want) {
				t.Errorf("%s: Open: got %v, want %v", name, err, test.want)
			}
			if opened != nil {
				testdb.CloseAll(t, opened)
			}
		}
		// So is a Copy, and Check that doesn't look through a client.
		copied := func(opts ...testopt.Option) error {
			_, err := testopt.Copy(ctx, env.DB, func(yield func(credent.CopyRow, error) bool) {
				yield(credent.CopyRow{
					UserID: "silent", CredentialType: "x", APIKey: credent.NewSecret("k"),
					SecretKey: credent.NewSecret("s"),
				}, nil)
			}, credent.CopyConfig{}, append(opts, ring)...)
			return err
		}
		if err := copied(testopt.WithBinding(credent.Require)); !errors.Is(err, credent.ErrStateMismatch) {
			t.Errorf("copy: got %v", err)
		}
		if err := copied(); err != nil {
			t.Error(err)
		}
		if counts := testdb.Must(rotate.Verify(ctx, env.DB, env.Ring)); counts[0].Bound != 1 {
			t.Errorf("copied: got %+v", counts[0])
		}
		env.Exec(t, "DELETE FROM user_credentials")
		// What the database says is what a silent service does.
		env.Client = env.OnPool(ring)
		env.Credential(t, env.Account(t, "u1"), "key", "secret")
		if counts := testdb.Must(rotate.Verify(ctx, env.DB,
			env.Ring)); counts[0].Bound != 1 || counts[0].States.Binding != credent.Write {
			t.Errorf("got %+v", counts[0])
		}
	})
}

// TestCheckRequires has tokens of the old way, which Check takes for unreadable
// once the new way is required.
func TestCheckRequires(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		env.Credential(t, env.Account(t, "u1"), "key", "secret")
		columns := []encrypted.Column{usercredential.APIKeyColumn, usercredential.SecretKeyColumn}
		for p, want := range map[states.Protection]error{
			states.Binding:    credent.ErrWrongLocation,
			states.TenantKeys: credent.ErrUnderKeyring,
		} {
			env.Exec(t, "DELETE FROM credent_states")
			for _, state := range []credent.State{credent.Accept, credent.Write, credent.Require} {
				env.Exec(t, "DELETE FROM credent_states")
				for _, c := range columns {
					env.Exec(t, fmt.Sprintf("INSERT INTO credent_states (column_name, protection, state) VALUES "+
						"('%s', '%s', '%s')", c, p, state))
				}
				wants := want
				if state != credent.Require {
					wants = nil
				}
				if err := encrypted.Check(ctx, env.DB, env.Ring, columns...); !errors.Is(err, wants) {
					t.Errorf("%s %s: got %v, want %v", p, state, err, wants)
				}
				if err := credent.Check(ctx, env.OnPool(testopt.WithKeyring(env.Ring))); !errors.Is(err, wants) {
					t.Errorf("%s %s: a client: got %v, want %v", p, state, err, wants)
				}
			}
		}
	})
}

// TestStatesOfServices has services that connect as members of credent_app:
// they follow the states, and can't change them.
func TestStatesOfServices(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		ctx := testdb.As(t, "u1")
		setState(t, s.Env, states.Binding, credent.Write)
		app := testdb.Open(t, s.ServiceURL, s.Opts...)
		id := s.Credentials["u1"][0].ID
		if err := app.UserCredential.UpdateOneID(id).SetAPIKey(credent.NewSecret("new")).
			SetSecretKey(credent.NewSecret("new")).Exec(ctx); err != nil {
			t.Fatal(err)
		}
		if _, bound, _ := s.AtPlace(t); bound != 2 {
			t.Errorf("%d are bound", bound)
		}
		for _, query := range []string{
			"UPDATE credent_states SET state = 'off'", "DELETE FROM credent_states",
			"INSERT INTO credent_states (column_name, protection, state) VALUES ('x', 'binding', 'off')",
		} {
			if _, err := app.ExecContext(ctx, query); err == nil ||
				!strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%s: %v", query, err)
			}
		}
	})
}

// TestSetState has the changes that are refused.
func TestSetState(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		c := usercredential.SecretKeyColumn
		set := func(p states.Protection, s credent.State) error {
			_, err := rotate.SetState(ctx, env.DB, env.Ring, rotate.StateChange{Column: c, Protection: p, To: s})
			return err
		}
		check := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: got %v, want %v", what, err, want)
			}
		}
		env.Credential(t, env.Account(t, "u1"), "key", "secret")
		env.Credential(t, env.Account(t, "u2"), "key", "secret")
		for _, p := range []states.Protection{states.Binding, states.TenantKeys} {
			check("two steps", set(p, credent.Write), rotate.ErrState)
			check("unset", set(p, states.Unset), rotate.ErrState)
			check("first", set(p, credent.Accept), nil)
			check("again", set(p, credent.Accept), nil)
			check("at once", set(p, credent.Write), rotate.ErrState)
			agedStates(t, env)
			check("plaintext", set(states.Encryption, credent.Accept), credent.ErrInvalidStates)
			check("write", set(p, credent.Write), nil)
			agedStates(t, env)
			check("require", set(p, credent.Require), rotate.ErrState)
			if _, err := rotate.Run(ctx, env.DB, env.Ring, rotate.Config{}); err != nil {
				t.Fatal(err)
			}
			check("require, done", set(p, credent.Require), nil)
			if err := testdb.Must(rotate.Verify(ctx, env.DB, env.Ring)).Err(); err != nil {
				t.Errorf("%s: %v", p, err)
			}
			agedStates(t, env)
		}
		// A token of the old way, under require: nobody wrote it, so that it is
		// counted, and not made a good one.
		env.Exec(t, env.Placeholders("UPDATE user_credentials SET secret_key = $1 WHERE user_id = 'u1'"),
			testdb.Must(env.Ring.Encrypt("planted")))
		err := testdb.Must(rotate.Verify(ctx, env.DB, env.Ring)).Err()
		check("verify", err, rotate.ErrUnbound)
		report, err := rotate.Run(ctx, env.DB, env.Ring, rotate.Config{})
		check("rotate", err, rotate.ErrQuarantined)
		if report.Tables[0].Quarantined != 1 {
			t.Errorf("got %+v", report)
		}
		env.Client.UserCredential.Delete().Where(usercredential.UserID("u1")).ExecX(ctx)
		for _, p := range []states.Protection{states.Binding, states.TenantKeys} {
			check("down two", set(p, credent.Accept), rotate.ErrState)
			check("down", set(p, credent.Write), nil)
			agedStates(t, env)
			check("down again", set(p, credent.Accept), nil)
			agedStates(t, env)
			check("off", set(p, credent.Off), rotate.ErrState)
			if _, err := rotate.Run(ctx, env.DB, env.Ring, rotate.Config{}); err != nil {
				t.Fatal(err)
			}
			check("off, done", set(p, credent.Off), nil)
		}
		if counts := testdb.Must(rotate.Verify(ctx, env.DB,
			env.Ring)); counts.Err() != nil || counts[1].Bound != 0 || counts[1].Tenant != 0 {
			t.Errorf("back: %+v, %v", counts, counts.Err())
		}
		check("encryption", set(states.Encryption, credent.Write), nil)
		agedStates(t, env)
		var refused *rotate.SchemaError
		if err := set(states.Encryption, credent.Accept); !errors.As(err, &refused) {
			t.Errorf("plaintext beside a CHECK: %v", err)
		}
		env.Exec(t, "DELETE FROM credent_states WHERE protection = 'encryption'")
		if list := testdb.Must(rotate.States(ctx,
			env.DB)); len(list) != 2 || list[0].State != credent.Off || list[1].Protection != states.TenantKeys {
			t.Errorf("got %+v", list)
		}
	})
}

// TestSetStateWaits has a transaction that began in the state before: what it
// wrote can't be seen yet, and counts.
func TestSetStateWaits(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		id := env.Credential(t, env.Account(t, "u1"), "key", "secret").ID
		setState(t, env, states.Binding, credent.Write)
		if _, err := rotate.Run(ctx, env.DB, env.Ring, rotate.Config{}); err != nil {
			t.Fatal(err)
		}
		tx := testdb.Must(env.DB.BeginTx(ctx, nil))
		if _, err := tx.ExecContext(ctx, "UPDATE user_credentials SET api_key = $1 WHERE id = $2",
			testdb.Must(env.Ring.Encrypt("late")), id); err != nil {
			t.Fatal(err)
		}
		require := func(ctx context.Context) error {
			_, err := rotate.SetState(ctx, env.DB, env.Ring, rotate.StateChange{
				Column: usercredential.APIKeyColumn, Protection: rotate.Binding, To: credent.Require,
			})
			return err
		}
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		if err := require(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while it is open: got %v", err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := require(ctx); !errors.Is(err, rotate.ErrUnbound) {
			t.Errorf("once it has ended: got %v", err)
		}
	})
}

// TestMovesBySQL has changes of a user_id that others than the client make,
// while tokens depend on it. Each is refused, or the tokens open afterwards.
func TestMovesBySQL(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		for _, p := range []states.Protection{states.Binding, states.TenantKeys} {
			testMovesBySQL(t, env, p)
		}
	})
}

func testMovesBySQL(t *testing.T, env *testdb.Env, p states.Protection) {
	t.Helper()
	ctx := t.Context()
	ring := testopt.WithKeyring(env.Ring)
	env.Exec(t, "DELETE FROM credent_states")
	env.Client = env.OnPool(ring)
	account, _ := env.Seed(t)
	const move = "UPDATE user_accounts SET user_id = 'another' WHERE user_id = 'u1'"
	env.Exec(t, move)
	env.Exec(t, "UPDATE user_accounts SET user_id = 'u1' WHERE user_id = 'another'")
	for _, s := range []credent.State{credent.Accept, credent.Write, credent.Require} {
		if s == credent.Require {
			if _, err := rotate.Run(ctx, env.DB, env.Ring, rotate.Config{}); err != nil {
				t.Fatal(err)
			}
		}
		setState(t, env, p, s)
		client := env.OnPool(ring)
		before := env.Tokens(t)
		for name, run := range map[string]func() error{
			"raw SQL":              func() error { _, err := env.DB.ExecContext(ctx, move); return err },
			"the client's own SQL": func() error { _, err := client.ExecContext(ctx, move); return err },
			"Python": func() error {
				cmd := exec.CommandContext(ctx, testdb.Python(), "-c", pythonMoves, pythonURL(env), "u1", "another")
				cmd.Env = append(os.Environ(), "ENCRYPTION_KEY="+env.Key)
				out, err := cmd.CombinedOutput()
				if err != nil && !bytes.Contains(out, []byte("would be left behind")) {
					t.Errorf("Python: %v\n%s", err, out)
				}
				return err
			},
		} {
			if err := run(); err == nil {
				t.Errorf("%s %s: %s is accepted", p, s, name)
			}
		}
		if len(env.Tokens(t)) != 3 || fmt.Sprint(env.Tokens(t)) != fmt.Sprint(before) {
			t.Errorf("%s %s: something was changed", p, s)
		}
		// The client moves accounts, there and back.
		for _, user := range []string{"another", "u1"} {
			tx := testdb.Must(client.Tx(ctx))
			if err := tx.UserAccount.UpdateOneID(account.ID).SetUserID(user).Exec(ctx); err != nil {
				t.Fatalf("%s %s: %v", p, s, err)
			}
			if err := tx.Commit(); err != nil {
				t.Fatalf("%s %s: %v", p, s, err)
			}
			for _, c := range client.UserCredential.Query().AllX(ctx) {
				if c.UserID != user || !strings.HasPrefix(testdb.Reveal(t, c.APIKey), "api") ||
					!strings.HasPrefix(testdb.Reveal(t, c.SecretKey), "secret") {
					t.Errorf("%s %s: got %v", p, s, c)
				}
			}
			if n := client.UserCredential.Query().Where(usercredential.APIKeyIs(fieldcrypt.New("api1"))).
				CountX(ctx); n != 1 {
				t.Errorf("%s %s: a lookup finds %d rows", p, s, n)
			}
		}
		// Whoever stores the tokens again, in one transaction, may move them.
		if !env.IsSQLite() {
			tx := testdb.Must(env.DB.BeginTx(ctx, nil))
			for _, query := range []string{move, "UPDATE user_credentials SET api_key = 'gAAAA1' || id, secret_key = " +
				"'gAAAA2' || id"} {
				if _, err := tx.ExecContext(ctx, query); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := tx.ExecContext(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
				t.Errorf("%s %s: with other tokens: %v", p, s, err)
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// pythonMoves gives an account another user_id by the models of the Python
// application.
const pythonMoves = `
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, "../twin")
from models import UserAccount
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

url, old, new = sys.argv[1:]
with Session(create_engine(url)) as session:
    account = session.query(UserAccount).filter_by(user_id=old).one()
    account.user_id = new
    session.commit()
`

// pythonURL is the database's URL for SQLAlchemy.
func pythonURL(env *testdb.Env) string {
	if env.IsSQLite() {
		file, _, _ := strings.Cut(strings.TrimPrefix(env.URL, "sqlite:"), "?")
		return "sqlite:///" + file
	}
	return strings.Replace(env.URL, "postgres://", "postgresql://", 1)
}
