// Package memory runs the command credent on a table that is larger than what
// it may hold in memory.
package memory

import (
	"bufio"
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/credent-go/credent/internal/cli"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/keyring"
)

const (
	// rows is how many rows the table has: a command that kept all of them, or
	// each secret that doesn't open, needed more than most.
	rows = 100_000
	// most is how much of the machine's memory a command may have had at any
	// moment, in MB. That is less than a command promises: it would need more
	// if it kept the rows.
	most = 80
)

// envPeak makes the test's own binary the command, and names the file for its
// peak.
const envPeak = "CREDENT_TEST_PEAK"

func TestMain(m *testing.M) {
	path := os.Getenv(envPeak)
	if path == "" {
		testdb.Main(m)
	}
	code := cli.Main()
	if err := os.WriteFile(path, []byte(strconv.FormatInt(peak(), 10)), 0o600); err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

// peak returns the most memory that this process has had, in MB. Linux counts
// in a process's usage what the parent had when it began, so there the kernel
// is asked for the process's own.
func peak() int64 {
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		for line := range strings.Lines(string(status)) {
			var kB int64
			if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kB); n == 1 {
				return kB >> 10
			}
		}
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	if runtime.GOOS == "darwin" {
		return usage.Maxrss >> 20 // bytes
	}
	return usage.Maxrss >> 10
}

// machine is a folder with a database.
type machine struct {
	dir string
	env []string
}

// command returns a command that isn't started.
func (m *machine) command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), "GOGC=", // as by default
		envPeak+"="+filepath.Join(m.dir, "peak"), "DATABASE_URL=sqlite:credent.db")
	cmd.Env = append(append(cmd.Env, m.env...), env...)
	return cmd
}

// run runs a command with its output in a file, and returns the most memory
// that it had, in MB, and its exit code.
func (m *machine) run(t *testing.T, env []string, args ...string) (peak int64, code int) {
	t.Helper()
	out, err := os.Create(filepath.Join(m.dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	var stderr bytes.Buffer
	cmd := m.command(t, env, args...)
	cmd.Stdout, cmd.Stderr = out, &stderr
	err = cmd.Run()
	at := filepath.Join(m.dir, "peak")
	text, readErr := os.ReadFile(at)
	if readErr == nil {
		peak, readErr = strconv.ParseInt(string(text), 10, 64)
	}
	if readErr != nil {
		t.Fatalf("%s: %v, %v\n%s", strings.Join(args, " "), err, readErr, stderr.String())
	}
	if code = cmd.ProcessState.ExitCode(); code != 0 {
		t.Logf("%s: exit code %d: %s", strings.Join(args, " "), code, stderr.String())
	}
	return peak, code
}

// lines returns the number of lines of a file that have a text.
func (m *machine) lines(t *testing.T, file, with string) int {
	t.Helper()
	in, err := os.Open(filepath.Join(m.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	n, lines := 0, bufio.NewScanner(in)
	for lines.Scan() {
		if bytes.Contains(lines.Bytes(), []byte(with)) {
			n++
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// fill makes the tables, and n rows with the token of one credential.
func (m *machine) fill(t *testing.T, n int) {
	t.Helper()
	for _, args := range [][]string{{"migrate", "apply"}, {"account", "add", "--user", "u-1", "--name", "Ada"}} {
		if _, code := m.run(t, nil, args...); code != 0 {
			t.FailNow()
		}
	}
	one := `{"user_id": "u-1", "credential_type": "alpaca", "api_key": "PK", "secret_key": "secret"}`
	if err := os.WriteFile(filepath.Join(m.dir, "one.jsonl"), []byte(one), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, code := m.run(t, nil, "credential", "import", "one.jsonl"); code != 0 {
		t.FailNow()
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(m.dir, "credent.db")+"?_pragma=synchronous(off)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), fmt.Sprintf(`INSERT INTO user_credentials
		(id, user_account_id, user_id, credential_type, api_key, secret_key, api_key_index)
		WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		SELECT printf('00000000-0000-4000-8000-%%012d', i), user_account_id, user_id, credential_type,
			api_key, secret_key, api_key_index
		FROM n, user_credentials`, n-1)); err != nil {
		t.Fatal(err)
	}
}

// TestMemoryIsBounded runs what reads or writes all rows. Each command needs
// about as much memory as on an empty table, and says all that there is.
func TestMemoryIsBounded(t *testing.T) {
	m := &machine{dir: t.TempDir()}
	right, other := "ENCRYPTION_KEY="+keyring.GenerateKey(), "ENCRYPTION_KEY="+keyring.GenerateKey()
	m.env = []string{right}
	m.fill(t, rows)
	var file strings.Builder
	for i := range rows {
		user := "u-1"
		if i%2 == 1 {
			user = "nobody"
		}
		fmt.Fprintf(&file, `{"user_id": %q, "credential_type": "alpaca", "api_key": "PK%d", "secret_key": "s"}`+"\n",
			user, i)
	}
	if err := os.WriteFile(filepath.Join(m.dir, "many.jsonl"), []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	earlier := strings.Replace(right, "ENCRYPTION_KEY=", "ENCRYPTION_KEY_PREVIOUS=", 1)
	const unknown = "no key in the keyring"
	for _, test := range []struct {
		name       string
		env        []string
		args       string
		code       int
		file, with string
		lines      int
	}{
		{"list", nil, "credential list", 0, "out", " u-1 ", rows},
		{"list as JSON", nil, "credential list --json", 0, "out", `"id": `, rows},
		{"export", nil, "credential export", 0, "out", ",u-1,", rows},
		{
			"import", nil, "credential import many.jsonl --dry-run --quarantine refused", 1,
			"refused", "no account of its user_id", rows / 2,
		},
		{"doctor with another key", []string{other}, "doctor", 1, "out", "and 99980 more", 2},
		{
			"verify with another key",
			[]string{other},
			"verify --no-record --quarantine verified", 1,
			"verified", unknown, 2 * rows,
		},
		{"rotate with another key", []string{other}, "rotate --quarantine rotated", 3, "rotated", unknown, 2*rows + 2},
		{"rotate", []string{other, earlier}, "rotate", 0, "out", "100000 rewritten", 1},
		{"verify", []string{other}, "verify", 0, "out", "100000   under the primary key", 2},
	} {
		peak, code := m.run(t, test.env, strings.Fields(test.args)...)
		t.Logf("%s: %d MB", test.name, peak)
		if peak > most {
			t.Errorf("%s: it had %d MB of memory, and may have %d", test.name, peak, most)
		}
		if n := m.lines(t, test.file, test.with); code != test.code || n != test.lines {
			t.Errorf("%s: exit code %d with %d lines, want %d with %d", test.name, code, n, test.code, test.lines)
		}
	}
}

// TestQuarantineOfKilled kills a command that lists secrets. What it listed is
// whole, and the next run adds to it.
func TestQuarantineOfKilled(t *testing.T) {
	const few = 20_000
	m := &machine{dir: t.TempDir(), env: []string{"ENCRYPTION_KEY=" + keyring.GenerateKey()}}
	m.fill(t, few)
	other := []string{"ENCRYPTION_KEY=" + keyring.GenerateKey()}
	cmd := m.command(t, other, "rotate", "--quarantine", "bad.jsonl")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range time.Tick(time.Millisecond) {
		info, err := os.Stat(filepath.Join(m.dir, "bad.jsonl"))
		if err == nil && info.Size() > 0 {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("it lists nothing")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	before := m.valid(t)
	if n := len(before); n == 0 || n > 2*few {
		t.Errorf("%d secrets are listed", n)
	}
	if _, code := m.run(t, other, "rotate", "--quarantine", "bad.jsonl"); code != 3 {
		t.Errorf("exit code %d", code)
	}
	if all := m.valid(t); len(all) != 2*few+2 { // and the canaries
		t.Errorf("%d secrets are listed, want %d", len(all), 2*few+2)
	}
}

// valid returns the secrets in bad.jsonl. All its lines must be valid except
// one without an end.
func (m *machine) valid(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.dir, "bad.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	broken, secrets := 0, make(map[string]bool)
	for line := range bytes.Lines(text) {
		var q struct{ Table, Column, Row, Reason string }
		if err := json.Unmarshal(line, &q); err != nil || q.Reason == "" {
			broken++
			continue
		}
		secrets[q.Column+" "+q.Row] = true
	}
	if broken > 1 {
		t.Errorf("%d lines are no objects", broken)
	}
	return secrets
}
