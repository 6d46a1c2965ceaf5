package tenancy

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/credent-go/credent/internal/testdb"
)

// A statement with many rows has each row checked as a statement with one.
func TestTenantOfStatements(t *testing.T) {
	t.Parallel()
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		first, second := env.Account(t, "u1"), env.Account(t, "u2")
		taken := env.Credential(t, first, "PK1", "s1").ID
		const (
			columns = "INSERT INTO user_credentials (id, user_account_id, user_id, credential_type, api_key, " +
				"secret_key) "
			tokens = ", 'alpaca', 'gAAAA-not-opened', 'gAAAA-not-opened'"
			// 300 rows of account $1 with the user_id $2, but $3 in row 250.
			many = columns + "SELECT gen_random_uuid(), $1::uuid, CASE n WHEN 250 THEN $3 ELSE $2 END" + tokens +
				" FROM generate_series(1, 300) AS n"
		)
		env.Exec(t, "CREATE TEMP TABLE inserted (id uuid, user_account_id uuid, user_id varchar(255))")
		refused(t, env, ofAccount, many, first.ID, "u1", "u2")
		refused(t, env, ofAccount, many, first.ID, "u1", "")
		refused(t, env, ofAccount, "WITH rows AS ("+many+" RETURNING id) SELECT count(*) FROM rows",
			first.ID, "u1", "U1")
		refused(t, env, ofAccount, many, uuid.New(), "u1", "u1")
		refused(t, env, notNull, many, first.ID, "u1", nil)
		refused(t, env, notNull, many, first.ID, nil, "u1")
		refused(t, env, ofAccount, columns+"VALUES ($1, $2, 'u1'"+tokens+"), ($3, $4, 'u1'"+tokens+")", uuid.New(),
			first.ID, uuid.New(), second.ID)
		var n int
		if env.Value(t, &n, "SELECT count(*) FROM user_credentials"); n != 1 {
			t.Errorf("%d credentials after refused statements", n)
		}

		env.Exec(t, many, first.ID, "u1", "u1")
		env.Exec(t, many, second.ID, "u2", "u2")
		env.Exec(t, columns+"VALUES ($1, $2, 'u1'"+tokens+"), ($3, $4, 'u2'"+tokens+")", uuid.New(), first.ID,
			uuid.New(), second.ID)
		env.Exec(t, columns+"SELECT gen_random_uuid(), $1::uuid, 'u1'"+tokens+" WHERE false", first.ID)

		// A row that isn't inserted isn't compared; a row that ON CONFLICT
		// changes is.
		conflict := columns + "VALUES ($1, $2, $3" + tokens + ") ON CONFLICT (id) DO "
		env.Exec(t, conflict+"NOTHING", taken, first.ID, "u2")
		env.Exec(t, conflict+"UPDATE SET is_active = false", taken, first.ID, "u2")
		env.Exec(t, conflict+"UPDATE SET user_id = excluded.user_id", taken, first.ID, "u1")
		refused(t, env, notNull, conflict+"UPDATE SET is_active = false", taken, first.ID, nil)
		refused(t, env, ofAccount, conflict+"UPDATE SET user_id = excluded.user_id", taken, first.ID, "u2")
		refused(t, env, ofAccount, conflict+"NOTHING", uuid.New(), first.ID, "u2")

		if env.Value(t, &n, "SELECT count(*) FROM user_credentials"); n != 603 {
			t.Errorf("%d credentials", n)
		}
		// Postgres compares with the collation of the account's column. A
		// collation in which u1 equals U1, which no migration creates and
		// migrate.Check reports, makes them one user: for the key as for the
		// policies.
		for _, stmt := range []string{
			"CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
			"DROP POLICY user_accounts_tenant ON user_accounts",
			"ALTER TABLE user_accounts ALTER COLUMN user_id TYPE varchar(255) COLLATE nocase",
		} {
			env.Exec(t, stmt)
		}
		env.Exec(t, many, first.ID, "u1", "U1")
		refused(t, env, ofAccount, many, first.ID, "u1", "u2")
		if n := mismatches(t, env); n != 0 {
			t.Errorf("%d credentials have another user_id than their account", n)
		}
	})
}

// A service's SQL can't tell another user's account from a missing one by any
// field of the server's answer.
func TestAnotherUsersAccountLooksMissingToSQL(t *testing.T) {
	t.Parallel()
	s := testdb.NewService(t)
	s.Unchanged(t, "u1", "u2")
	conn := testdb.Session(t, testdb.OpenDB(t, s.ServiceURL, s.Opts...))
	if _, err := conn.ExecContext(t.Context(), "SET app.user_id = 'u1'"); err != nil {
		t.Fatal(err)
	}
	for name, stmt := range map[string]string{
		"one row": insertByID,
		"many":    insertTwoByID,
		"move":    "UPDATE user_credentials SET user_account_id = $1, user_id = $2",
	} {
		answer := func(account uuid.UUID) pgconn.PgError {
			_, err := conn.ExecContext(t.Context(), stmt, account, "u1")
			var answer *pgconn.PgError
			if !errors.As(err, &answer) {
				t.Fatalf("%s: %v", name, err)
			}
			return *answer
		}
		theirs, missing := answer(s.Accounts["u2"].ID), answer(uuid.New())
		if theirs != missing {
			t.Errorf("%s:\n%+v for another user's account,\n%+v for a missing one", name, theirs, missing)
		}
	}
}

// Whether row-level security applies to the writer may change within a
// statement. A mismatch is refused then as well.
func TestTenantOfStatementsAcrossRoles(t *testing.T) {
	t.Parallel()
	s := testdb.NewService(t)
	loader := s.Role + "_loader"
	s.Exec(t, "CREATE ROLE "+loader+" BYPASSRLS IN ROLE credent_app")
	t.Cleanup(func() {
		if _, err := s.DB.ExecContext(context.WithoutCancel(t.Context()), "DROP ROLE "+loader); err != nil {
			t.Error(err)
		}
	})
	conn := testdb.Session(t, s.DB)
	// With it an INTO that finds two rows would fail.
	for _, stmt := range []string{"SET plpgsql.extra_errors = 'all'", "SET ROLE " + loader} {
		if _, err := conn.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	for _, stmt := range []string{insertTwoByID, insertByID + " RETURNING set_config('role', '" +
		s.Role + "', false)"} {
		if _, err := conn.ExecContext(t.Context(), stmt, s.Accounts["u1"].ID, "u2"); err == nil ||
			!strings.Contains(err.Error(), ofAccount) {
			t.Errorf("%s: %v", stmt, err)
		}
	}
	if _, err := conn.ExecContext(t.Context(), "RESET ALL; RESET ROLE"); err != nil {
		t.Fatal(err)
	}
	if n := mismatches(t, s.Env); n != 0 {
		t.Errorf("%d credentials have another user_id than their account", n)
	}
}
