package tenancy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/keyring"
)

// TestCommandsBehindPgBouncer uses one DATABASE_URL, without any pooler
// parameter, for every command that works through a pooler.
func TestCommandsBehindPgBouncer(t *testing.T) {
	t.Parallel()
	env := testdb.New(t)
	env.Client.UserAccount.Create().SetUserID("u1").SetAccountName("a").ExecX(t.Context())
	env.URL = testdb.StartPgBouncer(t, env.URL)
	file := filepath.Join(t.TempDir(), "rows.csv")
	content := "user_id,credential_type,api_key,secret_key\n" + strings.Repeat("u1,polygon,a,b\n", 700)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := keyring.GenerateKey()
	for _, driver := range []string{"pgx", "libpq"} {
		for _, args := range []string{
			"migrate status", "migrate apply", "migrate check", "doctor", "account list", "credential import " + file,
			"credential list", "credential export --reveal", "verify", "rotate", "inventory --verified",
			"encrypt --dry-run", "state list", "tenant list",
		} {
			cmd := env.Command(strings.Fields(args)...)
			cmd.Env = append(cmd.Env, "CREDENT_DRIVER="+driver)
			if driver == "libpq" { // libpq otherwise sends a statement in two messages
				cmd.Env = append(cmd.Env, "DATABASE_URL="+env.URL+"&binary_parameters=yes")
			}
			if args == "rotate" {
				cmd.Env = append(cmd.Env, "ENCRYPTION_KEY="+fresh, "ENCRYPTION_KEY_PREVIOUS="+env.Key)
			}
			if args == "inventory --verified" {
				cmd.Env = append(cmd.Env, "ENCRYPTION_KEY="+fresh)
				env.Key, fresh = fresh, keyring.GenerateKey()
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s over %s: %v\n%.600s", args, driver, err, string(out))
			}
		}
	}
}
