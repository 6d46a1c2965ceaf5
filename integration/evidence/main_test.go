// Package evidence tests the report for an auditor.
package evidence

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/internal/testdb"
)

// TestMain runs the tests, or the command credent in a child process.
func TestMain(m *testing.M) { testdb.Main(m) }

// made is the printed and written output of a command.
type made struct {
	report.Report
	page, text, notes string
	code              int
}

// reportOf runs credent report on the environment's database.
func reportOf(t *testing.T, env *testdb.Env, args ...string) (m made) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "evidence.html")
	cmd := env.Command(append([]string{"report", "--html", file, "--json"}, args...)...)
	if env.Key == "" {
		cmd.Env = slices.DeleteFunc(cmd.Env, func(s string) bool { return strings.HasPrefix(s, "ENCRYPTION_KEY") })
	}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		m.code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	m.text, m.notes = stdout.String(), stderr.String()
	if m.code != 0 && m.code != 1 && m.code != 3 {
		t.Fatalf("report: exit code %d: %s", m.code, m.notes)
	}
	d := json.NewDecoder(strings.NewReader(m.text))
	d.DisallowUnknownFields()
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m.page = string(page)
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	var whole map[string]any
	if err := json.Unmarshal([]byte(m.text), &whole); err != nil {
		t.Fatalf("%v: %s", err, m.text)
	}
	for name, value := range whole {
		if value == nil {
			t.Errorf("%s is null", name)
		}
	}
	if err := d.Decode(&m.Report); err != nil {
		t.Fatalf("%v: %s", err, m.text)
	}
	return m
}

// keep stores the canaries of the environment's key.
func keep(t *testing.T, env *testdb.Env) {
	t.Helper()
	if out, err := env.Command("migrate", "apply").CombinedOutput(); err != nil {
		t.Fatalf("migrate apply: %v: %s", err, out)
	}
}

// finds fails the test unless page and document have a finding with the text.
func (m made) finds(t *testing.T, part, text string) {
	t.Helper()
	for _, f := range m.Findings {
		if f.Part == part && strings.Contains(f.Text, text) {
			return
		}
	}
	t.Errorf("no finding in %s says %q: %v", part, text, m.Findings)
}

// lacks fails the test unless they have a gap with the text.
func (m made) lacks(t *testing.T, part, text string) {
	t.Helper()
	for _, g := range m.Gaps {
		if g.Part == part && strings.Contains(g.What+": "+g.Why, text) {
			return
		}
	}
	t.Errorf("no gap in %s says %q: %v", part, text, m.Gaps)
}

// credentials returns the report's table of credentials.
func (m made) credentials(t *testing.T) report.Table {
	t.Helper()
	const name = "user_credentials"
	for _, table := range m.Tables {
		if table.Name == name {
			return table
		}
	}
	t.Fatalf("there is no table %s: %v", name, m.Tables)
	return report.Table{}
}

func (m made) access(role, table string) report.Access {
	for _, r := range m.RowSecurity.Roles {
		for _, a := range r.Access {
			if r.Name == role && a.Table == table {
				return a
			}
		}
	}
	return report.Access{}
}
