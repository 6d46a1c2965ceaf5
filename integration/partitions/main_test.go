// Package partitions tests that everything works on tables with the primary key
// (user_id, id): the client, row-level security, rotation, blind indexes,
// tenants' keys, and copying. The tests run on each layout of [layouts].
package partitions

import (
	"os"
	"sync"
	"testing"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

// TestMain can be the command credent, or a rotation that is to be killed.
func TestMain(m *testing.M) {
	if url := os.Getenv(victimURL); url != "" {
		rotateUntilKilled(url)
	}
	testdb.Main(m)
}

// layout is one that the tests run on.
type layout struct {
	name migrate.Layout
	// database returns the URL of a new database in this layout.
	database func(t *testing.T) string
	// moves says that an account's user_id can be changed.
	moves bool
	// joins says that a query can join on user_account_id alone.
	joins bool
}

var layouts = append([]layout{
	{name: migrate.Partitioned, database: partitioned, moves: true, joins: true},
}, onCitus()...)

// template is the name of a database in hash partitions, which is left to the
// server's end.
var (
	making   sync.Mutex
	template string
)

func partitioned(t *testing.T) string {
	t.Helper()
	making.Lock()
	defer making.Unlock()
	if template == "" {
		url, _, err := testdb.Server(t).CreateDatabase(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		db, _, err := testopt.OpenDB(url)
		if err != nil {
			t.Fatal(err)
		}
		if err := migrate.Apply(t.Context(), db, migrate.Config{Layout: migrate.Partitioned}); err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRowContext(t.Context(), "SELECT current_database()").Scan(&template); err != nil {
			t.Fatal(err)
		}
		testdb.CloseAll(t, db) // nobody may be connected to it when it's copied
	}
	return testdb.NewDatabase(t, template)
}

// world is a database in a layout, with a client.
type world struct {
	*testdb.Env
	layout
}

// forEach runs a test on each layout, over both drivers.
func forEach(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, l := range layouts {
		for name, opts := range testdb.Drivers {
			t.Run(string(l.name)+"/"+name, func(t *testing.T) {
				t.Parallel()
				test(t, newWorld(t, l, name, opts))
			})
		}
	}
}

func newWorld(t *testing.T, l layout, driver string, opts []testopt.Option) *world {
	t.Helper()
	env := &testdb.Env{URL: l.database(t), Driver: driver, Key: keyring.GenerateKey(), Opts: opts}
	env.Ring = testdb.Keyring(t, env.Key)
	env.Client = testdb.Open(t, env.URL, append(opts[:len(opts):len(opts)], testopt.WithKeyring(env.Ring))...)
	env.DB = testdb.OpenDB(t, env.URL, opts...)
	return &world{env, l}
}
