package tenancy

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/pgserver"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/migrate"
)

const tenancy = "20261124030200"

// grants returns everything granted to credent_app in a database, and the
// privileges that everyone has.
func grants(t *testing.T, db *sql.DB) []string {
	t.Helper()
	return testdb.Lines(t, db, `SELECT line FROM (
		SELECT c.relname || ' ' || a.privilege_type || CASE WHEN a.is_grantable THEN ' and may grant it' ELSE '' END AS line
		FROM pg_class c, aclexplode(c.relacl) a WHERE a.grantee = 'credent_app'::regrole
		UNION ALL SELECT c.relname || '.' || t.attname || ' ' || a.privilege_type
		FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid, aclexplode(t.attacl) a WHERE a.grantee = 'credent_app'::regrole
		UNION ALL SELECT 'schema ' || n.nspname || ' ' || a.privilege_type
		FROM pg_namespace n, aclexplode(n.nspacl) a WHERE a.grantee = 'credent_app'::regrole
		UNION ALL SELECT 'function ' || p.proname || ' ' || a.privilege_type
		FROM pg_proc p, aclexplode(p.proacl) a WHERE a.grantee = 'credent_app'::regrole
		UNION ALL SELECT 'default ' || a.privilege_type
		FROM pg_default_acl d, aclexplode(d.defaclacl) a WHERE a.grantee = 'credent_app'::regrole
		UNION ALL SELECT 'owns ' || c.relname FROM pg_class c WHERE c.relowner = 'credent_app'::regrole
		UNION ALL SELECT 'member of ' || roleid::regrole FROM pg_auth_members WHERE member = 'credent_app'::regrole
		) AS all_lines ORDER BY line`)
}

// leastGrants are the grants that a service needs.
var leastGrants = []string{
	"credent_audit.action INSERT", "credent_audit.actor INSERT", "credent_audit.at INSERT",
	"credent_audit.column_name INSERT", "credent_audit.id INSERT", "credent_audit.key_id INSERT",
	"credent_audit.mac INSERT", "credent_audit.note INSERT", "credent_audit.outcome INSERT",
	"credent_audit.prev INSERT", "credent_audit.request INSERT", "credent_audit.row_count INSERT",
	"credent_audit.row_id INSERT", "credent_audit.seq INSERT", "credent_audit.signer INSERT",
	"credent_audit.table_name INSERT", "credent_audit.tenant INSERT", "credent_audit.writer INSERT",
	"credent_canary SELECT", "credent_states SELECT",
	"credent_tenant_keys SELECT", "credent_tenant_keys.tenant INSERT", "credent_tenant_keys.wrapped INSERT",
	"function credent_audit_partitions EXECUTE", "function credent_set_user EXECUTE", "schema public USAGE",
	"user_accounts DELETE", "user_accounts INSERT", "user_accounts SELECT", "user_accounts UPDATE",
	"user_credentials DELETE", "user_credentials INSERT", "user_credentials SELECT", "user_credentials UPDATE",
}

func TestGrants(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		if diff := cmp.Diff(leastGrants, grants(t, s.DB)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"false false false false false false"}, testdb.Lines(t, s.DB,
			"SELECT concat_ws(' ', rolsuper::text, rolbypassrls::text, rolcreaterole::text, rolcreatedb::text, "+
				"rolreplication::text, rolcanlogin::text) FROM pg_roles WHERE rolname = 'credent_app'")); diff != "" {
			t.Error(diff)
		}
		// A member's privileges on every table, whoever granted them.
		if diff := cmp.Diff(
			[]string{
				"credent_canary t f f f f f f", "credent_states t f f f f f f",
				"credent_tenant_keys t f f f f f f", "user_accounts t t t t f f f", "user_credentials t t t t f f f",
			},
			testdb.Lines(t, s.DB, `SELECT line FROM (SELECT c.relname, concat_ws(' ', c.relname, `+
				privileges("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")+`) AS line
				FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
				WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
				AND has_table_privilege($1, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')) AS t ORDER BY relname`,
				s.Role)); diff != "" {
			t.Error(diff)
		}
		// The owner is exempt: with FORCE the Python application would see
		// nothing.
		if diff := cmp.Diff([]string{
			"credent_audit true false", "credent_tenant_keys true false", "user_accounts true false",
			"user_credentials true false",
		}, testdb.Lines(t, s.DB,
			"SELECT concat_ws(' ', relname, relrowsecurity::text, relforcerowsecurity::text) FROM pg_class "+
				"WHERE relname IN ('credent_audit', 'credent_tenant_keys', 'user_accounts', 'user_credentials') "+
				"ORDER BY relname")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{
			"credent_audit a true credent_app", "credent_audit r true credent_auditor",
			"credent_tenant_keys * true -", "user_accounts * true -", "user_credentials * true -",
		}, testdb.Lines(t, s.DB,
			"SELECT concat_ws(' ', polrelid::regclass, polcmd, polpermissive::text, (SELECT "+
				"string_agg(r::regrole::text, ',') FROM "+
				"unnest(polroles) r)) FROM pg_policy ORDER "+
				"BY 1")); diff != "" {
			t.Error(diff)
		}
	})
}

func privileges(names ...string) string {
	var columns []string
	for _, name := range names {
		columns = append(columns, "left(has_table_privilege($1, c.oid, '"+name+"')::text, 1)")
	}
	return strings.Join(columns, ", ")
}

// tenancyFile returns the migrations that create row-level security and
// triggers, and drop the triggers that a foreign key replaced.
func tenancyFile(t *testing.T) string {
	t.Helper()
	dir, err := migrate.Files("postgres")
	if err != nil {
		t.Fatal(err)
	}
	var texts []byte
	for _, name := range []string{
		tenancy + "_tenancy.sql", "20261125030000_tenant_trigger.sql", "20261125090000_tenant_statement.sql",
		"20261127200300_drop_tenant_triggers.sql",
	} {
		text, err := fs.ReadFile(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text...)
	}
	return string(texts)
}

// The file has the same result whether its work is done, half done or not done.
func TestTenancyMigrationIsIdempotent(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		snapshot := func() []string {
			return append(grants(t, s.DB), testdb.Lines(t, s.DB, `SELECT line FROM (
				SELECT pg_get_functiondef(oid) AS line FROM pg_proc WHERE proname LIKE 'credent%'
				UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
				UNION ALL SELECT concat_ws(' ', polname, polrelid::regclass, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) FROM pg_policy
				) AS t ORDER BY line`)...)
		}
		before := snapshot()
		file := tenancyFile(t)
		// The file predates the trigger that runs at the end of a transaction.
		// With that trigger no table can be altered in a transaction after its
		// user_id has changed.
		s.Exec(t, `ALTER TABLE user_credentials DISABLE TRIGGER "credent_user_credentials__user_id_move"`)
		for _, undo := range []string{
			"SELECT 1",
			"DROP POLICY user_accounts_tenant ON user_accounts",
			"ALTER TABLE user_accounts DISABLE ROW LEVEL SECURITY; REVOKE ALL ON user_accounts, user_credentials " +
				"FROM credent_app",
			"ALTER TABLE user_credentials DISABLE TRIGGER ALL; UPDATE user_credentials SET user_id = 'x'; " +
				`ALTER TABLE user_credentials ENABLE TRIGGER ALL, DISABLE TRIGGER "credent_user_credentials__user_id_move"`,
		} {
			s.Exec(t, undo)
			s.Exec(t, file)
			if diff := cmp.Diff(before, snapshot()); diff != "" {
				t.Errorf("%s: %s", undo, diff)
			}
			if n := mismatches(t, s.Env); n != 0 {
				t.Errorf("%s: %d credentials have another user_id than their account", undo, n)
			}
		}
		if got := usersSeen(t, testdb.As(t, "u1"), s.App.UserCredential.Query()); len(got) != 2 {
			t.Errorf("u1 sees %v", got)
		}
	})
}

// ownServer starts a server for a test about server-wide objects: roles.
func ownServer(t *testing.T) *pgserver.Server {
	t.Helper()
	own, err := pgserver.Start(t.Context(), pgserver.Private())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := own.Stop(); err != nil {
			t.Error(err)
		}
	})
	return own
}

// emptyDatabase returns a database on the test's own server.
func emptyDatabase(t *testing.T, own *pgserver.Server) string {
	t.Helper()
	url, _, err := own.CreateDatabase(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// Several databases of a server without the role are migrated at the same
// moment; each creates it or finds it.
func TestMigrateDatabasesAtOnce(t *testing.T) {
	t.Parallel()
	own := ownServer(t)
	for range 2 {
		var urls []string
		for range 4 {
			urls = append(urls, emptyDatabase(t, own))
		}
		var wg sync.WaitGroup
		for i, url := range urls {
			opts := testdb.Drivers["pq"]
			if i%2 == 0 {
				opts = testdb.Drivers["pgx"]
			}
			db := testdb.OpenDB(t, url, opts...)
			wg.Go(func() {
				if err := testopt.Apply(t.Context(), db); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, url := range urls {
			if diff := cmp.Diff(leastGrants, grants(t, testdb.OpenDB(t, url))); diff != "" {
				t.Error(diff)
			}
		}
		db := testdb.OpenDB(t, urls[0])
		for _, url := range urls {
			if _, err := testdb.OpenDB(t, url).ExecContext(t.Context(), "DROP OWNED BY credent_app"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := db.ExecContext(t.Context(), "DROP ROLE credent_app"); err != nil {
			t.Fatal(err)
		}
	}
}

// If the migrator may not create roles, as on managed servers, it prints what
// an administrator must run, and has changed nothing; after that it continues.
func TestMigratorWithoutCreateRole(t *testing.T) {
	t.Parallel()
	own := ownServer(t)
	for name, opts := range testdb.Drivers {
		adminURL := emptyDatabase(t, own)
		admin := testdb.OpenDB(t, adminURL, opts...)
		migrator, password := "migrator_"+name, rand.Text()
		exec := func(stmts ...string) {
			t.Helper()
			for _, stmt := range stmts {
				if _, err := admin.ExecContext(t.Context(), stmt); err != nil {
					t.Fatalf("%s: %v", stmt, err)
				}
			}
		}
		var database string
		if err := admin.QueryRowContext(t.Context(), "SELECT current_database()").Scan(&database); err != nil {
			t.Fatal(err)
		}
		exec("CREATE ROLE "+migrator+" LOGIN PASSWORD '"+password+"'",
			fmt.Sprintf("ALTER DATABASE %q OWNER TO %s", database, migrator))
		u, err := url.Parse(adminURL)
		if err != nil {
			t.Fatal("the URL does not parse")
		}
		u.User = url.UserPassword(migrator, password)
		db := testdb.OpenDB(t, u.String(), opts...)
		err = testopt.Apply(t.Context(), db)
		for _, text := range []string{
			tenancy + "_tenancy.sql", "CREATE ROLE credent_app NOLOGIN", migrator,
			"then migrate again",
		} {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Fatalf("%s: the error lacks %q: %v", name, text, err)
			}
		}
		if diff := cmp.Diff([]string{testdb.CreateTables, testdb.Harden}, testdb.AppliedVersions(t, db)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if got := testdb.Lines(t, admin,
			"SELECT relname FROM pg_class WHERE relrowsecurity UNION ALL SELECT proname FROM pg_proc WHERE proname "+
				"LIKE 'credent%' UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal UNION ALL SELECT "+
				"polname FROM pg_policy UNION ALL SELECT rolname FROM pg_roles WHERE rolname = 'credent_app'"); len(
			got) != 0 {
			t.Errorf("%s: left behind: %v", name, got)
		}
		exec("CREATE ROLE credent_app NOLOGIN BYPASSRLS")
		if err := testopt.Apply(t.Context(), db); err == nil ||
			!strings.Contains(err.Error(), "ALTER ROLE credent_app NOSUPERUSER NOBYPASSRLS") {
			t.Errorf("%s: with a role that bypasses row-level security: %v", name, err)
		}
		exec("ALTER ROLE credent_app NOBYPASSRLS")
		if err := testopt.Apply(t.Context(), db); err == nil ||
			!strings.Contains(err.Error(), "CREATE ROLE credent_auditor NOLOGIN; then migrate again") {
			t.Errorf("%s: without the auditors' role: %v", name, err)
		}
		exec("CREATE ROLE credent_auditor NOLOGIN")
		if err := testopt.Apply(t.Context(), db); err != nil {
			t.Fatalf("%s: once the roles exist: %v", name, err)
		}
		// Before Postgres 15 the migrator can't grant on the schema public, and
		// everyone can use it.
		isSchema := func(line string) bool { return strings.HasPrefix(line, "schema ") }
		if diff := cmp.Diff(slices.DeleteFunc(slices.Clone(leastGrants), isSchema), slices.DeleteFunc(grants(t, db),
			isSchema)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		// Clean up for the next driver.
		exec("DROP OWNED BY credent_app, credent_auditor", "DROP ROLE credent_app, credent_auditor")
	}
}
