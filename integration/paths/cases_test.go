package paths

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// TestNumberedParametersOfSQLite has SQL with $1, which the SQLite drivers
// count differently: with secrets it is refused and changes nothing, and with ?
// instead each secret is stored in its own column.
func TestNumberedParametersOfSQLite(t *testing.T) {
	t.Parallel()
	testdb.ForEachSQLite(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		at := func(s string, c encrypted.Column) any { return encrypted.At(credent.NewSecret(s), c, "u1") }
		key, secret := usercredential.APIKeyColumn, usercredential.SecretKeyColumn
		digest := func(s string) any { return encrypted.DigestOf(credent.NewSecret(s), key, nil) }
		account, rows := env.Seed(t)
		ids := []uuid.UUID{uuid.New(), uuid.New()}
		for name, test := range map[string]struct {
			query string
			args  []any
			want  map[uuid.UUID]testdb.Pair
		}{
			"update": {
				"UPDATE user_credentials SET secret_key = $1 WHERE id = $2",
				[]any{at("new", secret), rows[0].ID},
				map[uuid.UUID]testdb.Pair{rows[0].ID: {APIKey: "api0", SecretKey: "new"}},
			},
			"update of an indexed column": {
				"UPDATE user_credentials SET api_key = $1, api_key_index = $2 WHERE id = $3",
				[]any{at("new", key), digest("new"), rows[1].ID},
				map[uuid.UUID]testdb.Pair{rows[1].ID: {APIKey: "new", SecretKey: "secret1"}},
			},
			"insert of two rows": {
				"INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, secret_key, " +
					"api_key_index) VALUES ($1, $2, 'u1', 'alpaca', $3, $4, $5), ($6, $7, 'u1', 'alpaca', $8, $9, $10)",
				[]any{
					ids[0], account.ID, at("a", key), at("b", secret), digest("a"),
					ids[1], account.ID, at("c", key), at("d", secret), digest("c"),
				},
				map[uuid.UUID]testdb.Pair{ids[0]: {APIKey: "a", SecretKey: "b"}, ids[1]: {APIKey: "c", SecretKey: "d"}},
			},
		} {
			before := env.Tokens(t)
			_, err := env.Client.ExecContext(ctx, test.query, test.args...)
			if detail := new(credent.Error); !errors.As(err, &detail) ||
				!strings.Contains(err.Error(), "use ? for arguments") {
				t.Errorf("%s, numbered: %v", name, err)
			}
			rows, err := env.Client.QueryContext(ctx, test.query+" RETURNING id", test.args...) //nolint:sqlclosecheck // by closeAll
			if err == nil {
				testdb.CloseAll(t, rows)
				err = rows.Err()
			}
			if err == nil {
				t.Errorf("%s, numbered: a query was accepted", name)
			}
			if after := env.Tokens(t); fmt.Sprint(before) != fmt.Sprint(after) {
				t.Errorf("%s, numbered: something was changed", name)
			}
			query := test.query
			for i := len(test.args); i > 0; i-- {
				query = strings.ReplaceAll(query, fmt.Sprint("$", i), "?")
			}
			if _, err := env.Client.ExecContext(ctx, query, test.args...); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			stored := testdb.Opened(t, env.Ring, env.Tokens(t))
			for id, want := range test.want {
				if stored[id] != want {
					t.Errorf("%s: stored %v, want %v", name, stored[id], want)
				}
			}
			env.CheckIndex(t, env.Ring)
			env.CheckFound(t, test.want)
		}
		// Other arguments don't matter.
		result, err := env.Client.ExecContext(ctx, "UPDATE user_credentials SET is_active = $1 WHERE id = $2",
			false, rows[2].ID)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := result.RowsAffected(); n != 1 || err != nil {
			t.Errorf("without secrets: %d rows, %v", n, err)
		}
	})
}

// TestHiddenSecrets gives a jsonb column secrets in maps, structs and lists,
// which a driver may store as [REDACTED].
func TestHiddenSecrets(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		docs := "CREATE TABLE docs (id int, doc jsonb)"
		if env.IsSQLite() {
			docs = "CREATE TABLE docs (id int, doc text)"
		}
		env.Exec(t, docs)
		s := credent.NewSecret("PLAIN-hidden")
		value := encrypted.NewValue([]byte("PLAIN-hidden"))
		type inner struct {
			Note string
			Key  *credent.Secret
		}
		type outer struct {
			inner
			More []any
		}
		hidden := map[string]any{
			"a map":                 map[string]any{"key": s},
			"a map of secrets":      map[string]credent.Secret{"key": s},
			"a map of pointers":     map[int]*credent.Secret{1: &s},
			"a map in a map":        map[string]any{"a": map[string]any{"b": []any{1, s}}},
			"a key of a map":        map[any]int{&s: 1},
			"a struct":              inner{Key: &s},
			"a pointer to a struct": &inner{Key: &s},
			"an embedded struct":    outer{inner: inner{Key: &s}},
			"an any in a struct":    outer{More: []any{s}},
			"a list":                []credent.Secret{s},
			"a list of anything":    []any{"x", s},
			"an array":              [2]any{1, &s},
			"a value":               map[string]any{"code": value},
			"a list of values":      []encrypted.Value[[]byte]{value},
			"an argument":           map[string]any{"key": encrypted.At(s, usercredential.SecretKeyColumn, "u1")},
			"an argument in a list": []any{encrypted.At(s, usercredential.SecretKeyColumn, "u1")},
			"a digest in a struct":  struct{ D any }{encrypted.DigestOf(s, usercredential.APIKeyColumn, nil)},
			"a credential":          &ent.UserCredential{APIKey: s},
			"credentials":           ent.UserCredentials{{SecretKey: s}},
			"JSON":                  json.RawMessage(`{"key": "[REDACTED]"}`),
			"JSON of a struct":      json.RawMessage(testdb.Must(json.Marshal(inner{Note: "n", Key: &s}))),
			"printed":               s.String(),
			"printed as JSON":       testdb.Must(json.Marshal(s)),
		}
		const insert = "INSERT INTO docs (id, doc) VALUES ($1, $2)"
		for name, doc := range hidden {
			for _, inTx := range []bool{false, true} {
				client := env.Client
				end := func() error { return nil }
				if inTx {
					tx, err := client.Tx(ctx)
					if err != nil {
						t.Fatal(err)
					}
					client, end = tx.Client(), tx.Commit
				}
				_, err := client.ExecContext(ctx, env.Placeholders(insert), 1, doc)
				if !errors.Is(err, credent.ErrNoLocation) && !errors.Is(err, credent.ErrRedacted) {
					t.Errorf("%s, in a transaction %t: %v", name, inTx, err)
				} else if strings.Contains(err.Error(), "PLAIN") {
					t.Errorf("%s: the error has the secret", name)
				}
				if err := end(); err != nil { // nothing was sent, so it continues
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		var n int
		if env.Value(t, &n, "SELECT count(*) FROM docs"); n != 0 {
			t.Errorf("%d documents were stored", n)
		}
		if _, err := env.Client.ExecContext(ctx, env.Placeholders(insert), 1, `{"key": "value"}`); err != nil {
			t.Error(err)
		}
		if env.Driver == "pgx" { // pgx marshals
			if _, err := env.Client.ExecContext(ctx, insert, 2,
				map[string]any{"list": []any{1, "x", nil}}); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestTooManyArguments has statements with more arguments than the database
// accepts. They are refused before anything is sent, and the connection stays
// usable.
func TestTooManyArguments(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		limit, many := 65_535, 66_000
		if env.IsSQLite() {
			limit, many = 32_766, 33_000
		}
		accounts := "INSERT INTO user_accounts (id, user_id, account_name) SELECT gen_random_uuid(), 'x' || i, 'n' " +
			"FROM generate_series(1, $1) AS i"
		if env.IsSQLite() {
			accounts = "INSERT INTO user_accounts (id, user_id, account_name) WITH RECURSIVE s(i) AS (SELECT 1 UNION " +
				"ALL SELECT i + 1 FROM s WHERE i < $1) SELECT substr(h, 1, 8) || '-' || substr(h, 9, 4) || " +
				"'-4000-8000-' || substr(h, 13, 12), 'x' || i, 'n' FROM (SELECT i, lower(hex(randomblob(12))) AS h " +
				"FROM s)"
		}
		env.Exec(t, accounts, many)
		env.DB.SetMaxOpenConns(1)
		client := env.OnPool(testopt.WithKeyring(env.Ring))
		account := env.Account(t, "u1")
		there := env.Credential(t, account, "PK1", "s1")
		ids := make([]uuid.UUID, limit+1)
		for i := range ids {
			ids[i] = uuid.New()
		}
		bulk := func(client *ent.Client, n int) *ent.UserCredentialCreateBulk {
			return client.UserCredential.MapCreateBulk(make([]struct{}, n), func(c *ent.UserCredentialCreate, _ int) {
				c.SetUserAccountID(account.ID).SetUserID("u1").SetCredentialType("alpaca").
					SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("s"))
			})
		}
		tooMany := map[string]func(ctx context.Context, client *ent.Client) error{
			"IDIn": func(ctx context.Context, client *ent.Client) error {
				_, err := client.UserCredential.Query().Where(usercredential.IDIn(ids...)).All(ctx)
				return err
			},
			"IDIn, to count": func(ctx context.Context, client *ent.Client) error {
				_, err := client.UserCredential.Query().Where(usercredential.IDIn(ids...)).Count(ctx)
				return err
			},
			"IDIn, to update": func(ctx context.Context, client *ent.Client) error {
				return client.UserCredential.Update().Where(usercredential.IDIn(ids...)).SetIsActive(false).Exec(ctx)
			},
			"IDIn, to update a secret": func(ctx context.Context, client *ent.Client) error {
				return client.UserCredential.Update().Where(usercredential.IDIn(ids...)).
					SetSecretKey(credent.NewSecret("s")).Exec(ctx)
			},
			"IDIn, to delete": func(ctx context.Context, client *ent.Client) error {
				_, err := client.UserCredential.Delete().Where(usercredential.IDIn(ids...)).Exec(ctx)
				return err
			},
			"eager loading": func(ctx context.Context, client *ent.Client) error {
				_, err := client.UserAccount.Query().WithCredentials().All(ctx)
				return err
			},
			"a bulk": func(ctx context.Context, client *ent.Client) error { return bulk(client, limit/10+1).Exec(ctx) },
			"a bulk, upserted": func(ctx context.Context, client *ent.Client) error {
				return bulk(client, limit/10+1).OnConflictColumns(usercredential.FieldID).UpdateNewValues().Exec(ctx)
			},
			"SQL": func(ctx context.Context, client *ent.Client) error {
				_, err := client.ExecContext(ctx, "SELECT 1", make([]any, limit+1)...)
				return err
			},
			"SQL with a result": func(ctx context.Context, client *ent.Client) error {
				rows, err := client.QueryContext(ctx, "SELECT 1", make([]any, limit+1)...) //nolint:sqlclosecheck // by closeAll
				if err != nil {
					return err
				}
				defer testdb.CloseAll(t, rows)
				return rows.Err()
			},
		}
		backend := func() (pid int) {
			if !env.IsSQLite() {
				env.Value(t, &pid, "SELECT pg_backend_pid()")
			}
			return pid
		}
		before := backend()
		goesOn := func(name string, client *ent.Client) {
			t.Helper()
			for range 20 {
				row, err := client.UserCredential.Get(ctx, there.ID)
				if err != nil {
					t.Fatalf("%s: afterwards: %v", name, err)
				}
				if got := testdb.Reveal(t, row.APIKey); got != "PK1" {
					t.Fatalf("%s: afterwards read %q", name, got)
				}
			}
		}
		for name, do := range tooMany {
			err := do(ctx, client)
			if !errors.Is(err, credent.ErrTooManyArgs) || !strings.Contains(err.Error(), fmt.Sprint(limit)) {
				t.Errorf("%s: %v", name, err)
			}
			goesOn(name, client)
			tx, err := client.Tx(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := do(ctx, tx.Client()); !errors.Is(err, credent.ErrTooManyArgs) {
				t.Errorf("%s, in a transaction: %v", name, err)
			}
			goesOn(name+", in a transaction", tx.Client())
			if err := tx.Commit(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if after := backend(); after != before {
			t.Errorf("the connection was another one: %d, before %d", after, before)
		}

		// Statements that fit are accepted: each row of a bulk has ten
		// arguments.
		if got, err := client.UserCredential.Query().Where(usercredential.IDIn(append(ids[:limit-1], there.ID)...)).
			Only(ctx); err != nil || got.ID != there.ID {
			t.Errorf("as many as fit: %v", err)
		}
		if err := bulk(client, limit/10).Exec(ctx); err != nil {
			t.Errorf("a bulk that fits: %v", err)
		}
		if err := bulk(client, limit/10+1).Exec(ctx); !errors.Is(err, credent.ErrTooManyArgs) {
			t.Errorf("a bulk of a row too many: %v", err)
		}
		if n := client.UserCredential.Query().Where(usercredential.HasAccountWith(useraccount.UserID("u1"))).
			CountX(ctx); n != 1+limit/10 {
			t.Errorf("%d credentials, want %d", n, 1+limit/10)
		}
	})
}
