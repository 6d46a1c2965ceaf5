package rotate_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// openSQLite returns a database with all of this process's tables, after
// running the statements.
func openSQLite(t *testing.T, statements ...string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "x.db")+
		"?_pragma=busy_timeout(60000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	for _, k := range keyTypes {
		exec(t, db, "CREATE TABLE "+k.table+" (id INTEGER PRIMARY KEY, secret TEXT)")
	}
	for _, s := range statements {
		exec(t, db, s)
	}
	return db
}

// Every state is counted. Any except the primary key and NULL keeps the column
// from being ready.
func TestVerifyCounts(t *testing.T) {
	t.Parallel()
	keys := []string{fernet.GenerateKey(), fernet.GenerateKey(), fernet.GenerateKey()}
	ring := newRing(t, keys...)
	token := func(key, plaintext string) string {
		token, err := newRing(t, key).Encrypt(plaintext)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	db := openSQLite(t)
	for state, stored := range map[string][]any{
		"primary":       {token(keys[0], "a"), token(keys[0], "b"), token(keys[0], "")},
		"first":         {token(keys[1], "c")},
		"second":        {token(keys[2], "d"), token(keys[2], "e")},
		"unknown":       {token(fernet.GenerateKey(), "f")},
		"not encrypted": {"plaintext", "", strings.Repeat("密", size)},
		"damaged":       {"gAAAA", token(keys[0], "g")[:60]},
		"NULL":          {nil},
		"over length":   {token(keys[0], strings.Repeat("x", 400)), strings.Repeat("y", size+1)},
	} {
		for _, value := range stored {
			if _, err := db.ExecContext(t.Context(), "INSERT INTO t_text (secret) VALUES (?)", value); err != nil {
				t.Fatalf("%s: %v", state, err)
			}
		}
	}
	counts, err := rotate.Verify(t.Context(), db, ring)
	if err != nil {
		t.Fatal(err)
	}
	ids := ring.Keys()
	for _, c := range counts {
		want := rotate.ColumnCount{
			Table: c.Table, Column: "secret", DecodedAs: "text in UTF-8", PrimaryKey: ids[0].ID(),
			Previous: map[string]int64{ids[1].ID(): 0, ids[2].ID(): 0},
		}
		if c.Table == "t_text" {
			want.Rows, want.Null, want.Primary, want.UnknownKey = 15, 1, 4, 1
			want.NotEncrypted, want.Damaged, want.OverLength = 4, 2, 2
			want.Previous = map[string]int64{ids[1].ID(): 1, ids[2].ID(): 2}
		}
		if n := int64(len(c.Examples)); n != want.UnknownKey+want.NotEncrypted+want.Damaged {
			t.Errorf("%s: %d examples: %v", c.Table, n, c.Examples)
		}
		c.Examples = nil
		if diff := cmp.Diff(want, c); diff != "" {
			t.Error(diff)
		}
		if c.Ready() != (c.Table != "t_text") {
			t.Errorf("%s: ready %v", c.Table, c.Ready())
		}
	}
	if counts.Needs(ids[1].ID()) != 1 || counts.Needs(ids[2].ID()) != 2 {
		t.Errorf("the keys are needed by %d and %d", counts.Needs(ids[1].ID()), counts.Needs(ids[2].ID()))
	}
	if err := counts.Err(); !errors.Is(err, rotate.ErrNotAllPrimary) || !errors.Is(err, rotate.ErrPlaintext) ||
		!strings.Contains(err.Error(), "t_text.secret") {
		t.Error(err)
	}
	for name, c := range map[string]rotate.ColumnCount{
		"previous": {Rows: 2, Primary: 1, Previous: map[string]int64{"k": 1}}, "unknown": {Rows: 1, UnknownKey: 1},
		"damaged": {Rows: 1, Damaged: 1}, "over length": {Rows: 1, Primary: 1, OverLength: 1},
	} {
		if err := (rotate.Counts{c}).Err(); !errors.Is(err, rotate.ErrNotAllPrimary) ||
			errors.Is(err, rotate.ErrPlaintext) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The rate limits how many rows are read per second.
func TestRate(t *testing.T) {
	t.Parallel()
	db := openSQLite(t, "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50) INSERT INTO t_text "+
		"SELECT i, 'secret' FROM n")
	begin := time.Now()
	report, err := rotate.Encrypt(t.Context(), db, newRing(t, fernet.GenerateKey()),
		rotate.Config{Columns: []string{"t_text.secret"}, Batch: 10, RowsPerSecond: 100})
	// Two passes with five pages and an empty one each, all rate-limited.
	if took := time.Since(begin); err != nil || report.Rewritten() != 50 || took < time.Second {
		t.Errorf("%d rows in %v, %v", report.Rewritten(), took, err)
	}
}

// A short page waits for its own rows, not for a full page.
func TestRateOfFewRows(t *testing.T) {
	t.Parallel()
	db := openSQLite(t, "INSERT INTO t_text VALUES (1, 'a'), (2, 'b')")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	report, err := rotate.Encrypt(ctx, db, newRing(t, fernet.GenerateKey()),
		rotate.Config{Columns: []string{"t_text.secret"}, RowsPerSecond: 5})
	if err != nil || report.Rewritten() != 2 {
		t.Errorf("%+v, %v", report, err)
	}
}

// Progress is reported for each table, from its first page to its last.
func TestProgressOfManyTables(t *testing.T) {
	t.Parallel()
	db := openSQLite(t, "INSERT INTO t_text VALUES (1, 'a'), (2, 'b'), (3, 'c')", "INSERT INTO t_char VALUES (1, 'a')")
	last := make(map[string]rotate.Progress)
	if _, err := rotate.Encrypt(t.Context(), db, newRing(t, fernet.GenerateKey()), rotate.Config{
		Batch: 2, Progress: func(p rotate.Progress) { last[p.Table] = p },
	}); err != nil {
		t.Fatal(err)
	}
	for table, rows := range map[string]int64{"t_text": 3, "t_char": 1} {
		if p := last[table]; p.Read != rows || p.Total != rows || p.Rewritten != rows || p.Pass != 2 {
			t.Errorf("%+v", p)
		}
	}
	if len(last) != 2 {
		t.Errorf("of empty tables: %+v", last)
	}
}

// Without a key, or with an ended context, nothing is done.
func TestDoesNotBegin(t *testing.T) {
	t.Parallel()
	db := openSQLite(t, "INSERT INTO t_text VALUES (1, 'a')")
	if _, err := rotate.Encrypt(t.Context(), db, nil, rotate.Config{}); !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("without a key: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := rotate.Encrypt(ctx, db, newRing(t, fernet.GenerateKey()), rotate.Config{}); !errors.Is(err,
		context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	var stored string
	if err := db.QueryRowContext(t.Context(), "SELECT secret FROM t_text").Scan(&stored); err != nil || stored != "a" {
		t.Errorf("%q is stored, %v", stored, err)
	}
}
