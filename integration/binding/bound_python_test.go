package binding

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testdb"
)

// boundPython returns the Python code in docs/binding.md, which must stay at
// ten lines.
func boundPython(t *testing.T) string {
	t.Helper()
	code := testdb.PythonOf(t, "binding.md", "a bound token")
	lines := 0
	for line := range strings.Lines(code) {
		if strings.TrimSpace(line) != "" {
			lines++
		}
	}
	if lines > 10 {
		t.Fatalf("docs/binding.md has %d lines of Python", lines)
	}
	return code
}

// TestPythonReadsBoundTokens runs the page's code: Python opens tokens bound by
// Go, and Go opens tokens bound by Python.
func TestPythonReadsBoundTokens(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		env.Client = env.OnPool(env.IsBound()...)
		type row struct {
			Tenant    string
			APIKey    string `json:"api_key"`
			SecretKey string `json:"secret_key"`
		}
		var given, want []row
		for name, secrets := range testdb.TwinSecrets {
			user := name + "-ключ"
			id := env.Credential(t, env.Account(t, user), secrets[0], secrets[1]).ID
			stored := env.Tokens(t)[id]
			given = append(given, row{user, stored.APIKey, stored.SecretKey})
			want = append(want, row{user, secrets[0], secrets[1]})
		}
		input, err := json.Marshal(given)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(ctx, testdb.Python(), "-c", boundPython(t)+`
import json, os, sys

rows, made, key = json.load(sys.stdin), [], os.environ["ENCRYPTION_KEY"]
for row in rows:
    for column in ("api_key", "secret_key"):
        fernet = bound(key, "user_credentials", column, row["Tenant"])
        row[column] = fernet.decrypt(row[column]).decode()
        made.append(fernet.encrypt(("by Python: " + row[column][:80]).encode()).decode())
print(json.dumps([rows, made]))
`)
		cmd.Stdin = bytes.NewReader(input)
		cmd.Env = append(os.Environ(), "ENCRYPTION_KEY="+env.Key, "PYTHONIOENCODING=utf-8")
		out, err := cmd.Output()
		if err != nil {
			var exit *exec.ExitError
			errors.As(err, &exit)
			t.Fatalf("%v\n%s", err, exit.Stderr)
		}
		var got []row
		var made []string
		if err := json.Unmarshal(out, &[]any{&got, &made}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Python read (-want +got):\n%s", diff)
		}
		for i, r := range want {
			env.Exec(t, "UPDATE user_credentials SET api_key = $1, secret_key = $2 WHERE user_id = $3", made[2*i],
				made[2*i+1], r.Tenant)
		}
		for _, c := range env.Client.UserCredential.Query().AllX(ctx) {
			for _, s := range []credent.Secret{c.APIKey, c.SecretKey} {
				if got := testdb.Reveal(t, s); !strings.HasPrefix(got, "by Python: ") {
					t.Errorf("%s: %q", c.UserID, got)
				}
			}
		}
	})
}
