package migrations

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/migrate"
)

// directory returns the Postgres migrations with further files, and an
// atlas.sum for all.
func directory(t *testing.T, extra map[string]string) fs.FS {
	t.Helper()
	own, err := migrate.Files("postgres")
	if err != nil {
		t.Fatal(err)
	}
	return hashed(t, own, extra)
}

// hashed returns a directory with further files and an atlas.sum for all.
func hashed(t *testing.T, base fs.FS, extra map[string]string) fs.FS {
	t.Helper()
	tmp := t.TempDir()
	if err := os.CopyFS(tmp, base); err != nil {
		t.Fatal(err)
	}
	for name, text := range extra {
		if err := os.WriteFile(filepath.Join(tmp, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := migrate.Hash(tmp); err != nil {
		t.Fatal(err)
	}
	return os.DirFS(tmp)
}

// newDirectory is like directory without our own files.
func newDirectory(t *testing.T, files map[string]string) fs.FS {
	t.Helper()
	return hashed(t, fstest.MapFS{}, files)
}

// next is a file after ours.
const next = "20991231000000_next.sql"

// lintCases are files after ours and their findings: line, code and severity.
var lintCases = map[string]struct {
	file string
	want []string
}{
	"nothing":    {"-- A comment\n", nil},
	"add column": {addSeen, nil},
	"drop encrypted": {
		"ALTER TABLE user_credentials DROP COLUMN api_key;",
		[]string{"1 DS103 error", "1 CT101 error"},
	},
	"shrink encrypted": {
		"SELECT 1;\nALTER TABLE user_credentials ALTER COLUMN api_key TYPE varchar(100);",
		[]string{"2 CT102 error", "2 CT304 error"},
	},
	"limit encrypted": {
		"ALTER TABLE user_credentials ALTER COLUMN api_key TYPE varchar(499);",
		[]string{"1 CT102 error", "1 CT304 error"},
	},
	"widen encrypted": {
		"ALTER TABLE user_credentials ALTER COLUMN api_key TYPE varchar(1000);",
		[]string{"1 CT301 error"},
	},
	"widen in steps": {"ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_api_key_encrypted, " +
		"ALTER COLUMN api_key TYPE varchar(1000), ADD CONSTRAINT user_credentials_api_key_encrypted CHECK (api_key " +
		"LIKE 'gAAAA%') NOT VALID;", nil},
	"encrypted to text": {
		"ALTER TABLE user_credentials ALTER COLUMN api_key TYPE text;",
		[]string{"1 CT103 error", "1 CT301 error"},
	},
	"encrypted to bytea": {"ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_api_key_encrypted, " +
		"ALTER COLUMN api_key TYPE bytea USING api_key::bytea;", []string{
		"1 CT103 error", "1 CT105 error",
		"1 CT304 error",
	}},
	"index encrypted": {"-- atlas:txmode none\n\nCREATE INDEX CONCURRENTLY IF NOT EXISTS k ON user_credentials " +
		"(user_id, api_key);", []string{"3 CT104 error"}},
	"index expression": {"-- atlas:txmode none\n\nCREATE INDEX CONCURRENTLY IF NOT EXISTS k ON user_credentials " +
		"(lower(secret_key));", []string{"3 CT104 error"}},
	"drop check": {
		"ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_api_key_encrypted;",
		[]string{"1 CT105 error"},
	},
	"drop and remake check": {"ALTER TABLE user_credentials DROP CONSTRAINT " +
		"user_credentials_api_key_encrypted;\nALTER TABLE user_credentials ADD CONSTRAINT " +
		"user_credentials_api_key_encrypted CHECK (api_key LIKE 'gAAAA%') NOT VALID;", nil},
	"weaken check": {"ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_api_key_encrypted, ADD " +
		"CONSTRAINT user_credentials_api_key_encrypted CHECK (api_key <> '') NOT VALID;", []string{"1 CT105 error"}},
	"disable security": {"ALTER TABLE user_credentials DISABLE ROW LEVEL SECURITY;", []string{"1 CT106 error"}},
	"disable in a block": {
		"DO $$ BEGIN\n  ALTER TABLE user_credentials\n    DISABLE ROW LEVEL SECURITY;\nEND $$;",
		[]string{"1 CT106 error"},
	},
	"security in a comment": {"COMMENT ON TABLE user_accounts IS 'x' /* never DISABLE ROW LEVEL SECURITY */;", nil},
	"bypass":                {"ALTER ROLE credent_app NOBYPASSRLS;", nil},
	"drop policy":           {`DROP POLICY "user_accounts_tenant" ON public."user_accounts";`, []string{"1 CT106 error"}},
	"replace policy": {"DROP POLICY user_accounts_tenant ON user_accounts;\nCREATE POLICY " +
		"user_accounts_tenant ON user_accounts USING (user_id = current_setting('app.user_id'));", nil},
	"drop index trigger": {
		"DROP TRIGGER credent_user_credentials__api_key_2 ON user_credentials;",
		[]string{"1 CT107 error"},
	},
	"meant to be dropped": {"-- atlas:nolint index_trigger\n\nDROP TRIGGER credent_user_credentials__api_key_2 ON " +
		"user_credentials;", nil},
	"index": {"CREATE INDEX n ON user_accounts (account_name);", []string{"1 CT201 error"}},
	"index with a reason": {"-- atlas:nolint concurrent_index some hundred rows\nCREATE INDEX n ON user_accounts " +
		"(account_name);", nil},
	"index without one": {
		"-- atlas:nolint concurrent_index\nCREATE INDEX n ON user_accounts (account_name);",
		[]string{"2 CT201 error"},
	},
	"index, bare nolint": {
		"-- atlas:nolint\nCREATE INDEX n ON user_accounts (account_name);",
		[]string{"2 CT201 error"},
	},
	"index on a new table": {"CREATE TABLE n (id int);\nCREATE INDEX n_id ON n (id);", nil},
	"concurrently, no mode": {
		"CREATE INDEX CONCURRENTLY IF NOT EXISTS n ON user_accounts (account_name);",
		[]string{"1 CT202 error"},
	},
	"mode, no blank line": {"-- atlas:txmode none\nCREATE INDEX CONCURRENTLY IF NOT EXISTS n ON user_accounts " +
		"(account_name);", []string{"1 CT203 error", "2 CT202 error"}},
	"mode further down":    {"-- Why\n\n-- atlas:txmode none\n\n" + addSeen, []string{"3 CT203 error"}},
	"mode of another kind": {"-- atlas:txmode all\n\n" + addSeen, []string{"1 CT203 error"}},
	"not repeatable": {"-- Why\n-- atlas:txmode none\n\nCREATE INDEX CONCURRENTLY n ON user_accounts " +
		"(account_name);", []string{"4 CT205 warning"}},
	"rename as drop": {"ALTER TABLE user_accounts ADD COLUMN label varchar(255) NULL;\nALTER TABLE " +
		"user_accounts DROP COLUMN account_name;", []string{"2 DS103 error", "2 CT204 error"}},
	"drop and other type": {"ALTER TABLE user_accounts ADD COLUMN label text NULL;\nALTER TABLE user_accounts DROP " +
		"COLUMN account_name;", []string{"2 DS103 error"}},
	"rename":       {"ALTER TABLE user_accounts RENAME COLUMN account_name TO label;", []string{"1 BC102 warning"}},
	"rename table": {`ALTER TABLE "public"."user_accounts" RENAME TO accounts;`, []string{"1 BC101 warning"}},
	"foreign key": {
		"ALTER TABLE user_credentials DROP CONSTRAINT user_credentials_user_id_user_account_id_fkey;",
		[]string{"1 CD101 warning"},
	},
	"not null": {"ALTER TABLE user_accounts ADD COLUMN n int NOT NULL;", []string{"1 MF103 warning"}},
	"nolint by name": {"-- atlas:nolint destructive encrypted_column\nALTER TABLE user_credentials DROP COLUMN " +
		"api_key;", nil},
	"nolint by code": {
		"-- atlas:nolint DS103\nALTER TABLE user_credentials DROP COLUMN api_key;",
		[]string{"2 CT101 error"},
	},
	"nolint for one": {
		"-- atlas:nolint several_locks\n\n-- atlas:nolint destructive encrypted_column\nALTER TABLE " +
			"user_credentials DROP COLUMN api_key;\nALTER TABLE user_accounts DROP COLUMN account_name;",
		[]string{"5 DS103 error"},
	},
	"nolint for all": {"-- atlas:nolint\n\nALTER TABLE user_credentials DROP COLUMN api_key;\nALTER TABLE " +
		"user_accounts DROP COLUMN account_name;", nil},
}

const addSeen = "ALTER TABLE user_accounts ADD COLUMN seen integer;\n"

func TestLint(t *testing.T) {
	t.Parallel()
	for name, tt := range lintCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := testdb.Versions(t)
			found, err := migrate.Lint(t.Context(), testdb.OpenDB(t, testdb.NewDatabase(t, "")), directory(t,
				map[string]string{next: tt.file}),
				migrate.LintOptions{Since: all[len(all)-1]})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range found {
				got = append(got, fmt.Sprintf("%d %s %s", d.Line, d.Code, d.Severity))
				if d.File != next || d.Text == "" || d.Name == "" {
					t.Errorf("%+v", d)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s\n%v", diff, found)
			}
		})
	}
}

// Our own directory has exactly the baseline's findings, all in released files,
// and the dev database ends up empty.
func TestLintOwnDirectory(t *testing.T) {
	t.Parallel()
	for name, opts := range testdb.Drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dev := testdb.OpenDB(t, testdb.NewDatabase(t, ""), opts...)
			for limits, want := range map[migrate.LintOptions][]string{
				{}: baseline(t), {Since: "20261125090000"}: nil,
				{Latest: 1}: nil,
			} {
				found, err := migrate.Lint(t.Context(), dev, directory(t, nil), limits)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, d := range found {
					got = append(got, fmt.Sprintf("postgres/%s:%d %s", d.File, d.Line, d.Code))
				}
				if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
					t.Errorf("%+v: %s", limits, diff)
				}
			}
		})
	}
}

// baseline reads the findings that make verify accepts.
func baseline(t *testing.T) (lines []string) {
	t.Helper()
	text, err := os.ReadFile("../../internal/migration/baseline.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestLintErrors(t *testing.T) {
	t.Parallel()
	t.Run("a statement that fails", func(t *testing.T) {
		t.Parallel()
		dir := newDirectory(t, map[string]string{"1_a.sql": "CREATE TABLE a (id int);\n\nINSERT INTO b VALUES " +
			"('CANARY');\n"})
		_, err := migrate.Lint(t.Context(), testdb.OpenDB(t, testdb.NewDatabase(t, "")), dir, migrate.LintOptions{})
		var failed *migrate.StatementError
		if !errors.As(err, &failed) || failed.File != "1_a.sql" || failed.Line != 3 ||
			strings.Contains(err.Error(), "CANARY") {
			t.Error(err)
		}
	})
	t.Run("unknown version", func(t *testing.T) {
		t.Parallel()
		_, err := migrate.Lint(t.Context(), testdb.OpenDB(t, testdb.NewDatabase(t, "")), directory(t, nil),
			migrate.LintOptions{Since: "7"})
		if !errors.Is(err, migrate.ErrUnknownVersion) {
			t.Error(err)
		}
	})
	t.Run("a database that is not empty", func(t *testing.T) {
		t.Parallel()
		env := testdb.New(t)
		if _, err := migrate.Lint(t.Context(), env.DB, directory(t, nil), migrate.LintOptions{}); err == nil {
			t.Error("no error")
		}
		env.Account(t, "still-there")
	})
	t.Run("edited file", func(t *testing.T) {
		t.Parallel()
		dir := fstest.MapFS{}
		own, err := migrate.Files("postgres")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{testdb.CreateTables + "_create_tables.sql", "atlas.sum"} {
			data, err := fs.ReadFile(own, name)
			if err != nil {
				t.Fatal(err)
			}
			dir[name] = &fstest.MapFile{Data: data}
		}
		_, err = migrate.Lint(t.Context(), testdb.OpenDB(t, testdb.NewDatabase(t, "")), dir, migrate.LintOptions{})
		if !errors.Is(err, migrate.ErrChanged) || !strings.Contains(err.Error(), "harden.sql was removed") {
			t.Error(err)
		}
	})
}
