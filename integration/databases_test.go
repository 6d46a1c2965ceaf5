package integration

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/google/uuid"
	_ "github.com/mattn/go-sqlite3"
)

// forEachDatabase runs a test over both drivers of Postgres and both of SQLite,
// each on a migrated database of its own.
func forEachDatabase(t *testing.T, test func(t *testing.T, env *environment)) {
	t.Helper()
	forEachDriver(t, test)
	forEachSQLite(t, test)
}

// forEachSQLite runs a test over both drivers of SQLite, each on a migrated
// file of its own.
func forEachSQLite(t *testing.T, test func(t *testing.T, env *environment)) {
	t.Helper()
	for _, driver := range []string{"modernc", "mattn"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			test(t, newSQLite(t, driver))
		})
	}
}

// newSQLite is newEnvironment on a new SQLite file.
func newSQLite(t *testing.T, driver string) *environment {
	t.Helper()
	env := &environment{driver: driver, key: keyring.GenerateKey()}
	env.url = "sqlite:" + filepath.Join(t.TempDir(), "credent.db") + "?_pragma=synchronous(0)&_pragma=busy_timeout(60000)"
	env.ring = newKeyring(t, env.key)
	env.db = env.pool(t)
	if err := testopt.Apply(t.Context(), env.db); err != nil {
		t.Fatal(err)
	}
	env.client = env.open(t, testopt.WithKeyring(env.ring))
	return env
}

// pool opens a further pool on the environment's database, by its driver. The
// two of SQLite must not share a file within a process: the locks of a file
// are the process's.
func (env *environment) pool(t *testing.T) *sql.DB {
	t.Helper()
	if env.driver != "mattn" {
		return openDB(t, env.url, env.opts...)
	}
	db, err := sql.Open(env.source(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, db) })
	return db
}

// source returns the database as sql.Open takes it, with the parameters that
// testopt.OpenDB sets, and for mattn's driver what is equal to them.
func (env *environment) source(t *testing.T) (driverName, dsn string) {
	t.Helper()
	file, _, _ := strings.Cut(strings.TrimPrefix(env.url, "sqlite:"), "?")
	switch env.driver {
	case "pq":
		return "postgres", env.url + "&binary_parameters=yes"
	case "pgx":
		return "pgx", env.url
	case "modernc":
		return "sqlite", "file:" + file + "?_pragma=foreign_keys(1)&_pragma=busy_timeout(60000)&_pragma=synchronous(0)" +
			"&_txlock=immediate&_time_format=sqlite"
	case "mattn":
		return "sqlite3", "file:" + file + "?_foreign_keys=1&_busy_timeout=60000&_synchronous=0&_txlock=immediate"
	}
	t.Fatalf("no driver is named %q", env.driver)
	return "", ""
}

// open returns a further client of the environment's database.
func (env *environment) open(t *testing.T, opts ...testopt.Option) *ent.Client {
	t.Helper()
	client, err := testopt.NewClient(env.pool(t), env.dialect(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// dialect returns the environment's dialect, as ent names it.
func (env *environment) dialect() string {
	if env.isSQLite() {
		return dialect.SQLite
	}
	return dialect.Postgres
}

// isSQLite reports which of the two dialects the database speaks.
func (env *environment) isSQLite() bool { return strings.HasPrefix(env.url, "sqlite:") }

// onPool returns a client on the environment's own pool, which is not to be
// closed.
func (env *environment) onPool(opts ...testopt.Option) *ent.Client {
	return must(testopt.FromDriver(env.entDriver(), opts, ent.Log(func(...any) {})))
}

// entDriver returns ent's driver on the environment's own pool.
func (env *environment) entDriver() dialect.Driver {
	return entsql.OpenDB(env.dialect(), env.db)
}

// debugClient returns a client like the environment's, that logs to nowhere.
func (env *environment) debugClient() *ent.Client {
	return env.onPool(testopt.WithKeyring(env.ring)).Debug()
}

// placeholders returns a statement that is written for Postgres as the database
// wants it.
func (env *environment) placeholders(query string) string {
	if env.isSQLite() {
		return strings.ReplaceAll(query, "$", "?")
	}
	return query
}

// casts returns a statement with the types of the database: SQLite has neither
// uuid, which it would take for a number, nor bytea.
func (env *environment) casts(query string) string {
	if env.isSQLite() {
		return strings.NewReplacer(" AS uuid)", " AS text)", " AS bytea)", " AS blob)").Replace(query)
	}
	return query
}

// newID returns SQL for a new UUID.
func (env *environment) newID() string {
	if env.isSQLite() {
		return "lower(hex(randomblob(4)) || '-0000-4000-8000-' || hex(randomblob(6)))"
	}
	return "gen_random_uuid()"
}

func newKeyring(t *testing.T, primary string) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.New(primary)
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

// opened opens tokens, which must all be tokens and different.
func opened(t *testing.T, ring *keyring.Keyring, tokens map[uuid.UUID]pair) map[uuid.UUID]pair {
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

// seed empties the database, and makes an account with three credentials, of
// api0 and secret0, api1 and secret1, and so on.
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
