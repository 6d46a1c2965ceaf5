package testdb

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/credent-go/credent/internal/testopt"
)

// EnvCitus names the variable with the URL of a Citus cluster's coordinator, as
// a superuser with the same password on each node.
const EnvCitus = "CREDENT_TEST_CITUS_URL"

// HasCitus reports whether there is a cluster to test on. If not, it prints a
// conspicuous message once per test binary.
func HasCitus() bool {
	if os.Getenv(EnvCitus) != "" {
		return true
	}
	sayNoCitus.Do(func() {
		fmt.Fprintf(os.Stderr,
			"\n*** NOT TESTED: the layout citus, because %s is not set. scripts/citus makes a cluster.\n"+
				"*** docs/development.md, under \"Citus\", says how.\n\n", EnvCitus)
	})
	return false
}

var sayNoCitus sync.Once

// NeedCitus skips a test, with a message, if there is no cluster.
func NeedCitus(t *testing.T) {
	t.Helper()
	if !HasCitus() {
		t.Skipf("NOT TESTED: %s is not set; scripts/citus makes a cluster, see docs/development.md", EnvCitus)
	}
}

// Node is a server of a cluster.
type Node struct {
	Host   string
	Port   string
	Worker bool
}

// citusMaking is held while a database is created, because a server copies one
// template at a time.
var citusMaking sync.Mutex

// NewCitus returns the URL of a new, empty database on the cluster's
// coordinator, and the cluster's nodes. The database is dropped after the test.
func NewCitus(t *testing.T) (databaseURL string, nodes []Node) {
	t.Helper()
	NeedCitus(t)
	admin, err := url.Parse(os.Getenv(EnvCitus))
	if err != nil {
		t.Fatalf("%s isn't a URL", EnvCitus)
	}
	nodes = citusNodes(t, admin)
	citusMaking.Lock()
	defer citusMaking.Unlock()
	name := "credent_test_" + strings.ToLower(rand.Text())
	for _, n := range nodes {
		n.exec(t, admin, "", fmt.Sprintf("CREATE DATABASE %s TEMPLATE template0", name))
		t.Cleanup(func() { n.exec(t, admin, "", fmt.Sprintf("DROP DATABASE IF EXISTS %s WITH (FORCE)", name)) })
		n.exec(t, admin, name, "CREATE EXTENSION citus")
	}
	coordinator := nodes[0]
	coordinator.exec(t, admin, name, fmt.Sprintf("SELECT citus_set_coordinator_host('%s', %s)",
		coordinator.Host, coordinator.Port))
	for _, n := range nodes[1:] {
		coordinator.exec(t, admin, name, fmt.Sprintf("SELECT citus_add_node('%s', %s)", n.Host, n.Port))
	}
	return coordinator.URL(admin, name), nodes
}

// citusNodes returns a cluster's nodes, the coordinator first.
func citusNodes(t *testing.T, admin *url.URL) []Node {
	t.Helper()
	db := citusPool(t, admin.String())
	defer CloseAll(t, db)
	nodes := []Node{{Host: admin.Hostname(), Port: admin.Port()}}
	for _, line := range Lines(t, db,
		"SELECT nodename || ' ' || nodeport FROM pg_dist_node WHERE groupid > 0 AND isactive ORDER BY nodeid") {
		host, port, _ := strings.Cut(line, " ")
		nodes = append(nodes, Node{Host: host, Port: port, Worker: true})
	}
	if len(nodes) < 3 {
		t.Fatalf("the cluster of %s has %d workers, want 2 or more", EnvCitus, len(nodes)-1)
	}
	return nodes
}

func citusPool(t *testing.T, databaseURL string) *sql.DB {
	t.Helper()
	db, _, err := testopt.OpenDB(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// URL returns the URL of a database on the node, with the user of another URL.
func (n Node) URL(as *url.URL, database string) string {
	u := *as
	u.Host = net.JoinHostPort(n.Host, n.Port)
	if database != "" {
		u.Path = "/" + database
	}
	return u.String()
}

func (n Node) exec(t *testing.T, as *url.URL, database, stmt string) {
	t.Helper()
	db := citusPool(t, n.URL(as, database))
	defer CloseAll(t, db)
	if _, err := db.ExecContext(context.WithoutCancel(t.Context()), stmt); err != nil {
		t.Fatalf("node %s: %s: %v", n.Port, stmt, err)
	}
}
