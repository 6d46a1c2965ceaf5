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

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/testdb/bare"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

// TestFollowGoesOn ends the sessions of audit list --follow: it misses
// no entry, and stops at a signal.
func TestFollowGoesOn(t *testing.T) {
	t.Parallel()
	databaseURL, drop, err := bare.Server(t).CreateDatabase(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = drop() })
	db, err := sql.Open("pgx", databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := testopt.Apply(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	trail, err := audit.Open(t.Context(), db, "postgres", audit.Config{Keyring: ring, Mode: audit.Sync})
	if err != nil {
		t.Fatal(err)
	}
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

	command, err := exec.LookPath("credent")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), command, "audit", "list", "--follow", "--json")
	cmd.Env = append(os.Environ(), "DATABASE_URL="+databaseURL, "PGAPPNAME=credent-follow")
	var stderr strings.Builder
	cmd.Stderr = &stderr
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
		if _, err := db.ExecContext(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'credent-follow'`); err != nil {
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
