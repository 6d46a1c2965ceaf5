package cli

import (
	"bytes"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"entgo.io/ent/dialect"
	_ "modernc.org/sqlite" // the SQLite driver

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
)

// TestSignHeads signs the heads of entries under an old key with a new key, and
// checks the messages when that isn't possible.
func TestSignHeads(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "x.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	rings := make(map[string]*keyring.Keyring)
	for name, keys := range map[string][]string{"before": {oldKey}, "both": {newKey, oldKey}, "after": {newKey}} {
		if rings[name], err = keyring.New(keys[0], keys[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	var notes bytes.Buffer
	a := &app{note: &notes}
	on := &database{DB: db, dialect: dialect.SQLite}
	sign := func(ring string) (text string) {
		notes.Reset()
		if err := a.signHeads(t.Context(), on, rings[ring]); err != nil {
			return err.Error()
		}
		return notes.String()
	}
	if got := sign("both"); got != "" {
		t.Errorf("without the table: %s", got)
	}
	if err := migrate.Apply(t.Context(), db, migrate.Config{}); err != nil {
		t.Fatal(err)
	}
	trail, err := audit.Open(t.Context(), db, dialect.SQLite, audit.Config{Keyring: rings["before"]})
	if err != nil {
		t.Fatal(err)
	}
	if err := trail.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sign("after"); got != "" {
		t.Errorf("with a single key: %s", got)
	}
	if got := sign("both"); got != "signed the heads of 1 chain of the audit trail\n" {
		t.Errorf("got %q", got)
	}
	report, err := audit.Verify(t.Context(), db, dialect.SQLite, rings["after"], audit.VerifyOptions{})
	if err != nil || report.Err() != nil {
		t.Errorf("without the old key: %v, %v", err, report.Err())
	}
	for _, stmt := range []string{"DROP TRIGGER credent_audit_update", "UPDATE credent_audit SET actor = 'x' WHERE " +
		"seq = 1"} {
		if _, err := db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	if got := sign("both"); !strings.Contains(got, "not all of the audit trail's heads are signed") {
		t.Errorf("a trail that doesn't verify: %q", got)
	}
}
