package accountkey

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testdb/bare"
	"github.com/credent-go/credent/internal/testopt"
)

// forEachFile runs a test over both drivers of SQLite, on a file with triggers
// and two users. The pool has one connection, which has foreign keys on.
func forEachFile(t *testing.T, test func(t *testing.T, db *sql.DB)) {
	t.Helper()
	for _, driver := range []string{"sqlite", "sqlite3"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			db, _ := bare.Empty(t, driver)
			db.SetMaxOpenConns(1)
			if err := testopt.Apply(t.Context(), db, testopt.WithTarget("20261127150000")); err != nil {
				t.Fatal(err)
			}
			testdb.Run(t, db,
				"INSERT INTO user_accounts (id, user_id, account_name) VALUES ('a1', 'u1', 'n'), ('a2', 'u2', 'n')",
				`INSERT INTO user_credentials
  (id, user_account_id, user_id, credential_type, api_key, secret_key, api_key_index, expires_at)
VALUES ('c1', 'a1', 'u1', 'alpaca', 'gAAAA1', 'gAAAA2', x'00ff', '2026-01-02 03:04:05'),
  ('c2', 'a1', 'u1', 'polygon', 'gAAAA3', 'gAAAA4', NULL, NULL),
  ('c3', 'a2', 'u2', 'alpaca', 'gAAAA5', 'gAAAA6', x'01', NULL)`,
				"DELETE FROM user_credentials WHERE id = 'c2'", // the numbers of rows have a gap
				"CREATE TABLE notes (id integer PRIMARY KEY, "+
					"credential uuid REFERENCES user_credentials (id) ON DELETE CASCADE)",
				"INSERT INTO notes (credential) VALUES ('c1'), ('c3')")
			test(t, db)
			var on int
			if err := db.QueryRowContext(t.Context(), "PRAGMA foreign_keys").Scan(&on); err != nil || on != 1 {
				t.Errorf("afterwards foreign_keys is %d, %v", on, err)
			}
		})
	}
}

const (
	all = "SELECT quote(id) || quote(is_active) || quote(created_at) || quote(updated_at) || quote(user_id) || " +
		"quote(credential_type) || quote(api_key) || quote(secret_key) || quote(expires_at) || " +
		"quote(user_account_id) || quote(api_key_index) FROM user_credentials ORDER BY id"
	sqliteVersion = "SELECT max(version) FROM atlas_schema_revisions"
)

// The table is rebuilt with its rows, indexes and triggers, and rows of other
// tables that refer to it stay.
func TestSQLiteKeepsRows(t *testing.T) {
	t.Parallel()
	forEachFile(t, func(t *testing.T, db *sql.DB) {
		before := testdb.Lines(t, db, all)
		if err := testopt.Apply(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, testdb.Lines(t, db, all)); diff != "" {
			t.Error(diff)
		}
		if n := testdb.Lines(t, db, "SELECT count(*) FROM notes"); n[0] != "2" {
			t.Errorf("%s notes", n)
		}
		report, err := testopt.Check(t.Context(), db)
		if err != nil || report.Err() != nil {
			t.Errorf("%v, %+v", err, report)
		}
		// What a service relies on.
		for stmt, want := range map[string]string{
			"UPDATE user_credentials SET api_key = 'gAAAA9' WHERE id = 'c3'": "NULL",
			"UPDATE user_credentials SET is_active = 0 WHERE id = 'c1'":      "X'00FF'",
		} {
			testdb.Run(t, db, stmt)
			id := stmt[len(stmt)-4:]
			got := testdb.Lines(t, db, "SELECT quote(api_key_index) FROM user_credentials WHERE id = "+id)
			if got[0] != want {
				t.Errorf("%s: the digest is %s", stmt, got)
			}
		}
		testdb.Run(t, db, "DELETE FROM user_accounts WHERE id = 'a1'")
		got := testdb.Lines(t, db, "SELECT id FROM user_credentials UNION ALL SELECT credential FROM notes")
		if len(got) != 2 {
			t.Errorf("without the account there are %v", got)
		}
	})
}

// What would be lost with the old table, or would not be right in the new one,
// stops the migration, and everything is as it was.
func TestSQLiteRefusesWhatItWouldLose(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ make, undo, text string }{
		"column": {
			"ALTER TABLE user_credentials ADD COLUMN mine text", "ALTER TABLE user_credentials DROP COLUMN mine",
			"a column of others",
		},
		"index": {
			"CREATE INDEX mine ON user_credentials (expires_at)", "DROP INDEX mine", "an index or a trigger of others",
		},
		"trigger": {
			"CREATE TRIGGER mine AFTER DELETE ON user_credentials BEGIN SELECT 1; END", "DROP TRIGGER mine",
			"an index or a trigger of others",
		},
		"mismatch": {
			"PRAGMA foreign_keys = off; DROP TRIGGER user_credentials_tenant_update; " +
				"UPDATE user_credentials SET user_id = 'u2' WHERE id = 'c1'; PRAGMA foreign_keys = on",
			"UPDATE user_credentials SET user_id = 'u1' WHERE id = 'c1'",
			"rows of user_credentials that refer to no row of user_accounts: 1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forEachFile(t, func(t *testing.T, db *sql.DB) {
				testdb.Run(t, db, test.make)
				before := testdb.Lines(t, db, all)
				err := testopt.Apply(t.Context(), db)
				if err == nil || !strings.Contains(err.Error(), test.text) ||
					!strings.Contains(err.Error(), "account_key.sql") {
					t.Errorf("%v", err)
				}
				if diff := cmp.Diff(before, testdb.Lines(t, db, all)); diff != "" {
					t.Error(diff)
				}
				if got := testdb.Lines(t, db, sqliteVersion); got[0] != lastWithTriggers {
					t.Errorf("it is at %s", got)
				}
				testdb.Run(t, db, test.undo)
				if err := testopt.Apply(t.Context(), db); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Rows of others that referred to nothing before don't stop it.
func TestSQLiteLeavesOthersRows(t *testing.T) {
	t.Parallel()
	forEachFile(t, func(t *testing.T, db *sql.DB) {
		testdb.Run(t, db, "PRAGMA foreign_keys = off", "INSERT INTO notes (credential) VALUES ('nothing')",
			"PRAGMA foreign_keys = on")
		if err := testopt.Apply(t.Context(), db); err != nil {
			t.Error(err)
		}
		if n := testdb.Lines(t, db, "SELECT count(*) FROM notes"); n[0] != "3" {
			t.Errorf("%s notes", n)
		}
	})
}

// Foreign keys are a connection's own matter on SQLite, and off by default. The
// key holds either way, and an account's credentials follow it.
func TestSQLiteWithoutForeignKeys(t *testing.T) {
	t.Parallel()
	for _, keys := range []string{"off", "on"} {
		t.Run(keys, func(t *testing.T) {
			t.Parallel()
			forEachFile(t, func(t *testing.T, db *sql.DB) {
				if err := testopt.Apply(t.Context(), db); err != nil {
					t.Fatal(err)
				}
				testdb.Run(t, db, "PRAGMA foreign_keys = "+keys)
				tokens := "'alpaca', 'gAAAA1', 'gAAAA2'"
				columns := "INSERT INTO user_credentials " +
					"(id, user_account_id, user_id, credential_type, api_key, secret_key) VALUES "
				for _, stmt := range []string{
					columns + "('c9', 'a1', 'u2', " + tokens + ")",
					columns + "('c9', 'a1', 'U1', " + tokens + ")",
					columns + "('c8', 'a1', 'u1', " + tokens + "), ('c9', 'nowhere', 'u1', " + tokens + ")",
					"INSERT OR REPLACE" + strings.TrimPrefix(columns, "INSERT") + "('c1', 'a1', 'u2', " + tokens + ")",
					columns + "('c1', 'a1', 'u1', " + tokens + ") ON CONFLICT (id) DO UPDATE SET user_id = 'u2'",
					"UPDATE user_credentials SET user_id = 'u2' WHERE id = 'c1'",
					"UPDATE user_credentials SET user_account_id = 'a2' WHERE id = 'c1'",
					"UPDATE user_credentials SET user_account_id = 'nowhere', user_id = 'u1' WHERE id = 'c1'",
				} {
					_, err := db.ExecContext(t.Context(), stmt)
					if err == nil || !strings.Contains(err.Error(), "FOREIGN KEY constraint failed: "+accountKey) {
						t.Errorf("%s: %v", stmt, err)
					}
				}
				if _, err := db.ExecContext(t.Context(), columns+"('c9', 'a1', NULL, "+tokens+")"); err == nil ||
					!strings.Contains(err.Error(), "NOT NULL constraint failed: user_credentials.user_id") {
					t.Errorf("without user_id: %v", err)
				}
				testdb.Run(t, db,
					columns+"('c1', 'a1', 'u2', "+tokens+") ON CONFLICT (id) DO NOTHING",
					"UPDATE user_credentials SET user_account_id = 'a2', user_id = 'u2' WHERE id = 'c1'",
					"UPDATE user_accounts SET user_id = user_id || '-new'")
				if got := testdb.Lines(t, db, mismatches); got[0] != "0" {
					t.Errorf("%s credentials differ from their account", got)
				}
				got := testdb.Lines(t, db, "SELECT user_id FROM user_credentials")
				if diff := cmp.Diff([]string{"u2-new", "u2-new"}, got); diff != "" {
					t.Error(diff)
				}
				testdb.Run(t, db, "PRAGMA foreign_keys = on")
			})
		})
	}
}

// The client's errors are the same over every driver.
func TestErrorsOfTheAccountKey(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		ctx := t.Context()
		first, second := env.Account(t, "u1"), env.Account(t, "u2")
		c := env.Credential(t, first, "PK1", "s1")
		for name, err := range map[string]error{
			"create":  testdb.NewCredential(env.Client, first.ID).SetUserID("u2").Exec(ctx),
			"missing": testdb.NewCredential(env.Client, c.ID).SetUserID("u1").Exec(ctx),
			"bulk": env.Client.UserCredential.CreateBulk(testdb.NewCredential(env.Client, first.ID),
				testdb.NewCredential(env.Client, second.ID).SetUserID("u1")).Exec(ctx),
			"update": c.Update().SetUserID("u2").Exec(ctx),
			"move":   c.Update().SetAccount(second).SetUserID("u1").Exec(ctx),
		} {
			if !errors.Is(err, credent.ErrTenantMismatch) || !ent.IsConstraintError(err) ||
				!strings.Contains(fmt.Sprint(err), accountKey) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if moved := c.Update().SetAccount(second).SaveX(ctx); moved.UserID != "u2" {
			t.Errorf("moved to u2's account, the credential is %s's", moved.UserID)
		}
		second.Update().SetUserID("u9").ExecX(ctx)
		got := env.Client.UserCredential.GetX(ctx, c.ID)
		if got.UserID != "u9" || testdb.Reveal(t, got.APIKey) != "PK1" {
			t.Errorf("the credential is %s's", got.UserID)
		}
	})
}
