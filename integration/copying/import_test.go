package copying

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
)

// TestImportKilled kills imports at random moments and resumes them: each row
// of the file ends up stored once.
func TestImportKilled(t *testing.T) {
	t.Parallel()
	const rows = 6000
	env := testdb.New(t)
	env.Account(t, "u1")
	env.Account(t, "u2")
	var file bytes.Buffer
	file.WriteString("user_id,credential_type,api_key,secret_key\n")
	for i := range rows {
		fmt.Fprintf(&file, "u%d,alpaca,key-%d,secret-%d\n", 1+i%2, i, i)
	}
	path := filepath.Join(t.TempDir(), "credentials.csv")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}

	args := []string{"credential", "import", path, "--batch", "100"}
	killed := 0
	for kill := range 8 {
		cmd := env.Command(args...)
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if kill == 0 {
			line, err := bufio.NewReader(stderr).ReadString('\n')
			fields := strings.Fields(line)
			if err != nil || len(fields) < 3 || fields[1] != "import" {
				t.Fatalf("got %q, %v", line, err)
			}
			args = append(args, "--continue", fields[2])
		}
		before := countOf(t, env)
		for deadline := time.Now().Add(time.Minute); countOf(t, env) <= before && before < rows; {
			if time.Now().After(deadline) {
				t.Fatal("the import stores nothing")
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(kill) * 3 * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if cmd.Wait() != nil {
			killed++
		}
	}
	t.Logf("killed %d imports, the last with %d rows in", killed, countOf(t, env))
	if killed < 3 {
		t.Errorf("killed only %d imports: the file is too short for this machine", killed)
	}

	out, err := env.Command(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.HasPrefix(string(out), "imported ") || !strings.Contains(string(out), "in already") {
		t.Errorf("got %q", out)
	}
	seen := make(map[string]bool)
	stored := env.Client.UserCredential.Query().Order(usercredential.ByID()).AllX(t.Context())
	for _, c := range stored {
		apiKey, secretKey := testdb.Reveal(t, c.APIKey), testdb.Reveal(t, c.SecretKey)
		if strings.TrimPrefix(apiKey, "key-") != strings.TrimPrefix(secretKey, "secret-") {
			t.Fatal("a row has secrets of two rows")
		}
		seen[apiKey] = true
	}
	if len(stored) != rows || len(seen) != rows {
		t.Errorf("got %d rows, %d different ones, want %d", len(stored), len(seen), rows)
	}
}

// TestImportInterrupted interrupts an import that is waiting for more input.
func TestImportInterrupted(t *testing.T) {
	t.Parallel()
	env := testdb.New(t)
	env.Account(t, "u1")
	cmd := env.Command("credential", "import", "--format", "jsonl", "--batch", "10", "-")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := `{"user_id":"u1","credential_type":"alpaca","api_key":"PLAIN-key","secret_key":"PLAIN-secret"}` + "\n"
	if _, err := io.WriteString(stdin, strings.Repeat(line, 505)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); countOf(t, env) < 500; {
		if time.Now().After(deadline) {
			t.Fatal("the import stores nothing")
		}
		time.Sleep(time.Millisecond)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // exits with 130
	want := regexp.MustCompile(`(?m)^credent: stopped: 500 rows are in; go on with --continue [0-9a-f-]{36}$`)
	if code := cmd.ProcessState.ExitCode(); code != 130 || out.Len() > 0 || !want.MatchString(errs.String()) {
		t.Errorf("exit code %d, %q, %q", code, &out, &errs)
	}
	if n := countOf(t, env); n != 500 {
		t.Errorf("%d rows are stored", n)
	}
	if strings.Contains(errs.String(), "PLAIN") {
		t.Error("a value was printed")
	}
}

// TestExportSnapshot exports several pages from Postgres and imports them into
// another database.
func TestExportSnapshot(t *testing.T) {
	t.Parallel()
	env := testdb.New(t)
	env.Account(t, "u1")
	if _, err := copyInto(t, env, testdb.Sequence(testdb.CopyRows(2345, "u1")...), credent.CopyConfig{}); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := env.Command("credential", "export", "--reveal", "--format", "jsonl")
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Fatalf("%v: %s", err, &errs)
	}
	if n := strings.Count(out.String(), "\n"); n != 2345 {
		t.Fatalf("got %d lines", n)
	}
	other := testdb.New(t)
	other.Account(t, "u1")
	into := other.Command("credential", "import", "--format", "jsonl", "-")
	into.Stdin = bytes.NewReader(out.Bytes())
	if text, err := into.CombinedOutput(); err != nil || string(text) != "imported 2345 rows\n" {
		t.Fatalf("%v: %s", err, text)
	}
	var again bytes.Buffer
	cmd = other.Command("credential", "export", "--reveal", "--format", "jsonl")
	cmd.Stdout = &again
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("the second database's export differs from the first's")
	}
}
