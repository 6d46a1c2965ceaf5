//go:build linux || darwin

package replicas_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/credent-go/credent"
)

// run runs the command credent on a server. It returns the exit code, standard
// output and standard error.
func (w *world) run(t *testing.T, databaseURL, driver string, args ...string) (code int, out, errs string) {
	t.Helper()
	cmd := exec.CommandContext(within(t), os.Args[0], args...)
	cmd.Env = append(cmd.Environ(), envCommand+"=1", "DATABASE_URL="+databaseURL, "CREDENT_DRIVER="+driver,
		"ENCRYPTION_KEY="+w.key, "ENCRYPTION_KEY_PREVIOUS="+w.earlier)
	cmd.Dir = t.TempDir()
	csv := "user_id,credential_type,api_key,secret_key\nu,alpaca,k,s\n"
	if err := os.WriteFile(filepath.Join(cmd.Dir, "more.csv"), []byte(csv), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = strings.NewReader("PK\nSK\n")
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return code, stdout.String(), stderr.String()
}

// replayed matches a standby's replay position.
const replayed = `replayed up to 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ \([0-9A-F]+/[0-9A-F]+\)`

// TestCommandsOnStandby runs every database command on a standby: it answers
// with the replay position, or says at once that this is a standby and what to
// do.
func TestCommandsOnStandby(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		driver := strings.TrimPrefix(t.Name(), "TestCommandsOnStandby/")
		c := w.open(t, nil, credent.Config{})
		row, err := add(within(t), c, "u", "s")
		must(t, err)
		must(t, w.standby.WaitFor(within(t), w.primary))
		standby, id := w.url(t, w.standby, nil), row.ID.String()

		note := regexp.MustCompile(`(?m)^credent: note: this is a standby, ` + replayed + "$")
		inReport := regexp.MustCompile(`Postgres, a standby, ` + replayed)
		for _, args := range []string{
			"account list", "audit list", "audit verify", "credential export --reveal", "credential list",
			"credential show " + id + " --reveal", "doctor", "doctor --json", "encrypt --check-unique",
			"inventory --verified",
			"inventory --sample 10", "migrate apply --dry-run", "migrate status --check",
			"rotate --dry-run", "state list", "tenant list", "verify --no-record", "verify",
		} {
			code, out, errs := w.run(t, standby, driver, strings.Fields(args)...)
			said := note.MatchString(errs)
			if strings.HasPrefix(args, "doctor") {
				said = inReport.MatchString(out) && !note.MatchString(errs)
			}
			if code != 0 || !said {
				t.Errorf("%s: exit code %d, %q, %q", args, code, out, errs)
			}
			if recorded := !strings.Contains(errs, "this is not recorded"); recorded != (args != "verify") {
				t.Errorf("%s: %q", args, errs)
			}
			if code, _, errs := w.run(t, w.url(t, w.primary, nil), driver, strings.Fields(args)...); code != 0 ||
				note.MatchString(errs) {
				t.Errorf("%s on the primary: exit code %d, %q", args, code, errs)
			}
		}
		for _, args := range []string{
			"account add --user v --name Grace", "account move u --user v", "account remove u",
			"audit archive --before 1d --to a --yes", "audit checkpoint", "credential replace " + id,
			"credential add --user u --type alpaca", "credential disable " + id, "credential remove " + id,
			"credential import more.csv", "credential import --dry-run more.csv", "decrypt --store-plaintext",
			"encrypt", "encrypt --index-only",
			"key retire " + w.ring.Keys()[1].ID(), "migrate adopt", "migrate apply", "migrate check",
			"rotate", "state set user_credentials.api_key binding accept", "tenant destroy u --yes",
		} {
			code, out, errs := w.run(t, standby, driver, strings.Fields(args)...)
			if code != 1 || out != "" || !strings.Contains(errs, "it is a standby") ||
				!strings.Contains(errs, "use the primary in DATABASE_URL") || strings.Contains(errs, standby) {
				t.Errorf("%s: exit code %d, %q, %q", args, code, out, errs)
			}
		}
		_, _, errs := w.run(t, standby, driver, "rotate", "--json")
		var e struct{ Kind, SQLState string }
		if err := json.Unmarshal([]byte(errs), &e); err != nil || e.Kind != "standby" || e.SQLState != "25006" {
			t.Errorf("got %+v, %v of %q", e, err, errs)
		}
		after, err := c.UserCredential.Query().Only(within(t))
		must(t, err)
		if after.IsActive != row.IsActive || !after.UpdatedAt.Equal(row.UpdatedAt) {
			t.Error("a command changed the row")
		}
	})
}
