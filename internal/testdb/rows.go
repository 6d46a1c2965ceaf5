package testdb

import (
	"database/sql"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// CheckIndex checks that each row has its api_key's digest under the primary
// key.
func (env *Env) CheckIndex(t *testing.T, ring *keyring.Keyring) {
	t.Helper()
	env.CheckDigests(t, ring, Opened(t, ring, env.Tokens(t)))
}

// CheckDigests is CheckIndex for tokens that a keyring alone can't open.
func (env *Env) CheckDigests(t *testing.T, ring *keyring.Keyring, want map[uuid.UUID]Pair) {
	t.Helper()
	stored := env.Indexes(t)
	for id, p := range want {
		digest, err := new(blindindex.Digester).Primary((*engine.Ring)(ring), usercredential.APIKeyColumn, p.APIKey)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := stored[id], hex.EncodeToString(digest); got != want {
			t.Errorf("row %s: the blind index has %q, want %q", id, got, want)
		}
	}
}

// Indexes returns the digests in hexadecimal, "" for NULL.
func (env *Env) Indexes(t *testing.T) map[uuid.UUID]string {
	t.Helper()
	rows, err := env.DB.QueryContext(t.Context(), "SELECT id, api_key_index FROM user_credentials")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { CloseAll(t, rows) }()
	all := make(map[uuid.UUID]string)
	for rows.Next() {
		var (
			id    uuid.UUID
			index []byte
		)
		if err := rows.Scan(&id, &index); err != nil {
			t.Fatal(err)
		}
		all[id] = hex.EncodeToString(index)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// Found returns the IDs of the rows that a client finds by an api_key.
func Found(t *testing.T, client *ent.Client, apiKey string) map[uuid.UUID]bool {
	t.Helper()
	ids, err := client.UserCredential.Query().Where(usercredential.APIKeyIs(credent.NewSecret(apiKey))).IDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[uuid.UUID]bool)
	for _, id := range ids {
		all[id] = true
	}
	return all
}

// CheckFound checks that each row is found by its api_key.
func (env *Env) CheckFound(t *testing.T, want map[uuid.UUID]Pair) {
	t.Helper()
	for id, p := range want {
		if !Found(t, env.Client, p.APIKey)[id] {
			t.Errorf("row %s isn't found by its api_key", id)
		}
	}
}

// InState puts both columns into a state.
func InState(p states.Protection, s credent.State) states.Table {
	return states.New(p, s, usercredential.APIKeyColumn, usercredential.SecretKeyColumn)
}

// IsBound returns the options of a client with bound tokens.
func (env *Env) IsBound(more ...testopt.Option) []testopt.Option {
	return append([]testopt.Option{testopt.WithKeyring(env.Ring), testopt.WithBinding(credent.Require)}, more...)
}

// bothColumns are the names of the encrypted columns.
var bothColumns = []string{"user_credentials.api_key", "user_credentials.secret_key"}

// AtPlace opens the encrypted columns of every row in their locations, and
// counts bound and unbound tokens.
func (env *Env) AtPlace(t *testing.T) (all map[uuid.UUID]Pair, bound, unbound int) {
	t.Helper()
	rows, err := env.DB.QueryContext(t.Context(), "SELECT id, user_id, api_key, secret_key FROM user_credentials")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { CloseAll(t, rows) }()
	all = make(map[uuid.UUID]Pair)
	var locator seal.Locator
	for rows.Next() {
		var (
			id     uuid.UUID
			tenant sql.NullString
			tokens [2]string
			opened [2]string
		)
		if err := rows.Scan(&id, &tenant, &tokens[0], &tokens[1]); err != nil {
			t.Fatal(err)
		}
		for i, name := range bothColumns {
			place := seal.Place{Column: Must(column.Find(name)), Tenant: tenant}
			o, err := locator.OpenAt((*engine.Ring)(env.Ring), place, tokens[i])
			if err != nil {
				t.Errorf("%s of %s: %v", name, tenant.String, err)
			}
			if opened[i] = o.Plaintext; err == nil && o.Bound {
				bound++
			} else if err == nil {
				unbound++
			}
		}
		all[id] = Pair{opened[0], opened[1]}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all, bound, unbound
}

// Account creates an account.
func (env *Env) Account(t *testing.T, userID string) *ent.UserAccount {
	t.Helper()
	create := env.Client.UserAccount.Create().SetUserID(userID).SetAccountName("name of " + userID)
	account, err := create.Save(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return account
}

// Credential creates a credential of an account.
func (env *Env) Credential(t *testing.T, account *ent.UserAccount, apiKey, secretKey string) *ent.UserCredential {
	t.Helper()
	credential, err := env.Client.UserCredential.Create().
		SetAccount(account).
		SetUserID(account.UserID).
		SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret(apiKey)).
		SetSecretKey(credent.NewSecret(secretKey)).
		Save(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

// Value scans the result of a query for one value, without encryption.
func (env *Env) Value(t *testing.T, dest any, query string, args ...any) {
	t.Helper()
	if err := env.DB.QueryRowContext(t.Context(), query, args...).Scan(dest); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// Exec runs a statement without encryption.
func (env *Env) Exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := env.DB.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// Placeholders converts a Postgres statement's placeholders for the database.
func (env *Env) Placeholders(query string) string {
	if env.IsSQLite() {
		return strings.ReplaceAll(query, "$", "?")
	}
	return query
}

// Casts converts a statement's types for the database: SQLite lacks bytea, and
// also uuid, which it would treat as numeric.
func (env *Env) Casts(query string) string {
	if env.IsSQLite() {
		return strings.NewReplacer(" AS uuid)", " AS text)", " AS bytea)", " AS blob)").Replace(query)
	}
	return query
}

// NewID returns SQL that generates a UUID.
func (env *Env) NewID() string {
	if env.IsSQLite() {
		return "lower(hex(randomblob(4)) || '-0000-4000-8000-' || hex(randomblob(6)))"
	}
	return "gen_random_uuid()"
}

// Pair holds a row's two encrypted columns, as tokens or opened.
type Pair struct{ APIKey, SecretKey string }

// Tokens returns the stored tokens of every row.
func (env *Env) Tokens(t *testing.T) map[uuid.UUID]Pair {
	t.Helper()
	rows, err := env.DB.QueryContext(t.Context(), "SELECT id, api_key, secret_key FROM user_credentials")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { CloseAll(t, rows) }()
	all := make(map[uuid.UUID]Pair)
	for rows.Next() {
		var id uuid.UUID
		var p Pair
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

// Opened opens tokens, and checks that all are tokens and all are different.
func Opened(t *testing.T, ring *keyring.Keyring, tokens map[uuid.UUID]Pair) map[uuid.UUID]Pair {
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
	all := make(map[uuid.UUID]Pair)
	for id, p := range tokens {
		all[id] = Pair{open(p.APIKey), open(p.SecretKey)}
	}
	return all
}

// Seed empties the database and creates an account with three credentials: api0
// and secret0, api1 and secret1, and so on.
func (env *Env) Seed(t *testing.T) (*ent.UserAccount, []*ent.UserCredential) {
	t.Helper()
	env.Client.UserAccount.Delete().ExecX(t.Context())
	account := env.Account(t, "u1")
	var rows []*ent.UserCredential
	for _, n := range []string{"0", "1", "2"} {
		rows = append(rows, env.Credential(t, account, "api"+n, "secret"+n))
	}
	return account, rows
}

// Run runs statements.
func Run(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, stmt := range statements {
		if _, err := db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatalf("%s: %v", stmt, err)
		}
	}
}
