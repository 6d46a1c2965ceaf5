package tenancy

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// currentUser reads the user with SQL that doesn't depend on search_path.
const currentUser = "SELECT coalesce(pg_catalog.current_setting('app.user_id', true), 'not set')"

// strangeUsers would end a literal, or begin another statement.
var strangeUsers = []string{
	"u'1", `u"1`, `u\`, `u\'; DROP TABLE user_accounts; --`, `'; SELECT pg_catalog.set_config('app.user_id', 'u1', true); --`,
	`' || 'u1`, "u\n1", "$1", "%L", "%", "$$", "DEFAULT", "u1\t", "ü1", "", " ",
}

// TestSetUser checks that credent_set_user sets any text until the transaction
// ends.
func TestSetUser(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		db := testdb.OpenDB(t, s.ServiceURL, s.Env.Opts...)
		db.SetMaxOpenConns(1)
		for _, conforming := range []string{"on", "off"} {
			if _, err := db.ExecContext(t.Context(), "SET standard_conforming_strings = "+conforming); err != nil {
				t.Fatal(err)
			}
			for _, user := range strangeUsers {
				inTx(t, db, func(tx *sql.Tx) {
					set(t, tx, "u1")
					if _, err := tx.ExecContext(t.Context(), "SAVEPOINT a"); err != nil {
						t.Fatal(err)
					}
					set(t, tx, user)
					wantUser(t, tx, user)
					if _, err := tx.ExecContext(t.Context(), "ROLLBACK TO a"); err != nil {
						t.Fatal(err)
					}
					wantUser(t, tx, "u1")
					set(t, tx, nil) // fails closed
					wantUser(t, tx, "")
				})
				inTx(t, db, func(tx *sql.Tx) { wantUser(t, tx, "") })
			}
		}
	})
}

func inTx(t *testing.T, db *sql.DB, run func(tx *sql.Tx)) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	run(tx)
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
}

func set(t *testing.T, tx *sql.Tx, user any) {
	t.Helper()
	if _, err := tx.ExecContext(t.Context(), "SELECT credent_set_user($1)", user); err != nil {
		t.Fatalf("%q: %v", user, err)
	}
}

func wantUser(t *testing.T, tx *sql.Tx, want string) {
	t.Helper()
	var got string
	if err := tx.QueryRowContext(t.Context(), currentUser).Scan(&got); err != nil || got != want {
		t.Errorf("the user is %q, %v, want %q", got, err, want)
	}
}

// A schema first in search_path, even before Postgres's own, has functions and
// operators like the ones credent_set_user calls.
func TestSetUserIsSearchPathSafe(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		s.Exec(t, `CREATE SCHEMA evil`)
		s.Exec(t, `GRANT USAGE ON SCHEMA evil TO PUBLIC`)
		for _, name := range []string{"format(text, text)", "current_setting(text, boolean)", `"coalesce"(text, text)`} {
			s.Exec(t, "CREATE FUNCTION evil."+name+" RETURNS text LANGUAGE sql AS "+
				"$$ SELECT 'SET LOCAL app.user_id = ''u1'''::text $$")
		}
		s.Exec(t, `CREATE FUNCTION evil.ne(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$`)
		s.Exec(t, `CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.ne)`)
		s.Exec(t, `CREATE DOMAIN evil.text AS varchar(1)`)
		db := testdb.OpenDB(t, s.ServiceURL, s.Env.Opts...)
		db.SetMaxOpenConns(1)
		if _, err := db.ExecContext(t.Context(), "SET search_path = evil, pg_catalog, public"); err != nil {
			t.Fatal(err)
		}
		inTx(t, db, func(tx *sql.Tx) {
			set(t, tx, "u2")
			wantUser(t, tx, "u2")
			var propagates sql.NullString
			err := tx.QueryRowContext(t.Context(),
				"SELECT pg_catalog.current_setting('citus.propagate_set_commands', true)").Scan(&propagates)
			if err != nil || propagates.Valid {
				t.Errorf("on plain Postgres citus.propagate_set_commands is set, %v", err)
			}
		})
	})
}

// Without the function, or if only the owner may call it, a user's statement is
// refused. The grant holds even if functions aren't executable by everyone.
func TestSetUserIsMissing(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		s.Exec(t, "REVOKE EXECUTE ON FUNCTION credent_set_user(text) FROM PUBLIC")
		if n, err := s.App.UserCredential.Query().Count(testdb.As(t, "u1")); err != nil || n != 2 {
			t.Errorf("counts %d, %v, want 2", n, err)
		}
		required := testdb.Open(t, s.ServiceURL, append(s.Opts, testopt.RequireRowSecurity())...)
		for _, stmt := range []string{
			"REVOKE EXECUTE ON FUNCTION credent_set_user(text) FROM credent_app",
			"DROP FUNCTION credent_set_user(text)",
		} {
			s.Exec(t, stmt)
			if _, err := s.App.UserCredential.Query().Count(testdb.As(t, "u1")); !errors.Is(err, credent.ErrNoSetUser) {
				t.Errorf("%s: %v", stmt, err)
			}
			_, err := required.UserCredential.Query().Count(testdb.As(t, "u1"))
			if !errors.Is(err, credent.ErrNoSetUser) || !errors.Is(err, credent.ErrRowSecurity) ||
				errors.Is(err, credent.ErrUnsupported) {
				t.Errorf("%s, with row-level security required: %v", stmt, err)
			}
		}
		// A function that sets nothing is detected when the client checks the
		// role.
		s.Exec(t, "CREATE FUNCTION credent_set_user(text) RETURNS void LANGUAGE sql AS ''")
		if _, err := required.UserCredential.Query().Count(testdb.As(t, "u1")); err == nil {
			t.Error("a function that sets nothing was accepted")
		}
	})
}
