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

// Must is for what fails only if the test is wrong.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Drivers are the two ways to connect; a test that runs SQL through the client
// runs over each.
var Drivers = map[string][]testopt.Option{
	"pq":  {testopt.OverPQ()},
	"pgx": nil,
}

// ForEachDriver runs a test over both drivers, each on a migrated database of
// its own.
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
	Opts   []testopt.Option // how to connect to Postgres
	DB     *sql.DB          // plain, without encryption
	Client *ent.Client
	Key    string
	Ring   *keyring.Keyring
}

// New returns a migrated database on Postgres, with a new key.
func New(t *testing.T, opts ...testopt.Option) *Env {
	t.Helper()
	env := &Env{URL: NewDatabase(t, Template(t)), Key: keyring.GenerateKey(), Opts: opts}
	env.Ring = Keyring(t, env.Key)
	env.Client = Open(t, env.URL, append(opts, testopt.WithKeyring(env.Ring))...)
	env.DB = OpenDB(t, env.URL, opts...)
	return env
}

// Open opens a client for the whole test.
func Open(t *testing.T, url string, opts ...testopt.Option) *ent.Client {
	t.Helper()
	client, err := testopt.Open(t.Context(), url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseAll(t, client) })
	return client
}

// OpenDB opens a pool without encryption for the whole test.
func OpenDB(t *testing.T, url string, opts ...testopt.Option) *sql.DB {
	t.Helper()
	db, _, err := testopt.OpenDB(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseAll(t, db) })
	return db
}

// Session takes a connection of the pool for the whole test, with what is set
// on it.
func Session(t *testing.T, db *sql.DB) *sql.Conn {
	t.Helper()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseAll(t, conn) })
	return conn
}

// CloseAll closes a client, pool or result, and fails the test if it cannot.
func CloseAll(t *testing.T, c interface{ Close() error }) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// Reveal fails the test if a secret cannot be opened.
func Reveal(t *testing.T, s credent.Secret) string {
	t.Helper()
	plaintext, err := s.Reveal()
	if err != nil {
		t.Fatal(err)
	}
	return plaintext
}

// ForEachDatabase runs a test over both drivers of Postgres and both of SQLite,
// each on a migrated database of its own.
func ForEachDatabase(t *testing.T, test func(t *testing.T, env *Env)) {
	t.Helper()
	ForEachDriver(t, test)
	ForEachSQLite(t, test)
}

// ForEachSQLite runs a test over both drivers of SQLite, each on a migrated
// file of its own.
func ForEachSQLite(t *testing.T, test func(t *testing.T, env *Env)) {
	t.Helper()
	for _, driver := range []string{"modernc", "mattn"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			test(t, NewSQLite(t, driver))
		})
	}
}

// NewSQLite is New on a new SQLite file, a copy of one that the driver has
// migrated.
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
	migrated  = make(map[string][]byte) // files, by drivers
)

// migratedFile returns a file that has the tables, as a driver of SQLite makes
// it. It is made once per driver and process.
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
		CloseAll(t, db) // or the file may lack what was written
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		migrated[driver] = data
	}
	return migrated[driver]
}

// Pool opens a further pool on the environment's database, by its driver. The
// two of SQLite must not share a file within a process: the locks of a file
// are the process's.
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

// Source returns the database as sql.Open takes it, with the parameters that
// testopt.OpenDB sets, and for mattn's driver what is equal to them.
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

// Open returns a further client of the environment's database.
func (env *Env) Open(t *testing.T, opts ...testopt.Option) *ent.Client {
	t.Helper()
	client, err := testopt.NewClient(env.Pool(t), env.Dialect(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Dialect returns the environment's dialect, as ent names it.
func (env *Env) Dialect() string {
	if env.IsSQLite() {
		return dialect.SQLite
	}
	return dialect.Postgres
}

// IsSQLite reports which of the two dialects the database speaks.
func (env *Env) IsSQLite() bool { return strings.HasPrefix(env.URL, "sqlite:") }

// OnPool returns a client on the environment's own pool, which is not to be
// closed.
func (env *Env) OnPool(opts ...testopt.Option) *ent.Client {
	return Must(testopt.FromDriver(env.EntDriver(), opts, ent.Log(func(...any) {})))
}

// EntDriver returns ent's driver on the environment's own pool.
func (env *Env) EntDriver() dialect.Driver {
	return entsql.OpenDB(env.Dialect(), env.DB)
}

// DebugClient returns a client like the environment's, that logs to nowhere.
func (env *Env) DebugClient() *ent.Client {
	return env.OnPool(testopt.WithKeyring(env.Ring)).Debug()
}

// Keyring returns a keyring of one key.
func Keyring(t *testing.T, primary string) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.New(primary)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// Lines runs a query for one column of text.
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
