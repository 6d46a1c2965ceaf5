package migrations

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/rotate"
)

// The command reports the same, as text and as JSON.
func TestApplyCommandGivesUp(t *testing.T) {
	t.Parallel()
	env := &testdb.Env{URL: testdb.NewDatabase(t, "")}
	if out, err := env.Command("migrate", "apply", "--target", testdb.Versions(t)[0]).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dump(t, env.URL)
	limits := []string{"migrate", "apply", "--lock-timeout", "400ms", "--lock-retry", "0"}
	var stderr strings.Builder
	cmd := env.Command(append(limits, "--json")...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%v", err)
	}
	var doc struct {
		Blocked struct {
			File, Table string
			Tries       int
			Holders     []struct {
				PID         int
				Application string
				AgeSeconds  float64 `json:"age_seconds"`
			}
		}
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		t.Fatal(err)
	}
	if b := doc.Blocked; b.File != testdb.Versions(t)[1]+"_harden.sql" ||
		b.Table != "user_credentials" || b.Tries != 1 ||
		len(b.Holders) != 1 || b.Holders[0].Application != "a dump" || b.Holders[0].AgeSeconds <= 0 {
		t.Errorf("%s", out)
	}
	for _, want := range []string{`held by pid `, `(\"a dump\", idle in transaction, its transaction is `, "--lock-retry"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("missing %q in %s", want, stderr.String())
		}
	}
}

// The validation at the end of an encryption waits for a while and is retried.
// It lets readers and writers pass.
func TestEncryptValidationGivesWay(t *testing.T) {
	t.Parallel()
	const waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareUpdateExclusiveLock' " +
		"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
	env := testdb.New(t)
	env.Seed(t)
	env.Exec(t, "ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_api_key_encrypted")
	env.Exec(t, "ALTER TABLE user_credentials ADD CONSTRAINT user_credentials_api_key_encrypted CHECK (api_key LIKE "+
		"'gAAAA%') NOT VALID")
	other, service := testdb.OpenDB(t, env.URL), testdb.OpenDB(t, env.URL)
	tx, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(t.Context(), "LOCK TABLE user_credentials IN SHARE UPDATE EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := rotate.Encrypt(context.WithoutCancel(t.Context()), env.DB, env.Ring, rotate.Config{})
		done <- err
	}()
	eventually(t, func() bool { return row(t, service, waits) == "1" })
	testdb.Run(t, service, "SELECT count(*) FROM user_credentials", "UPDATE user_credentials SET is_active = true")
	eventually(t, func() bool { return row(t, service, waits) == "0" })
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := row(t, service, "SELECT convalidated FROM pg_constraint WHERE conname = "+
		"'user_credentials_api_key_encrypted'"); got != "true" {
		t.Error("the constraint is not valid")
	}
}
