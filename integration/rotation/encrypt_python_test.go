package rotation

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/rotate"
)

// The method that docs/encrypting.md gives the Python application for the
// window reads plaintext and tokens, and fails on malformed tokens. Without it
// plaintext fails.
func TestPythonInTheWindow(t *testing.T) {
	t.Parallel()
	method := testdb.PythonOf(t, "encrypting.md", "the window")
	method = strings.ReplaceAll(method, "\n   ", "\n")[3:] // it is in a list
	url := testdb.NewDatabase(t, "")
	testdb.Twin(t, url, "", nil, "create-all")
	p := newPlain(t, url, 6)
	p.set(t, "secret_key", 2, "")
	read := func(patched bool) (map[string]testdb.Pair, error) {
		script := "import sys; sys.path.insert(0, '../twin'); sys.argv = ['twin.py', 'read']; import models, twin\n"
		if patched {
			script += "exec(sys.stdin.read(), models.__dict__)\nmodels.EncryptedString.process_result_value = " +
				"models.process_result_value\n"
		}
		cmd := exec.CommandContext(t.Context(), testdb.Python(), "-c", script+"sys.exit(twin.main())")
		cmd.Env = append(os.Environ(), "DATABASE_URL="+url, "ENCRYPTION_KEY="+p.Key, "PYTHONDONTWRITEBYTECODE=1")
		cmd.Stdin = strings.NewReader(method)
		out, err := cmd.Output()
		if err != nil {
			return nil, err
		}
		var accounts []testdb.TwinAccount
		if err := json.Unmarshal(out, &accounts); err != nil {
			return nil, err
		}
		got := make(map[string]testdb.Pair)
		for _, c := range accounts[0].Credentials {
			got[c.ID] = testdb.Pair{APIKey: c.APIKey, SecretKey: c.SecretKey}
		}
		return got, nil
	}
	if _, err := read(false); err == nil {
		t.Error("without the method Python reads plaintext")
	}
	p.Client.UserCredential.UpdateOneID(p.ids[1]).SetAPIKey(credent.NewSecret("key 1")).ExecX(t.Context())
	for _, when := range []string{"in the window", "at its end"} {
		got, err := read(true)
		if err != nil || len(got) != len(p.ids) {
			t.Fatalf("%s: %d rows, %v", when, len(got), err)
		}
		if got[p.ids[1].String()].APIKey != "key 1" ||
			got[p.ids[2].String()] != (testdb.Pair{APIKey: "key 2", SecretKey: ""}) ||
			got[p.ids[3].String()] != (testdb.Pair{APIKey: "key 3", SecretKey: "secret 3"}) {
			t.Errorf("%s: Python read %+v", when, got)
		}
		p.encrypt(t, rotate.Config{})
	}
	if got, err := read(false); err != nil || got[p.ids[3].String()].SecretKey != "secret 3" {
		t.Errorf("with the window closed: %v, %v", got, err)
	}
	p.set(t, "api_key", 4, "gAAAA-plaintext")
	if _, err := read(true); err == nil {
		t.Error("Python accepts a malformed token as plaintext")
	}
}
