//go:build linux || darwin

package outages_test

import (
	"encoding/json"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// TestErrorsSayWhatToDo makes the server refuse, and checks that the commands
// say what happened and what to do.
func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "postgres")
	w.fill(t, 3)
	w.exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN RAISE EXCEPTION ''no more'' USING ERRCODE = current_setting(''credent_test.state''); END'`)
	w.exec(t, "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON user_credentials FOR EACH ROW EXECUTE FUNCTION "+
		"refuse()")
	for state, want := range map[string]struct{ kind, message, hint string }{
		"53100": {"no_space", "the database server has no space or memory left", "make room on the server"},
		"53200": {"no_space", "the database server has no space or memory left", "make room on the server"},
		"53400": {"no_space", "a limit set for it is reached", "raise the limit"},
		"53300": {"too_many_connections", "no free connection", "max_connections"},
		"25P03": {"idle_timeout", "a session that was idle for too long", "idle_in_transaction_session_timeout"},
		"57P05": {"idle_timeout", "a session that was idle for too long", "idle_session_timeout"},
		"25P04": {"statement_timeout", "a statement that took too long", "statement_timeout"},
		"57014": {"statement_timeout", "a statement that took too long", "statement_timeout"},
		"55P03": {"locked", "holds a lock for too long", "end the transaction that holds it"},
		"40P01": {"conflict", "another transaction was given precedence", "run the same again"},
		"40001": {"conflict", "another transaction was given precedence", "run the same again"},
		"57P01": {"connection_lost", "the connection to the database was lost", "see that the server is up"},
		"57P03": {"server_down", "the database server is down", "start the server"},
		"08006": {"connection_lost", "the connection to the database was lost", "see that the server is up"},
		"25006": {"standby", "it is a standby, or the session is read-only", "use the primary in DATABASE_URL"},
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			own := *w
			own.url = withOptions(t, w.url, "-c credent_test.state="+state)
			for _, args := range [][]string{
				{"rotate", "--retry-for", "0", "--json"},
				{"rotate", "--retry-for", "0"},
				{"credential", "import", "--retry-for", "0", "more.csv"},
				{
					"credential", "import", "--retry-for",
					"300ms", "more.csv",
				},
			} {
				cmd := own.command(t, args...)
				writeCSV(t, filepath.Join(cmd.Dir, "more.csv"), 10)
				r := run1(cmd)()
				// Progress may come before the error.
				lines := strings.Split(strings.TrimSpace(r.errors), "\n")
				told := lines[len(lines)-1]
				if args[len(args)-1] != "--json" {
					told = r.errors
				}
				if args[len(args)-1] == "--json" {
					var e struct {
						Kind, Message, Hint, SQLState string
						ExitCode                      int `json:"exit_code"`
					}
					if err := json.Unmarshal([]byte(told), &e); err != nil || e.Kind != want.kind ||
						e.SQLState != state || e.ExitCode != 1 ||
						!strings.Contains(e.Message, want.message) || !strings.Contains(e.Hint, want.hint) {
						t.Errorf("%v: got %v, %q", args, err, told)
					}
				}
				if r.code != 1 || !strings.Contains(told, want.message) || !strings.Contains(told, want.hint) ||
					strings.Contains(told, "line ") {
					t.Errorf("%v: exit code %d, %q", args, r.code, told)
				}
			}
		})
	}
}

// withOptions returns a URL for sessions with more settings.
func withOptions(t *testing.T, of, options string) string {
	t.Helper()
	u, err := url.Parse(of)
	if err != nil {
		t.Fatal("not a URL") // it has a password
	}
	q := u.Query()
	q.Set("options", options)
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	return u.String()
}

// TestServerSettings makes the server end sessions and refuse writes.
func TestServerSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "postgres")
	w.fill(t, 3)
	for name, c := range map[string]struct {
		options, command string
		want             []string
	}{
		"read-only": {"-c default_transaction_read_only=on", "rotate", []string{
			"transaction_read_only is on",
			"default_transaction_read_only",
		}},
		"a small timeout": {"-c statement_timeout=1ms", "migrate check", []string{
			"took too long",
			"statement_timeout",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := *w
			own.url = withOptions(t, w.url, c.options)
			r := own.run(t, strings.Fields(c.command)...)
			for _, want := range c.want {
				if r.code != 1 || !strings.Contains(r.errors, want) {
					t.Errorf("exit code %d, %q, want %q", r.code, r.errors, want)
				}
			}
		})
	}
}

// TestTooManyConnections uses a role without a free connection.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "postgres")
	w.exec(t, "CREATE ROLE crowded LOGIN PASSWORD 'p' CONNECTION LIMIT 0")
	t.Cleanup(func() { _, _ = w.admin.Exec("DROP ROLE crowded") })
	own := *w
	own.url = asRole(t, w.url, "crowded", "p")
	for _, args := range []string{
		"rotate", "doctor", "account list", "credential export",
		"credential import more.csv", "migrate apply",
	} {
		cmd := own.command(t, strings.Fields(args)...)
		writeCSV(t, filepath.Join(cmd.Dir, "more.csv"), 10)
		r := run1(cmd)()
		if text := r.out + r.errors; r.code != 1 || !strings.Contains(text, "no free connection") ||
			!strings.Contains(text, "CONNECTION LIMIT") ||
			strings.Contains(text, "127.0.0.1") {
			t.Errorf("%s: exit code %d, %q, %q", args, r.code, r.out, r.errors)
		}
	}
}
