package migrations

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lib/pq"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

// The history has the columns of the stock command's table, copied from a
// database that it migrated.
func TestHistoryIsTheStockCommands(t *testing.T) {
	t.Parallel()
	want := [][3]string{
		{"version", "character varying", "NO"},
		{"description", "character varying", "NO"},
		{"type", "bigint", "NO"},
		{"applied", "bigint", "NO"},
		{"total", "bigint", "NO"},
		{"executed_at", "timestamp with time zone", "NO"},
		{"execution_time", "bigint", "NO"},
		{"error", "text", "YES"},
		{"error_stmt", "text", "YES"},
		{"hash", "character varying", "NO"},
		{"partial_hashes", "jsonb", "YES"},
		{"operator_version", "character varying", "NO"},
	}
	for name, place := range map[string]struct{ parameter, schema string }{
		"no search_path": {"", "atlas_schema_revisions"},
		"search_path":    {"&search_path=public", "public"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewDatabase(t, "")
			if err := testopt.Apply(t.Context(), testdb.OpenDB(t, url+place.parameter)); err != nil {
				t.Fatal(err)
			}
			rows, err := testdb.OpenDB(t, url).QueryContext(t.Context(), "SELECT column_name, data_type, is_nullable "+
				"FROM information_schema.columns WHERE table_name = 'atlas_schema_revisions' AND table_schema = $1 "+
				"ORDER BY ordinal_position", place.schema)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = rows.Close() }()
			var got [][3]string
			for rows.Next() {
				var column [3]string
				if err := rows.Scan(&column[0], &column[1], &column[2]); err != nil {
					t.Fatal(err)
				}
				got = append(got, column)
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			// Find it again over the other kind of connection.
			for _, parameter := range []string{"", "&search_path=public"} {
				if diff := cmp.Diff(testdb.Versions(t),
					testdb.AppliedVersions(t, testdb.OpenDB(t, url+parameter))); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// stockHistory is what the stock command writes for the files of withoutTx,
// copied from databases that it migrated. A baseline's hash is empty. The
// columns are the same as in historyRows.
var stockHistory = struct{ first, partial, done, last, baseline, set, setPartial []string }{
	first: []string{
		"20260101000000", "a", "2", "2", "2", "''", "''",
		"KDbHUB3YUQJd2Kseyhgw/T7SBbZoaey2f1HlFuqJXLQ=", "'null'",
	},
	partial: []string{"20260101000001", "b", "2", "1", "3", stockError, stockStatement, stockHash, stockPartialHashes},
	done:    []string{"20260101000001", "b", "2", "3", "3", "''", "''", stockHash, "'null'"},
	last: []string{
		"20260101000002", "c", "2", "1", "1", "''", "''",
		"++ao6ejaQ+K8oSkdTR9B26PYN78+7qYN8Szi4CzickM=", "'null'",
	},
	// migrate apply --baseline
	baseline: []string{"20260101000000", "a", "1", "0", "0", "''", "''", "", "'null'"},
	// migrate set
	set: []string{"20260101000001", "b", "4", "0", "0", "''", "''", stockHash, "'null'"},
	setPartial: []string{
		"20260101000001", "b", "6", "1", "3", stockError, stockStatement, stockHash,
		stockPartialHashes,
	},
}

const (
	stockError         = `'pq: could not create unique index "t_u" (23505)'`
	stockStatement     = "'CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS t_u ON t (n);'"
	stockHash          = "++jlONQQwO+AW62fIsORJPlyVsKXSA8tRJQvMZrppgM="
	stockPartialHashes = `'["h1:8mZLJvy6/OuJCHSyn+uDJJNfrd3gl/D6k+d7GXZdupE="]'`
)

const historyRows = "SELECT concat_ws('|', version, description, type, applied, total, quote_nullable(error), " +
	"quote_nullable(error_stmt), hash, quote_nullable(partial_hashes::text)) " +
	"FROM atlas_schema_revisions.atlas_schema_revisions ORDER BY version"

func history(t *testing.T, db *sql.DB) (all [][]string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), historyRows)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.Split(text, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// Our rows for the same files are the same, after a failure and after its cause
// is removed.
func TestRowsAreTheStockCommands(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testdb.OpenDB(t, testdb.NewDatabase(t, ""), opts...)
			dir := testopt.WithDir(newDirectory(t, withoutTx))
			if err := testopt.Apply(t.Context(), db, dir); !errors.Is(err, migrate.ErrPartial) {
				t.Fatal(err)
			}
			got := history(t, db)
			if name == "pgx" {
				got[1][5] = stockError // the driver's text
			}
			if diff := cmp.Diff([][]string{stockHistory.first, stockHistory.partial}, got); diff != "" {
				t.Error(diff)
			}
			testdb.Run(t, db, "DELETE FROM t WHERE id = 2")
			if err := testopt.Apply(t.Context(), db, dir); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([][]string{stockHistory.first, stockHistory.done, stockHistory.last},
				history(t, db)); diff != "" {
				t.Error(diff)
			}
			db = testdb.OpenDB(t, testdb.NewDatabase(t, ""), opts...)
			testdb.Run(t, db, "CREATE TABLE t (id int, n int)")
			if err := testopt.Apply(t.Context(), db, dir, testopt.WithBaseline("20260101000000")); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([][]string{stockHistory.baseline, stockHistory.done, stockHistory.last},
				history(t, db)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Apply continues to the end from each state that the stock command leaves.
func TestApplyGoesOnFromTheStockCommand(t *testing.T) {
	t.Parallel()
	const table = "CREATE TABLE t (id int, n int)"
	index := []string{table, "CREATE INDEX t_n ON t (n)"}
	for name, tt := range map[string]struct {
		made    []string // what the stock command did
		rows    [][]string
		partial string
		pending int
		want    [][]string
	}{
		"one file": {[]string{table}, [][]string{stockHistory.first}, "", 2, [][]string{
			stockHistory.first,
			stockHistory.done, stockHistory.last,
		}},
		"partial": {
			index,
			[][]string{stockHistory.first, stockHistory.partial},
			"20260101000001", 2,
			[][]string{stockHistory.first, stockHistory.done, stockHistory.last},
		},
		"baseline": {
			[]string{table},
			[][]string{stockHistory.baseline},
			"", 2,
			[][]string{stockHistory.baseline, stockHistory.done, stockHistory.last},
		},
		"set": {
			[]string{table},
			[][]string{stockHistory.first, stockHistory.set},
			"", 1,
			[][]string{stockHistory.first, stockHistory.set, stockHistory.last},
		},
		"partial, then set": {
			index,
			[][]string{stockHistory.first, stockHistory.setPartial},
			"20260101000001", 2,
			[][]string{stockHistory.first, replaced(stockHistory.done, 2, "6"), stockHistory.last},
		},
		"set, another after": {
			index,
			[][]string{stockHistory.first, stockHistory.setPartial, stockHistory.last},
			"",
			0,
			[][]string{stockHistory.first, stockHistory.setPartial, stockHistory.last},
		},
		"shortened when done": {
			index,
			[][]string{stockHistory.first, replaced(stockHistory.done, 3, "1")},
			"", 1,
			[][]string{stockHistory.first, replaced(stockHistory.done, 3, "1"), stockHistory.last},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.NewDatabase(t, "")
			db := testdb.OpenDB(t, url)
			// Apply's own history table, which another test compares with the
			// stock command's.
			if err := testopt.Apply(t.Context(), db,
				testopt.WithDir(newDirectory(t, map[string]string{"1_a.sql": ""}))); err != nil {
				t.Fatal(err)
			}
			testdb.Run(t, db, "DELETE FROM atlas_schema_revisions.atlas_schema_revisions")
			testdb.Run(t, db, tt.made...)
			for _, r := range tt.rows {
				testdb.Run(t, db,
					"INSERT INTO atlas_schema_revisions.atlas_schema_revisions (version, description, type, applied, "+
						"total, error, error_stmt, hash, partial_hashes, executed_at, execution_time, "+
						"operator_version) VALUES ("+
						pq.QuoteLiteral(r[0])+", "+pq.QuoteLiteral(r[1])+", "+strings.Join(r[2:7], ", ")+", "+
						pq.QuoteLiteral(r[7])+", "+
						r[8]+", now(), 1, 'Atlas CLI - development')")
			}
			dir := testopt.WithDir(newDirectory(t, withoutTx))
			status, err := testopt.ReadStatus(t.Context(), db, dir)
			if err != nil || status.Partial != tt.partial || len(status.Pending) != tt.pending {
				t.Errorf("%+v, %v", status, err)
			}
			if err := testopt.Apply(t.Context(), db, dir); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, history(t, db)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// replaced returns a row with one column's value replaced.
func replaced(row []string, column int, value string) []string {
	other := append([]string{}, row...)
	other[column] = value
	return other
}

// The stock command's rows on SQLite: its partial_hashes is a blob, ours is
// text.
func TestApplyGoesOnFromTheStockCommandOnSQLite(t *testing.T) {
	t.Parallel()
	db := testdb.OpenDB(t, "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	if err := testopt.Apply(t.Context(), db, testopt.WithTarget(testdb.CreateTables)); err != nil {
		t.Fatal(err)
	}
	testdb.Run(t, db, "UPDATE atlas_schema_revisions SET partial_hashes = CAST('null' AS BLOB), "+
		"executed_at = '2026-11-24 04:49:36.098086995+00:00', operator_version = 'Atlas CLI - development'")
	if err := testopt.Apply(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	status, err := testopt.ReadStatus(t.Context(), db)
	if err != nil || status.Err() != nil || status.Applied[0].AppliedAt.Nanosecond() != 98086995 {
		t.Errorf("%+v, %v", status, err)
	}
}

// A file without a transaction on SQLite: the file's lock is held between
// statements.
func TestApplyWithoutTransactionOnSQLite(t *testing.T) {
	t.Parallel()
	url := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
	db, other := testdb.OpenDB(t, url), testdb.OpenDB(t, url)
	path := pathOf(t, newDirectory(t, map[string]string{
		"1_a.sql": "CREATE TABLE t (id int);",
		"2_b.sql": "-- atlas:txmode none\n\nINSERT INTO t VALUES (1);\nINSERT INTO none VALUES (2);\nINSERT INTO t " +
			"VALUES (3);\n",
	}))
	dir := testopt.WithDir(os.DirFS(path))
	var failed *migrate.StatementError
	if err := testopt.Apply(t.Context(), db, dir); !errors.As(err, &failed) || failed.Line != 4 || !failed.Partial {
		t.Fatal(err)
	}
	testdb.Run(t, other, "CREATE TABLE none (id int)") // the lock was released
	if err := testopt.Apply(t.Context(), db, dir); err != nil {
		t.Fatal(err)
	}
	if got := row(t, other, "SELECT count(*) FROM t"); got != "2" {
		t.Errorf("%s rows", got)
	}
}
