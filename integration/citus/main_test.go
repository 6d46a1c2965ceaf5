// Package citus tests behavior that only a Citus cluster has: which statements
// go to one node, which operations it refuses, and that no write is lost while
// shards move.
package citus

import (
	"net/url"
	"testing"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

// TestMain runs the tests, or the command credent in a child process.
func TestMain(m *testing.M) { testdb.Main(m) }

// cluster is a database of a cluster, in the layout citus.
type cluster struct {
	*testdb.Env
	nodes []testdb.Node
}

// newCluster returns a new database in a layout.
func newCluster(t *testing.T, l migrate.Layout) *cluster {
	t.Helper()
	database, nodes := testdb.NewCitus(t)
	env := &testdb.Env{URL: database, Driver: "pgx", Key: keyring.GenerateKey()}
	env.Ring = testdb.Keyring(t, env.Key)
	env.DB = testdb.OpenDB(t, env.URL)
	if err := migrate.Apply(t.Context(), env.DB, migrate.Config{Layout: l}); err != nil {
		t.Fatal(err)
	}
	env.Client = testdb.Open(t, env.URL, testopt.WithKeyring(env.Ring))
	return &cluster{env, nodes}
}

// on returns the database's URL on a node, with the user of another URL.
func (c *cluster) on(t *testing.T, n testdb.Node, databaseURL string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal("the URL does not parse")
	}
	return n.URL(u, "")
}
