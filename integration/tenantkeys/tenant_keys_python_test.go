package tenantkeys

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/testdb"
)

// Python reads secrets under a tenant's key, as docs/tenant-keys.md says.
func TestPythonReadsTenantKeys(t *testing.T) {
	t.Parallel()
	code := testdb.PythonOf(t, "tenant-keys.md", "a tenant's key")
	forEachTenantedPostgres(t, func(t *testing.T, e *tenanted) {
		for user := range e.accounts {
			if err := e.create(e.fresh(t).UserCredential, user).Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		rows := testdb.Lines(t, e.DB, "SELECT json_build_array(c.user_id, k.wrapped, c.api_key) FROM "+
			"user_credentials c JOIN credent_tenant_keys k ON k.tenant = c.user_id ORDER BY c.user_id")
		cmd := exec.CommandContext(t.Context(), testdb.Python(), "-c", code+`
import json, os, sys

print(json.dumps([of_tenant(os.environ["ENCRYPTION_KEY"], tenant, wrapped).decrypt(token).decode() for tenant, wrapped, token in json.load(sys.stdin)]))
`)
		cmd.Stdin = strings.NewReader("[" + strings.Join(rows, ",") + "]")
		cmd.Env = append(os.Environ(), "ENCRYPTION_KEY="+e.Key)
		out, err := cmd.Output()
		if err != nil {
			var exit *exec.ExitError
			errors.As(err, &exit)
			t.Fatalf("%v\n%s", err, exit.Stderr)
		}
		var got []string
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, ", ") != "PK of u1, PK of u2" {
			t.Errorf("Python read %q", got)
		}
	})
}
