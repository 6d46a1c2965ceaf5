package rotate_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/rotate"
)

// listed collects what Config.Quarantine receives, as texts.
type listed struct{ rows []string }

func (l *listed) add(list []rotate.Quarantined) error {
	for _, q := range list {
		l.rows = append(l.rows, q.Table+"."+q.Column+" "+q.Row+": "+q.Err.Error())
	}
	return nil
}

// each returns a statement that stores a value in a range of t_text's rows.
func each(from, to int, value string) string {
	return fmt.Sprintf("WITH n(i) AS (SELECT %d UNION ALL SELECT i + 1 FROM n WHERE i < %d) "+
		"INSERT INTO t_text SELECT i, '%s' FROM n", from, to, value)
}

// Each secret is reported once, although several passes read it. The report has
// the number and the first few of them.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	old, now := fernet.GenerateKey(), fernet.GenerateKey()
	token, err := newRing(t, old).Encrypt("a secret")
	if err != nil {
		t.Fatal(err)
	}
	stored := []string{each(1, 500, "gAAAA-broken"), each(501, 800, token), each(801, 900, "plain")}
	ring := newRing(t, now, old)
	var want []string
	for i := 1; i <= 900; i++ {
		switch {
		case i <= 500:
			want = append(want, fmt.Sprintf("t_text.secret %d: %v", i, fernet.ErrCorrupt))
		case i > 800:
			want = append(want, fmt.Sprintf("t_text.secret %d: %v", i, fernet.ErrNotEncrypted))
		}
	}
	slices.Sort(want)
	compare := func(what string, l *listed) {
		t.Helper()
		if slices.Sort(l.rows); !slices.Equal(l.rows, want) {
			t.Errorf("%s: it tells %d, want %d", what, len(l.rows), len(want))
		}
	}
	cfg := func(l *listed) rotate.Config {
		return rotate.Config{Columns: []string{"t_text.secret"}, Batch: 64, Quarantine: l.add}
	}

	db := openSQLite(t, stored...)
	var dry, run, verified listed
	dryCfg := cfg(&dry)
	dryCfg.DryRun = true
	if _, err := rotate.Run(t.Context(), db, ring, dryCfg); !errors.Is(err, rotate.ErrQuarantined) {
		t.Errorf("dry run: got %v", err)
	}
	compare("dry run", &dry)
	report, err := rotate.Run(t.Context(), db, ring, cfg(&run))
	if !errors.Is(err, rotate.ErrQuarantined) || !strings.HasSuffix(err.Error(), ": 600") {
		t.Errorf("got %v", err)
	}
	compare("run", &run)
	table := report.Tables[0]
	examples := len(table.Examples)
	if table.Passes < 2 || table.Rewritten != 300 || table.Quarantined != 600 || examples != rotate.MaxExamples {
		t.Errorf("%d passes, %d rewritten, %d quarantined, %d examples", table.Passes, table.Rewritten,
			table.Quarantined, examples)
	}
	first := func(a, b rotate.Quarantined) int { return strings.Compare(a.Row, b.Row) }
	if !slices.IsSortedFunc(table.Examples, first) || table.Examples[0].Row != "1" || table.Examples[19].Row != "116" {
		t.Errorf("the examples are %v", table.Examples)
	}
	counts, err := rotate.VerifyWith(t.Context(), db, ring, cfg(&verified))
	if err != nil {
		t.Fatal(err)
	}
	compare("verify", &verified)
	for _, c := range counts {
		if c.Table == "t_text" && (c.Damaged != 500 || c.NotEncrypted != 100 || len(c.Examples) != rotate.MaxExamples) {
			t.Errorf("verify: %+v", c)
		}
	}
	text, err := json.Marshal(table.Examples[0])
	if want := `{"table":"t_text","column":"secret","row":"1","reason":"damaged token"}`; err != nil || string(text) != want {
		t.Errorf("got %s, %v", text, err)
	}

	// Encrypt and DecryptToPlaintext report what they leave unchanged, too.
	var encrypted, decrypted listed
	want = slices.DeleteFunc(want, func(row string) bool {
		return strings.HasSuffix(row, fernet.ErrNotEncrypted.Error())
	})
	report, err = rotate.Encrypt(t.Context(), db, ring, cfg(&encrypted))
	if !errors.Is(err, rotate.ErrQuarantined) || report.Rewritten() != 100 {
		t.Errorf("encrypt: got %v", err)
	}
	compare("encrypt", &encrypted)
	report, err = rotate.DecryptToPlaintext(t.Context(), db, ring, cfg(&decrypted))
	if !errors.Is(err, rotate.ErrQuarantined) || report.Rewritten() != 400 {
		t.Errorf("decrypt: got %v", err)
	}
	compare("decrypt", &decrypted)
}

// An error from the callback ends the run. The rows rewritten before stay
// rewritten and are in the report.
func TestQuarantineFails(t *testing.T) {
	t.Parallel()
	old, now := fernet.GenerateKey(), fernet.GenerateKey()
	token, err := newRing(t, old).Encrypt("a secret")
	if err != nil {
		t.Fatal(err)
	}
	db := openSQLite(t, each(1, 100, token), each(101, 200, "gAAAA-broken"), each(201, 300, token))
	full, calls := errors.New("full"), 0
	cfg := rotate.Config{Batch: 50, Quarantine: func([]rotate.Quarantined) error {
		calls++
		return full
	}}
	report, err := rotate.Run(t.Context(), db, newRing(t, now, old), cfg)
	if !errors.Is(err, full) || errors.Is(err, rotate.ErrQuarantined) || calls != 1 {
		t.Errorf("got %v after %d calls", err, calls)
	}
	var stored int64
	err = db.QueryRowContext(t.Context(), "SELECT count(*) FROM t_text WHERE secret NOT IN ($1, 'gAAAA-broken')",
		token).
		Scan(&stored)
	if err != nil {
		t.Fatal(err)
	}
	if stored != report.Rewritten() || stored < 100 || stored == 200 {
		t.Errorf("%d rows are rewritten, and the report has %d", stored, report.Rewritten())
	}
	if _, err := rotate.VerifyWith(t.Context(), db, newRing(t, now, old), cfg); !errors.Is(err, full) {
		t.Errorf("verify: got %v", err)
	}
}
