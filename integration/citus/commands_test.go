package citus

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

// TestCommands runs the command on a cluster, as an operator would.
func TestCommands(t *testing.T) {
	testdb.NeedCitus(t)
	t.Parallel()
	c := newCluster(t, migrate.Single)
	first := c.Key
	file := filepath.Join(t.TempDir(), "credentials.csv")
	rows := "user_id,credential_type,api_key,secret_key\n"
	for _, user := range []string{"u1", "u2", "u3", "u4"} {
		rows += user + ",alpaca,key of " + user + ",secret of " + user + "\n"
	}
	if err := os.WriteFile(file, []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(want string, args ...string) {
		t.Helper()
		cmd := c.Command(args...)
		if c.Key != first {
			cmd.Env = append(cmd.Env, "ENCRYPTION_KEY_PREVIOUS="+first)
		}
		out, err := cmd.CombinedOutput()
		if failed := strings.HasPrefix(want, "!"); failed != (err != nil) || !strings.Contains(string(out),
			strings.TrimPrefix(want, "!")) {
			t.Errorf("%s: %v, want %q:\n%s", strings.Join(args, " "), err, want, out)
		}
	}
	run("applied 20261127233000_distribute", "migrate", "apply", "--layout", "citus")
	run("layout: citus", "migrate", "status")
	for _, user := range []string{"u1", "u2", "u3", "u4"} {
		run("", "account", "add", "--user", user, "--name", "name")
	}
	run("imported 4 rows", "credential", "import", file)
	run("u3", "credential", "export")
	c.Key = keyring.GenerateKey()
	run("4 rewritten", "rotate")
	run("under the primary key", "verify")
	run("binding of user_credentials.api_key is accept", "state", "set", "user_credentials.api_key", "binding",
		"accept")
	run("", "encrypt")
	run("destroyed the key of user u2", "tenant", "destroy", "u2", "--yes")
	run("!does not allow it: an account keeps its user_id", "account", "move", "u1", "--user", "u9")
	run("everything matches the migrations", "migrate", "check")
	run("2 columns checked", "doctor")
	run("", "account", "remove", "u3")
	run("u4", "credential", "list")
}
