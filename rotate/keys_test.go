package rotate_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	_ "modernc.org/sqlite"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// This process's columns: one table per type of primary key, with unusual key
// names.
var keyTypes = []struct {
	table, key string
	postgres   string // type
	sqlite     string // type
	expression string // the key of row n
}{
	{"t_bigint", "number", "bigint", "INTEGER", "%d - 20"},
	{"t_small", "Select", "smallint", "SMALLINT", "%d"},
	{"t_text", "the name", "text", "TEXT", `CASE %[1]d WHEN 0 THEN '' WHEN 1 THEN 'quote '' " \ {}, NULL' ELSE 'Ä' || %[1]d END`},
	{"t_locale", "name", `varchar(20) COLLATE "C"`, "TEXT COLLATE NOCASE", "'b-' || %d"},
	{"t_char", "code", "char(8)", "CHAR(8)", "'c' || %d"},
	{"t_uuid", "id", "uuid", "uuid", "'6b4a2f10-0000-4000-8000-00000000' || (1000 + %d)"},
	{"t_time", "at", "timestamp", "DATETIME", "'2026-01-02 03:04:' || (10 + %d)"},
	{"t_numeric", "amount", "numeric(10,2)", "NUMERIC", "%d / 4.0"},
	{"t_domain", "id", "positive", "INT", "1 + %d"},
}

const size = 500

func TestMain(m *testing.M) {
	for _, k := range keyTypes {
		column.Register(column.Binding{Column: column.Column{Table: k.table, Name: "secret", Size: size}})
	}
	os.Exit(m.Run())
}

// forEachDatabase runs a test over both Postgres drivers and on SQLite, after
// running each database's statements.
func forEachDatabase(t *testing.T, postgres, sqlite []string, test func(t *testing.T, db *sql.DB)) {
	t.Helper()
	file := "file:" + filepath.Join(t.TempDir(), "keys.db") + "?_pragma=busy_timeout(60000)&_txlock=immediate"
	for _, driver := range []string{"postgres", "pgx", "sqlite"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			url, statements := file, sqlite
			if driver != "sqlite" {
				url, statements = pgserver.DatabaseForTest(t, pgserver.Shared()), postgres
			}
			db, err := sql.Open(driver, url)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			for _, s := range statements {
				if _, err := db.ExecContext(t.Context(), s); err != nil {
					t.Fatalf("%s: %v", s, err)
				}
			}
			test(t, db)
		})
	}
}

func newRing(t *testing.T, keys ...string) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.New(keys[0], keys[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

const rows = 37

// tables returns statements that create the tables and fill them with
// plaintext.
func tables(postgres bool) (statements []string) {
	if postgres {
		statements = append(statements, "CREATE DOMAIN positive AS int CHECK (VALUE > 0)")
	}
	for _, k := range keyTypes {
		columnType := k.sqlite
		if postgres {
			columnType = k.postgres
		}
		create := fmt.Sprintf(`CREATE TABLE %s (%q %s PRIMARY KEY, secret varchar(500))`, k.table, k.key, columnType)
		if postgres && k.table == "t_bigint" { // the key's index includes another column
			create = fmt.Sprintf(`CREATE TABLE %s (%q %s, secret varchar(500), PRIMARY KEY (%[2]q) INCLUDE (secret))`, k.table, k.key, columnType)
		}
		statements = append(statements, create)
		for n := range rows {
			expression := fmt.Sprintf(k.expression, n)
			if postgres && k.table != "t_bigint" {
				expression = fmt.Sprintf("(%s)::text::%s", expression, strings.TrimSuffix(k.postgres, ` COLLATE "C"`))
			}
			statements = append(statements, fmt.Sprintf("INSERT INTO %s VALUES (%s, 'secret %d')",
				k.table, expression, n))
		}
	}
	return statements
}

// Rows are read in the order of the primary key's own type, and identified by
// it.
func TestPrimaryKeysOfAnyType(t *testing.T) {
	t.Parallel()
	forEachDatabase(t, tables(true), tables(false), func(t *testing.T, db *sql.DB) {
		ctx := t.Context()
		oldKey, newKey := fernet.GenerateKey(), fernet.GenerateKey()
		ring := newRing(t, oldKey)
		exec(t, db, "UPDATE t_text SET secret = 'gAAAA' WHERE secret = 'secret 0'")
		exec(t, db, "UPDATE t_bigint SET secret = 'gAAAA' WHERE secret = 'secret 3'")
		exec(t, db, "UPDATE t_locale SET secret = NULL WHERE secret = 'secret 5'")

		report, err := rotate.Encrypt(ctx, db, ring, rotate.Config{Batch: 5, Workers: 3})
		if !errors.Is(err, rotate.ErrQuarantined) || len(report.Tables) != len(keyTypes) {
			t.Fatalf("%+v, %v", report, err)
		}
		for _, table := range report.Tables {
			var bad []string
			for _, q := range table.Examples {
				bad = append(bad, q.Row)
			}
			want := map[string][]string{"t_text": {""}, "t_bigint": {"-17"}}[table.Table]
			if !slices.Equal(bad, want) {
				t.Errorf("%s: quarantined %q, want %q", table.Table, bad, want)
			}
			rewritten := map[string]int64{"t_text": rows - 1, "t_bigint": rows - 1, "t_locale": rows - 1}[table.Table]
			if rewritten == 0 {
				rewritten = rows
			}
			if table.Rows != rows || table.Rewritten != rewritten || table.Skipped != 0 {
				t.Errorf("%+v", table)
			}
		}
		exec(t, db, "UPDATE t_text SET secret = 'secret 0' WHERE secret = 'gAAAA'")
		exec(t, db, "UPDATE t_bigint SET secret = 'secret 3' WHERE secret = 'gAAAA'")
		if report, err := rotate.Encrypt(ctx, db, ring, rotate.Config{}); err != nil || report.Rewritten() != 2 {
			t.Fatalf("%+v, %v", report, err)
		}

		ring = newRing(t, newKey, oldKey)
		report, err = rotate.Run(ctx, db, ring, rotate.Config{Batch: 7})
		if err != nil || report.Rewritten() != int64(len(keyTypes)*rows-1) {
			t.Fatalf("rotated %+v, %v", report, err)
		}
		if again, err := rotate.Run(ctx, db, ring, rotate.Config{Batch: 7}); err != nil || again.Rewritten() != 0 {
			t.Errorf("once more %+v, %v", again, err)
		}
		counts, err := rotate.Verify(ctx, db, ring)
		if err != nil || counts.Err() != nil || len(counts) != len(keyTypes) {
			t.Fatalf("%+v, %v", counts, err)
		}
		for _, c := range counts {
			if c.Primary+c.Null != rows || c.Rows != rows {
				t.Errorf("%+v", c)
			}
		}
		for _, k := range keyTypes {
			checkSecrets(t, db, ring, k.table)
		}
	})
}

// checkSecrets checks that each row still has its own secret.
func checkSecrets(t *testing.T, db *sql.DB, ring *keyring.Keyring, table string) {
	t.Helper()
	stored, err := db.QueryContext(t.Context(), "SELECT secret FROM "+table+" WHERE secret IS NOT NULL")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stored.Close() }()
	seen := make(map[string]bool)
	for stored.Next() {
		var token string
		if err := stored.Scan(&token); err != nil {
			t.Fatal(err)
		}
		plaintext, err := ring.Decrypt(token)
		if err != nil {
			t.Errorf("%s: %v", table, err)
		}
		seen[plaintext] = true
	}
	if err := stored.Err(); err != nil {
		t.Fatal(err)
	}
	for n := range rows {
		if name := fmt.Sprint("secret ", n); !seen[name] && (table != "t_locale" || n != 5) {
			t.Errorf("%s: %s is lost", table, name)
		}
	}
}

func exec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Tables without a supported primary key are refused.
func TestOtherPrimaryKeysAreRefused(t *testing.T) {
	t.Parallel()
	statements := []string{
		"CREATE TABLE t_bigint (number bigint, part int, secret varchar(500), PRIMARY KEY (number, part))",
		"CREATE TABLE t_text (name text UNIQUE, secret varchar(500))",
		"INSERT INTO t_bigint VALUES (1, 1, 'secret')",
		"INSERT INTO t_text VALUES ('a', 'secret')",
	}
	forEachDatabase(t, statements, statements, func(t *testing.T, db *sql.DB) {
		ring := newRing(t, fernet.GenerateKey())
		for _, table := range []string{"t_bigint", "t_text"} {
			for name, f := range map[string]func(context.Context, *sql.DB, *keyring.Keyring,
				rotate.Config) (*rotate.Report, error){
				"Run": rotate.Run, "Encrypt": rotate.Encrypt, "DecryptToPlaintext": rotate.DecryptToPlaintext,
			} {
				_, err := f(t.Context(), db, ring, rotate.Config{Columns: []string{table + ".secret"}})
				if !errors.Is(err, rotate.ErrPrimaryKey) || !strings.Contains(err.Error(), table) {
					t.Errorf("%s of %s: %v", name, table, err)
				}
			}
		}
		if _, err := rotate.Verify(t.Context(), db, ring); !errors.Is(err, rotate.ErrPrimaryKey) {
			t.Errorf("Verify: %v", err)
		}
	})
}

// SQLite allows NULL in a primary key. Such a row can't be identified and would
// be skipped.
func TestNullPrimaryKeyIsRefused(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "null.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	exec(t, db, "CREATE TABLE t_text (name TEXT PRIMARY KEY, secret TEXT)")
	exec(t, db, "INSERT INTO t_text VALUES (NULL, 'secret'), ('a', 'secret')")
	_, err = rotate.Encrypt(t.Context(), db, newRing(t, fernet.GenerateKey()),
		rotate.Config{Columns: []string{"t_text.secret"}})
	if !errors.Is(err, rotate.ErrPrimaryKey) {
		t.Errorf("got %v", err)
	}
}
