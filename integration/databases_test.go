package integration

import (
	"path/filepath"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
)

// forEachDatabase runs a test over both drivers of Postgres and on SQLite, each on a migrated database of its own.
func forEachDatabase(t *testing.T, test func(t *testing.T, env *environment)) {
	t.Helper()
	forEachDriver(t, test)
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, newSQLite(t))
	})
}

// newSQLite is newEnvironment on a new SQLite file.
func newSQLite(t *testing.T) *environment {
	t.Helper()
	env := &environment{url: "sqlite:" + filepath.Join(t.TempDir(), "credent.db") + "?_pragma=synchronous(0)", key: credent.GenerateKey()}
	env.ring = keyring(t, env.key)
	env.client = open(t, env.url, credent.WithKeyring(env.ring), credent.WithMigrations())
	env.db = openDB(t, env.url)
	return env
}

// isSQLite reports which of the two dialects the database speaks.
func (env *environment) isSQLite() bool { return strings.HasPrefix(env.url, "sqlite:") }

// onPool returns a client on the environment's own pool, which is not to be closed.
func (env *environment) onPool(opts ...credent.Option) *ent.Client {
	client := ent.NewClient(ent.Driver(credent.WrapDriver(env.driver(), opts...)), ent.Log(func(...any) {}))
	credent.Use(client, opts...)
	return client
}

// driver returns ent's driver on the environment's own pool.
func (env *environment) driver() dialect.Driver {
	if env.isSQLite() {
		return entsql.OpenDB(dialect.SQLite, env.db)
	}
	return entsql.OpenDB(dialect.Postgres, env.db)
}

// debugClient returns a client like the environment's, that logs to nowhere.
func (env *environment) debugClient() *ent.Client {
	return env.onPool(credent.WithKeyring(env.ring)).Debug()
}

// placeholders returns a statement that is written for Postgres as the database wants it.
func (env *environment) placeholders(query string) string {
	if env.isSQLite() {
		return strings.ReplaceAll(query, "$", "?")
	}
	return query
}

func keyring(t *testing.T, primary string) *credent.Keyring {
	t.Helper()
	ring, err := credent.NewKeyring(primary)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// pair is what the two encrypted columns of a row hold, as tokens or opened.
type pair struct{ APIKey, SecretKey string }

// tokens returns what the encrypted columns of every row hold, as they are.
func (env *environment) tokens(t *testing.T) map[uuid.UUID]pair {
	t.Helper()
	rows, err := env.db.QueryContext(t.Context(), "SELECT id, api_key, secret_key FROM user_credentials")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { closeAll(t, rows) }()
	all := make(map[uuid.UUID]pair)
	for rows.Next() {
		var id uuid.UUID
		var p pair
		if err := rows.Scan(&id, &p.APIKey, &p.SecretKey); err != nil {
			t.Fatal(err)
		}
		all[id] = p
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// opened opens tokens, each of which must be one, and a different one.
func opened(t *testing.T, ring *credent.Keyring, tokens map[uuid.UUID]pair) map[uuid.UUID]pair {
	t.Helper()
	seen := make(map[string]bool)
	open := func(token string) string {
		plaintext, err := ring.Decrypt(token)
		if err != nil {
			t.Errorf("%.9q… of %d characters is stored: %v", token, len(token), err)
		}
		if seen[token] {
			t.Error("a token is stored twice")
		}
		seen[token] = true
		return plaintext
	}
	all := make(map[uuid.UUID]pair)
	for id, p := range tokens {
		all[id] = pair{open(p.APIKey), open(p.SecretKey)}
	}
	return all
}

// seed empties the database, and makes an account with three credentials, of api0 and secret0, api1 and secret1, and so on.
func (env *environment) seed(t *testing.T) (*ent.UserAccount, []*ent.UserCredential) {
	t.Helper()
	env.client.UserAccount.Delete().ExecX(t.Context())
	account := env.account(t, "u1")
	var rows []*ent.UserCredential
	for _, n := range []string{"0", "1", "2"} {
		rows = append(rows, env.credential(t, account, "api"+n, "secret"+n))
	}
	return account, rows
}
