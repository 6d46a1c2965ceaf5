//go:build linux || darwin

package outages_test

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/rotate"
)

// command returns the command credent on a world, with the new key.
func (w *world) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(cmd.Environ(), envCommand+"=1", "DATABASE_URL="+w.url, "ENCRYPTION_KEY="+w.newKey,
		"ENCRYPTION_KEY_PREVIOUS="+w.oldKey)
	if w.driver == "postgres" {
		cmd.Env = append(cmd.Env, "CREDENT_DRIVER=libpq")
	}
	cmd.Dir = t.TempDir()
	return cmd
}

// result is how a command ended.
type result struct {
	code        int
	out, errors string
}

func run1(cmd *exec.Cmd) func() result {
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Start()
	return func() result {
		if err == nil {
			err = cmd.Wait()
		}
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit):
			return result{exit.ExitCode(), out.String(), errs.String()}
		case err != nil:
			return result{-1, "", err.Error()}
		}
		return result{0, out.String(), errs.String()}
	}
}

// run runs a command to its end.
func (w *world) run(t *testing.T, args ...string) result {
	t.Helper()
	return run1(w.command(t, args...))()
}

// whileLocked locks a table, starts a command, and calls f with the server
// process that waits for it, and then gives the table back.
func (w *world) whileLocked(t *testing.T, table string, cmd *exec.Cmd, f func(pid int)) result {
	t.Helper()
	tx, err := w.admin.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), "LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	wait := run1(cmd)
	f(w.waiting(t))
	if err := tx.Rollback(); err != nil && !strings.Contains(err.Error(), "bad connection") {
		t.Error(err)
	}
	return wait()
}

// waiting returns the server process that waits for a lock.
func (w *world) waiting(t *testing.T) (pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); pid == 0; time.Sleep(5 * time.Millisecond) {
		if err := w.admin.QueryRowContext(t.Context(), `SELECT coalesce(max(pid), 0) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&pid); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing waits for the table")
		}
	}
	return pid
}

// terminate ends the session that waits, and those that take its place: a
// statement outside a transaction is tried three times by database/sql, over
// lib/pq.
func (w *world) terminate(t *testing.T, times int) func(pid int) {
	t.Helper()
	return func(pid int) {
		for i := range times {
			if i > 0 {
				pid = w.waiting(t)
			}
			var ended bool
			if err := w.admin.QueryRowContext(t.Context(), "SELECT pg_terminate_backend($1)",
				pid).Scan(&ended); err != nil || !ended {
				t.Errorf("end session %d: %t, %v", pid, ended, err)
			}
			for gone := false; !gone; {
				if err := w.admin.QueryRowContext(t.Context(),
					"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", pid).Scan(&gone); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

const goesOn = "credent: the connection to the database was lost"

// TestCommandsGoOn ends the session of each long command in the middle.
func TestCommandsGoOn(t *testing.T) {
	t.Parallel()
	const n = 100
	for name, c := range map[string]struct {
		args  []string
		check func(t *testing.T, w *world, r result)
	}{
		"rotate": {[]string{"rotate", "--batch", "10"}, func(t *testing.T, w *world, r result) {
			t.Helper()
			if want := "100 rows read, 100 rewritten\n"; !strings.Contains(r.out, want) {
				t.Errorf("got %q, want %q", r.out, want)
			}
			counts, err := rotate.Verify(t.Context(), w.admin, w.new)
			if err != nil || counts.Err() != nil {
				t.Errorf("%v, %v", err, counts.Err())
			}
		}},
		"verify": {[]string{"verify", "--json"}, func(t *testing.T, _ *world, r result) {
			t.Helper()
			var counts rotate.Counts
			if err := json.Unmarshal([]byte(r.out), &counts); err != nil || counts[0].Rows != n {
				t.Errorf("got %v, %s", err, r.out)
			}
		}},
		"export": {[]string{"credential", "export"}, func(t *testing.T, _ *world, r result) {
			t.Helper()
			checkCSV(t, r.out, n)
		}},
		"export to a file": {[]string{"credential", "export", "--output", "out.csv"}, func(*testing.T, *world,
			result) {
		}},
		"import": {[]string{"credential", "import", "--batch", "10", "more.csv"}, func(t *testing.T, w *world,
			r result,
		) {
			t.Helper()
			if !strings.Contains(r.out, "imported 50 rows\n") {
				t.Errorf("got %q", r.out)
			}
			var rows int
			if err := w.admin.QueryRowContext(t.Context(), "SELECT count(*) FROM "+
				"user_credentials").Scan(&rows); err != nil || rows != n+50 {
				t.Errorf("%d rows: %v", rows, err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "postgres")
			w.fill(t, n)
			cmd := w.command(t, c.args...)
			writeCSV(t, filepath.Join(cmd.Dir, "more.csv"), 50)
			times, code := 1, 0
			if name == "rotate" || name == "verify" {
				times = 3
			}
			if name == "verify" { // they are under the old key
				code = 1
			}
			r := w.whileLocked(t, "user_credentials", cmd, w.terminate(t, times))
			if r.code != code || !strings.Contains(r.errors, goesOn) ||
				!strings.Contains(r.errors, "; trying again in ") {
				t.Errorf("exit code %d, %q, %q", r.code, r.out, r.errors)
			}
			c.check(t, w, r)
			if name == "export to a file" {
				content, err := os.ReadFile(filepath.Join(cmd.Dir, "out.csv"))
				if err != nil {
					t.Fatal(err)
				}
				checkCSV(t, string(content), n)
			}

			// Without trying again it says what happened and what to do.
			cmd = w.command(t, append(c.args, "--retry-for", "0")...)
			writeCSV(t, filepath.Join(cmd.Dir, "more.csv"), 50)
			r = w.whileLocked(t, "user_credentials", cmd, w.terminate(t, times))
			if r.code != 1 || !strings.Contains(r.errors, "the connection to the database was lost") ||
				!strings.Contains(r.errors, "run the same again") {
				t.Errorf("exit code %d, %q, %q", r.code, r.out, r.errors)
			}
			if name == "verify" && !strings.Contains(r.errors, `"kind":"connection_lost"`) {
				t.Errorf("got %q", r.errors)
			}
			if _, err := os.Stat(filepath.Join(cmd.Dir, "out.csv")); err == nil {
				t.Error("a file is there that was not written to its end")
			}
		})
	}
}

// TestCommandsBeginAndEnd ends the session of a command before its work, while
// it looks at the database, or after it.
func TestCommandsBeginAndEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ table, command string }{
		"migrations":      {"atlas_schema_revisions.atlas_schema_revisions", "rotate"},
		"the trail":       {"credent_states", "rotate"},
		"heads to sign":   {"credent_audit", "rotate"},
		"verification":    {"credent_verifications", "verify"},
		"import, tenants": {"credent_tenant_keys", "credential import more.csv"},
		"export, tenants": {"credent_tenant_keys", "credential export"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "pgx")
			w.old = w.new
			w.fill(t, 3)
			cmd := w.command(t, strings.Fields(c.command)...)
			writeCSV(t, filepath.Join(cmd.Dir, "more.csv"), 1)
			r := w.whileLocked(t, c.table, cmd, w.terminate(t, 1))
			if r.code != 0 || !strings.Contains(r.errors, goesOn) || strings.Contains(r.errors, "not recorded") {
				t.Errorf("exit code %d, %q, %q", r.code, r.out, r.errors)
			}
		})
	}
}

func writeCSV(t *testing.T, path string, n int) {
	t.Helper()
	var b strings.Builder
	b.WriteString("user_id,credential_type,api_key,secret_key\n")
	for i := range n {
		fmt.Fprintf(&b, "%s,polygon,a%d,s%d\n", userID, i, i)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func checkCSV(t *testing.T, text string, n int) {
	t.Helper()
	records, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	seen := make(map[string]bool)
	for _, r := range records {
		seen[r[0]] = true
	}
	if err != nil || len(records) != n+1 || len(seen) != n+1 {
		t.Errorf("%d lines, %d different ones: %v", len(records), len(seen), err)
	}
}

// TestCommandsInterrupted interrupts each long command while it waits.
func TestCommandsInterrupted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"rotate": {[]string{"rotate"}, "credent: stopped after 0 rows; run `credent rotate` again to go on\n"},
		"verify": {[]string{"verify"}, "credent: interrupted; it changed nothing, and begins anew\n"},
		"export": {[]string{"credential", "export"}, "credent: stopped after 0 rows; the output lacks the rest, " +
			"and the next run begins anew\n"},
		"import": {[]string{"credential", "import", "more.csv"}, "go on with --continue "},
	} {
		for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			t.Run(name+" "+signal.String(), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, "postgres")
				w.fill(t, 10)
				cmd := w.command(t, c.args...)
				writeCSV(t, filepath.Join(cmd.Dir, "more.csv"), 50)
				tx, err := w.admin.BeginTx(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = tx.Rollback() }()
				if _, err := tx.ExecContext(t.Context(), "LOCK TABLE user_credentials IN ACCESS EXCLUSIVE "+
					"MODE"); err != nil {
					t.Fatal(err)
				}
				wait := run1(cmd)
				w.waiting(t)
				if err := cmd.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				r := wait()
				if r.code != 130 || !strings.Contains(r.errors, c.want) {
					t.Errorf("exit code %d, %q, want %q", r.code, r.errors, c.want)
				}
			})
		}
	}
}

// TestServerCrash kills a process of the server, which makes it end all
// sessions and recover.
func TestServerCrash(t *testing.T) {
	t.Parallel()
	crashing, err := startPrivate(t)
	if err != nil {
		t.Fatal(err)
	}
	url, _, err := crashing.CreateDatabase(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := migrated(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	for _, driver := range drivers {
		w := worldAt(t, driver, url, url)
		const n = 200
		w.exec(t, "DELETE FROM user_credentials")
		stored, err := testopt.Copy(t.Context(), w.db, crashAfter(t, w, rows(n), n/2), credent.CopyConfig{Batch: 10},
			testopt.WithKeyring(w.new))
		if err != nil || stored != n {
			t.Fatalf("%s: %d rows are stored: %v", driver, stored, err)
		}
		w.admin = openPool(t, "postgres", url) // the crash cut the other one's connections
		w.check(t, n, w.new)
	}
}
