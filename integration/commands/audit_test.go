package commands

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/testdb/bare"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// withTrail makes a database with an audit trail that is open.
func withTrail(t *testing.T) (databaseURL, key string, db *sql.DB, trail *audit.Trail) {
	t.Helper()
	databaseURL = bare.NewDatabase(t, "")
	db, err := sql.Open("pgx", databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := testopt.Apply(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	key = keyring.GenerateKey()
	ring, err := keyring.New(key)
	if err != nil {
		t.Fatal(err)
	}
	trail, err = audit.Open(t.Context(), db, "postgres", audit.Config{Keyring: ring, Mode: audit.Sync})
	if err != nil {
		t.Fatal(err)
	}
	return databaseURL, key, db, trail
}

// credentCommand is the command with a name for its sessions.
func credentCommand(t *testing.T, databaseURL, key string, args ...string) (cmd *exec.Cmd, stderr *strings.Builder) {
	t.Helper()
	path, err := exec.LookPath("credent")
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+databaseURL, "ENCRYPTION_KEY="+key, "PGAPPNAME=credent-test")
	stderr = new(strings.Builder)
	cmd.Stderr = stderr
	return cmd, stderr
}

const sessions = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'credent-test'"

// TestAuditGoesOn ends the session of audit list and verify in the middle: they
// say so, start over, and have the whole answer.
func TestAuditGoesOn(t *testing.T) {
	t.Parallel()
	databaseURL, key, db, trail := withTrail(t)
	entry := audit.Entry{Action: audit.ActionUpdate, Row: "row-1"}
	if err := errors.Join(trail.Add(t.Context(), entry), trail.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]string{"list": "row-1", "verify": "Verified     3"} {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), "LOCK TABLE credent_audit IN ACCESS EXCLUSIVE MODE"); err != nil {
			t.Fatal(err)
		}
		cmd, stderr := credentCommand(t, databaseURL, key, append([]string{"audit"}, strings.Fields(command)...)...)
		var stdout strings.Builder
		cmd.Stdout = &stdout
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := false
		for deadline := time.Now().Add(time.Minute); !ended; time.Sleep(5 * time.Millisecond) {
			if err := db.QueryRowContext(t.Context(), `SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) `+
				sessions+" AND wait_event_type = 'Lock'").Scan(&ended); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s doesn't wait for the table: %s", command, stderr)
			}
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil || !strings.Contains(stdout.String(), want) {
			t.Errorf("%s: %v, %q, %q", command, err, stdout.String(), stderr.String())
		}
		if !strings.Contains(stderr.String(), "the connection to the database was lost: ") {
			t.Errorf("%s: it says %q", command, stderr.String())
		}
	}
}

// TestListSaysWhatIsLate has a transaction open that began before an entry's: a
// list in the order of commits lacks the entry, and says so.
func TestListSaysWhatIsLate(t *testing.T) {
	t.Parallel()
	databaseURL, key, db, trail := withTrail(t)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "SELECT txid_current()"); err != nil {
		t.Fatal(err)
	}
	entry := audit.Entry{Action: audit.ActionUpdate, Row: "row-1"}
	if err := errors.Join(trail.Add(t.Context(), entry), trail.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	for command, late := range map[string]bool{"list": false, "list --limit 5": true, "list --after 0": true} {
		cmd, stderr := credentCommand(t, databaseURL, key, append([]string{"audit"}, strings.Fields(command)...)...)
		out, err := cmd.Output()
		if listed := strings.Contains(string(out), "row-1"); err != nil || listed == late ||
			strings.Contains(stderr.String(), "the newest entries are not listed") != late {
			t.Errorf("%s: %v, %q, %q", command, err, out, stderr)
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
}

// TestFollowGoesOn ends the sessions of audit list --follow: it misses no
// entry, and stops at a signal.
func TestFollowGoesOn(t *testing.T) {
	t.Parallel()
	databaseURL, key, db, trail := withTrail(t)
	written := 0
	write := func() {
		t.Helper()
		written++
		e := audit.Entry{Action: audit.ActionReveal, Row: fmt.Sprintf("row-%d", written), Outcome: audit.OutcomeOK}
		if err := trail.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	write()

	cmd, stderr := credentCommand(t, databaseURL, key, "audit", "list", "--follow", "--json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	read := func() {
		t.Helper()
		if want := fmt.Sprintf(`"row":"row-%d"`, written); !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Fatalf("got %q, want %s: %v, %s", lines.Text(), want, lines.Err(), stderr.String())
		}
	}
	read()
	for range 3 {
		if _, err := db.ExecContext(t.Context(), "SELECT pg_terminate_backend(pid) "+sessions); err != nil {
			t.Fatal(err)
		}
		write()
		read()
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if lines.Scan() {
		t.Errorf("more: %s", lines.Text())
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 {
		t.Errorf("it ended with %v: %s", err, stderr.String())
	}
	if err := trail.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAuditRoles has each role do what it may: an auditor reads and verifies
// all, with app.user_id one tenant's, and says that it isn't all; a service
// does neither.
func TestAuditRoles(t *testing.T) {
	t.Parallel()
	databaseURL, key, _, trail := withTrail(t)
	for _, tenant := range []string{"u-1", "u-2"} {
		e := audit.Entry{Action: audit.ActionUpdate, Tenant: tenant, Row: "row-of-" + tenant}
		if err := trail.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	old := audit.Entry{Action: audit.ActionUpdate, Tenant: "u-2", Row: "old", At: time.Now().AddDate(0, -2, 0)}
	if err := errors.Join(trail.Add(t.Context(), old), trail.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	const (
		auditor = "-c%20role%3Dcredent_auditor"
		hides   = "row-level security hides entries from this role"
		denied  = "permission denied for table credent_audit"
	)
	for _, test := range []struct {
		role, command string
		code          int
		out           []string // in standard output; nil for nothing there
		errors        string   // in standard error; "" for nothing there
	}{
		{auditor, "list", 0, []string{"row-of-u-1", "row-of-u-2"}, ""},
		{auditor, "verify", 0, []string{"Verified     5"}, ""},
		{auditor, "checkpoint", 0, []string{`"seq":5`}, "this role may not add entries"},
		{auditor, "archive --before 2999-01-01 --to archive.jsonl --yes", 1, nil, denied},
		{auditor + "%20-c%20app.user_id%3Du-1", "list", 0, []string{"row-of-u-1"}, hides},
		{auditor + "%20-c%20app.user_id%3Du-1", "verify", 1, nil, hides},
		{"-c%20role%3Dcredent_app", "list", 1, nil, denied},
		{"-c%20role%3Dcredent_app", "verify", 1, nil, hides},
	} {
		name := test.role + " " + test.command
		cmd, stderr := credentCommand(t, databaseURL+"&options="+test.role, key,
			append([]string{"audit"}, strings.Fields(test.command)...)...)
		cmd.Dir = t.TempDir()
		var stdout strings.Builder
		cmd.Stdout = &stdout
		_ = cmd.Run() // the code is compared
		if code := cmd.ProcessState.ExitCode(); code != test.code {
			t.Errorf("%s: exit code %d: %s", name, code, stderr)
		}
		for _, want := range test.out {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("%s: got %q, want %q", name, stdout.String(), want)
			}
		}
		if strings.Contains(name, "u-1") && strings.Contains(stdout.String(), "row-of-u-2") {
			t.Errorf("%s: it lists another tenant's", name)
		}
		if test.out == nil && stdout.Len() > 0 {
			t.Errorf("%s: got %q", name, stdout.String())
		}
		if !strings.Contains(stderr.String(), test.errors) || test.errors == "" && stderr.Len() > 0 {
			t.Errorf("%s: it says %q, want %q", name, stderr, test.errors)
		}
		if files, err := os.ReadDir(cmd.Dir); err != nil || len(files) > 0 {
			t.Errorf("%s: it left %v, %v", name, files, err)
		}
	}
}
