package testdb

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// Must returns v. It panics on an error, which only a wrong test can cause.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Drivers are the two Postgres drivers. A test that runs SQL through the client
// runs with each.
var Drivers = map[string][]testopt.Option{
	"pq":  {testopt.OverPQ()},
	"pgx": nil,
}

// ForEachDriver runs a test with both Postgres drivers, each on its own
// migrated database.
func ForEachDriver(t *testing.T, test func(t *testing.T, env *Env)) {
	t.Helper()
	for name, opts := range Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := New(t, opts...)
			env.Driver = name
			test(t, env)
		})
	}
}

// Env is a migrated database with a client and a keyring.
type Env struct {
	URL    string
	Driver string           // "pq", "pgx", "modernc" or "mattn"
	Opts   []testopt.Option // options to connect to Postgres
	DB     *sql.DB          // a pool without encryption
	Client *ent.Client
	Key    string
	Ring   *keyring.Keyring
}

// New returns a migrated Postgres database with a new key.
func New(t *testing.T, opts ...testopt.Option) *Env {
	t.Helper()
	env := &Env{URL: NewDatabase(t, Template(t)), Key: keyring.GenerateKey(), Opts: opts}
	env.Ring = Keyring(t, env.Key)
	env.Client = Open(t, env.URL, append(opts, testopt.WithKeyring(env.Ring))...)
	env.DB = OpenDB(t, env.URL, opts...)
	return env
}

// Open opens a client that is closed after the test.
func Open(t *testing.T, url string, opts ...testopt.Option) *ent.Client {
	t.Helper()
	client, err := testopt.Open(t.Context(), url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseAll(t, client) })
	return client
}

// OpenDB opens a pool without encryption that is closed after the test.
func OpenDB(t *testing.T, url string, opts ...testopt.Option) *sql.DB {
	t.Helper()
	db, _, err := testopt.OpenDB(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseAll(t, db) })
	return db
}

// Session takes a connection out of the pool until the end of the test, so that
// its settings stay.
func Session(t *testing.T, db *sql.DB) *sql.Conn {
	t.Helper()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseAll(t, conn) })
	return conn
}

// CloseAll closes a client, pool or result, and fails the test on an error.
func CloseAll(t *testing.T, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// Reveal returns a secret's plaintext, and fails the test on an error.
func Reveal(t *testing.T, s credent.Secret) string {
	t.Helper()
	plaintext, err := s.Reveal()
	if err != nil {
		t.Fatal(err)
	}
	return plaintext
}

// ForEachDatabase runs a test with both drivers of Postgres and both of SQLite,
// each on its own migrated database.
func ForEachDatabase(t *testing.T, test func(t *testing.T, env *Env)) {
	t.Helper()
	ForEachDriver(t, test)
	ForEachSQLite(t, test)
}

// ForEachSQLite runs a test with both drivers of SQLite, each on its own
// migrated file.
func ForEachSQLite(t *testing.T, test func(t *testing.T, env *Env)) {
	t.Helper()
	for _, driver := range []string{"modernc", "mattn"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			test(t, NewSQLite(t, driver))
		})
	}
}

// NewSQLite is New for SQLite. The database is a copy of a file that the driver
// has migrated.
func NewSQLite(t *testing.T, driver string) *Env {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credent.db")
	if err := os.WriteFile(file, migratedFile(t, driver), 0o600); err != nil {
		t.Fatal(err)
	}
	env := sqliteEnv(driver, file)
	env.Ring = Keyring(t, env.Key)
	env.DB = env.Pool(t)
	env.Client = env.Open(t, testopt.WithKeyring(env.Ring))
	return env
}

func sqliteEnv(driver, file string) *Env {
	url := "sqlite:" + file + "?_pragma=synchronous(0)&_pragma=busy_timeout(60000)"
	return &Env{URL: url, Driver: driver, Key: keyring.GenerateKey()}
}

var (
	migrating sync.Mutex
	migrated  = make(map[string][]byte) // by driver
)

// migratedFile returns a file with the tables, as made by an SQLite driver,
// once per driver and process.
func migratedFile(t *testing.T, driver string) []byte {
	t.Helper()
	migrating.Lock()
	defer migrating.Unlock()
	if migrated[driver] == nil {
		file := filepath.Join(t.TempDir(), "template.db")
		db := sqliteEnv(driver, file).Pool(t)
		if err := testopt.Apply(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		CloseAll(t, db) // otherwise the file may lack writes
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		migrated[driver] = data
	}
	return migrated[driver]
}

// Pool opens another pool on the environment's database, with its driver. The
// two SQLite drivers must not share a file within a process, because a file's
// locks belong to the process.
func (env *Env) Pool(t *testing.T) *sql.DB {
	t.Helper()
	if env.Driver != "mattn" {
		return OpenDB(t, env.URL, env.Opts...)
	}
	db, err := sql.Open(env.Source(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseAll(t, db) })
	return db
}

// Source returns the database as a DSN for sql.Open, with the parameters that
// testopt.OpenDB sets or, for mattn's driver, their equivalents.
func (env *Env) Source(t *testing.T) (driverName, dsn string) {
	t.Helper()
	file, _, _ := strings.Cut(strings.TrimPrefix(env.URL, "sqlite:"), "?")
	switch env.Driver {
	case "pq":
		return "postgres", env.URL + "&binary_parameters=yes"
	case "pgx":
		return "pgx", env.URL
	case "modernc":
		return "sqlite", "file:" + file + "?_pragma=foreign_keys(1)&_pragma=busy_timeout(60000)" +
			"&_pragma=synchronous(0)&_txlock=immediate&_time_format=sqlite"
	case "mattn":
		return "sqlite3", "file:" + file + "?_foreign_keys=1&_busy_timeout=60000&_synchronous=0&_txlock=immediate"
	}
	t.Fatalf("no driver is named %q", env.Driver)
	return "", ""
}

// Open returns another client on the environment's database.
func (env *Env) Open(t *testing.T, opts ...testopt.Option) *ent.Client {
	t.Helper()
	client, err := testopt.NewClient(env.Pool(t), env.Dialect(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Dialect returns ent's name for the environment's dialect.
func (env *Env) Dialect() string {
	if env.IsSQLite() {
		return dialect.SQLite
	}
	return dialect.Postgres
}

// IsSQLite reports whether the database is SQLite.
func (env *Env) IsSQLite() bool { return strings.HasPrefix(env.URL, "sqlite:") }

// OnPool returns a client on the environment's own pool. Don't close it.
func (env *Env) OnPool(opts ...testopt.Option) *ent.Client {
	return Must(testopt.FromDriver(env.EntDriver(), opts, ent.Log(func(...any) {})))
}

// EntDriver returns an ent driver on the environment's own pool.
func (env *Env) EntDriver() dialect.Driver {
	return entsql.OpenDB(env.Dialect(), env.DB)
}

// DebugClient returns a client like the environment's that discards its log.
func (env *Env) DebugClient() *ent.Client {
	return env.OnPool(testopt.WithKeyring(env.Ring)).Debug()
}

// Keyring returns a keyring with one key.
func Keyring(t *testing.T, primary string) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.New(primary)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// Lines returns the result of a query for one text column.
func Lines(t *testing.T, db *sql.DB, query string, args ...any) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		all = append(all, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
