package tenancy

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
)

// guarded makes the service's client one that requires row-level security, and
// returns its pool, of one connection.
func guarded(t *testing.T, s *testdb.Service) *sql.DB {
	t.Helper()
	db := testdb.OpenDB(t, s.ServiceURL, s.Opts...)
	db.SetMaxOpenConns(1)
	s.App = testdb.Must(testopt.NewClient(db, "postgres", append(s.Opts, testopt.RequireRowSecurity())...))
	return db
}

// around are the ways around row-level security: SQL that the administrator
// runs, with {role} for the service's role and {other} for another one, or that
// was run on the pooled connection; and what the error says.
var around = map[string]struct {
	admin, pooled string
	cause, remedy string
}{
	"owner": {
		admin: "ALTER TABLE user_credentials OWNER TO {role}",
		cause: "it owns the table", remedy: "CREATE ROLE name LOGIN PASSWORD '…' IN ROLE credent_app",
	},
	"member of the owner": {
		admin: "ALTER TABLE user_accounts OWNER TO {other}; GRANT {other} TO {role}",
		cause: "it inherits from {other}, which owns the table", remedy: `REVOKE "{other}" FROM "{role}"`,
	},
	"owner of the keys": {admin: "ALTER TABLE credent_tenant_keys OWNER TO {role}", cause: "it owns the table"},
	"superuser":         {admin: "ALTER ROLE {role} SUPERUSER", cause: "it is a superuser", remedy: "credent_app"},
	"BYPASSRLS":         {admin: "ALTER ROLE {role} BYPASSRLS", cause: "it has BYPASSRLS", remedy: `ALTER ROLE "{role}" NOBYPASSRLS`},
	"disabled": {
		admin: "ALTER TABLE user_accounts DISABLE ROW LEVEL SECURITY",
		cause: "not enabled on the table", remedy: "ENABLE ROW LEVEL SECURITY",
	},
	"disabled, the keys": {
		admin: "ALTER TABLE credent_tenant_keys DISABLE ROW LEVEL SECURITY",
		cause: "not enabled on the table",
	},
	"a policy dropped": {
		admin: "DROP POLICY user_credentials_tenant ON user_credentials", cause: "missing or altered",
		remedy: "credent migrate check",
	},
	"a policy opened": {
		admin: "ALTER POLICY user_credentials_tenant ON user_credentials USING (true)",
		cause: "missing or altered",
	},
	"a check opened": {
		admin: "ALTER POLICY user_credentials_tenant ON user_credentials WITH CHECK (true)",
		cause: "missing or altered",
	},
	"another policy": {
		admin: "CREATE POLICY support ON user_accounts FOR SELECT USING (true)",
		cause: "lets the role see more",
	},
	"a policy for some": {
		admin: "ALTER POLICY user_accounts_tenant ON user_accounts TO {other}",
		cause: "missing or altered",
	},
	"a policy of another setting": {
		admin: "ALTER POLICY user_accounts_tenant ON user_accounts USING (user_id = " +
			"NULLIF(current_setting('app.tenant', true), ''))",
		cause: "missing or altered",
	},
	"row_security off": {pooled: "SET row_security = off", cause: "row_security is off", remedy: "RESET row_security"},
	"SET ROLE": {
		admin:  "ALTER TABLE user_accounts OWNER TO {other}; ALTER ROLE {role} NOINHERIT; GRANT {other} TO {role}",
		pooled: "SET ROLE {other}", cause: "(logged in as {role}) on table user_accounts: it owns the table",
	},
	"no schema": {
		admin: "REVOKE ALL ON SCHEMA public FROM PUBLIC, credent_app",
		cause: "no such table that the role may use", remedy: "GRANT credent_app TO ",
	},
	"temporary table": {
		pooled: "CREATE TEMP TABLE user_accounts (LIKE user_accounts)",
		cause:  "not enabled on the table",
	},
}

// TestRequireRowSecurity is case A13 and its kind: a role that gets around the
// policies is refused when the client is opened and at each statement, for a
// user or for nobody, and has changed nothing.
func TestRequireRowSecurity(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		for name := range around {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				refusesAround(t, fresh(t, s), name)
			})
		}
	})
}

// fresh returns another service like this one.
func fresh(t *testing.T, s *testdb.Service) *testdb.Service {
	t.Helper()
	return testdb.NewService(t, s.Env.Opts...)
}

func refusesAround(t *testing.T, s *testdb.Service, name string) {
	t.Helper()
	way := around[name]
	other, _ := testdb.NewServiceRole(t, s.Env)
	filled := strings.NewReplacer("{role}", s.Role, "{other}", other)
	db := guarded(t, s)
	if got := usersSeen(t, testdb.As(t, "u1"), s.App.UserCredential.Query()); len(got) != 2 {
		t.Fatalf("before: u1 sees %v", got)
	}
	s.Unchanged(t, "u1", "u2")
	if way.admin != "" {
		s.Exec(t, filled.Replace(way.admin))
	}
	refused := func(what string, err error) {
		t.Helper()
		var detail *client.RowSecurityError
		if !errors.Is(err, credent.ErrRowSecurity) || !errors.As(err, &detail) {
			t.Errorf("%s: %v", what, err)
			return
		}
		cause := way.cause
		if detail.Role == "" { // nothing can be asked in a transaction that failed
			cause = "credent_set_user is missing, or the role may not call it"
			if !detail.IsMissing() || !errors.Is(err, credent.ErrNoSetUser) {
				t.Errorf("%s: %v", what, err)
			}
		}
		for _, text := range []string{"role " + detail.Role, cause, way.remedy} {
			if !strings.Contains(err.Error(), filled.Replace(text)) {
				t.Errorf("%s: the error lacks %q: %v", what, filled.Replace(text), err)
			}
		}
	}
	if way.pooled == "" {
		_, err := testopt.Open(t.Context(), s.ServiceURL, append(s.Opts, testopt.RequireRowSecurity())...)
		refused("Open", err)
	} else if _, err := db.ExecContext(t.Context(), filled.Replace(way.pooled)); err != nil {
		t.Fatal(err)
	}
	for who, ctx := range map[string]context.Context{
		"u1": testdb.As(t, "u1"), "nobody": testdb.As(t, "nobody"),
		"no user": t.Context(),
	} {
		for read, run := range reads(s) {
			_, err := run(ctx)
			refused(who+", "+read, err)
		}
		for write, err := range writeErrors(ctx, s) {
			refused(who+", "+write, err)
		}
		_, err := testopt.Copy(ctx, db, testdb.Sequence(testdb.CopyRows(3, "u1")...), credent.CopyConfig{},
			append(s.Opts, testopt.RequireRowSecurity())...)
		refused(who+", Copy", err)
	}
}

// writeErrors are the errors of the ways to write.
func writeErrors(ctx context.Context, s *testdb.Service) map[string]error {
	_, updateErr := s.App.UserAccount.Update().SetAccountName("changed").Save(ctx)
	_, deleteErr := s.App.UserCredential.Delete().Exec(ctx)
	_, sqlErr := s.App.ExecContext(ctx, "UPDATE user_accounts SET account_name = 'changed'")
	_, txErr := s.App.BeginTx(ctx, nil)
	return map[string]error{
		"update": updateErr, "delete": deleteErr, "SQL": sqlErr, "transaction": txErr,
		"create": s.App.UserAccount.Create().SetUserID("u9").SetAccountName("new").Exec(ctx),
		"update one": s.App.UserCredential.UpdateOneID(s.Credentials["u2"][0].ID).
			SetAPIKey(credent.NewSecret("PK")).Exec(ctx),
	}
}

// TestRequireRowSecurityHolds is about roles and policies that are as safe as
// the ones that the migrations make.
func TestRequireRowSecurityHolds(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		for name, admin := range map[string]string{
			"a member": "SELECT 1",
			"owner with FORCE": "ALTER TABLE user_accounts OWNER TO {role}; ALTER TABLE user_accounts FORCE " +
				"ROW LEVEL SECURITY",
			"a member without INHERIT": "ALTER TABLE user_accounts OWNER TO {other}; ALTER ROLE {role} NOINHERIT; " +
				"GRANT {other} TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
			"a restrictive policy more": "CREATE POLICY only_active ON user_accounts AS RESTRICTIVE USING (is_active)",
			"a policy without a check": "DROP POLICY user_accounts_tenant ON user_accounts; CREATE POLICY renamed ON " +
				"user_accounts USING (user_id = NULLIF(current_setting('app.user_id', true), ''))",
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := fresh(t, s)
				other, _ := testdb.NewServiceRole(t, s.Env)
				s.Exec(t, strings.NewReplacer("{role}", s.Role, "{other}", other).Replace(admin))
				s.App = testdb.Open(t, s.ServiceURL, append(s.Opts, testopt.RequireRowSecurity())...)
				s.Unchanged(t, "u2")
				for user, want := range map[string][]string{
					"u1": {"u1", "u1"}, "u2": {"u2"}, "": nil,
					"nobody": nil, "u'1": nil,
				} {
					if diff := cmp.Diff(want, usersSeen(t, testdb.As(t, user),
						s.App.UserCredential.Query())); diff != "" {
						t.Errorf("%q: %s", user, diff)
					}
				}
				if got := usersSeen(t, t.Context(), s.App.UserCredential.Query()); len(got) != 0 {
					t.Errorf("without a user: %v", got)
				}
				if n, err := s.App.UserAccount.Update().SetAccountName("changed").
					Save(t.Context()); n != 0 || err != nil {
					t.Errorf("without a user, changed %d, %v", n, err)
				}
				if n, err := s.App.UserAccount.Update().SetAccountName("changed").
					Save(testdb.As(t, "u1")); n != 1 || err != nil {
					t.Errorf("changed %d, %v", n, err)
				}
				if _, err := s.App.QueryContext(t.Context(), "SELECT 1"); !errors.Is(err, credent.ErrNeedsTx) { //nolint:rowserrcheck,sqlclosecheck // there are none
					t.Errorf("QueryContext: %v", err)
				}
			})
		}
	})
}

// The user of a role or a session doesn't count with the option: a statement
// without WithUser is nobody's.
func TestRequireRowSecurityIsNobodys(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		db := guarded(t, s)
		if _, err := db.ExecContext(t.Context(), "SET app.user_id = 'u2'"); err != nil {
			t.Fatal(err)
		}
		if got := usersSeen(t, t.Context(), s.App.UserCredential.Query()); len(got) != 0 {
			t.Errorf("sees %v", got)
		}
	})
}

// A transaction looks again after raw SQL, which may have changed the role.
func TestRequireRowSecurityInTransactions(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		other, _ := testdb.NewServiceRole(t, s.Env)
		s.Exec(t, "ALTER TABLE user_accounts OWNER TO "+other+"; ALTER ROLE "+s.Role+" NOINHERIT; "+
			"GRANT "+other+" TO "+s.Role+"; GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO "+s.Role)
		guarded(t, s)
		s.Unchanged(t, "u1", "u2")
		tx, err := s.App.BeginTx(testdb.As(t, "u1"), &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelSerializable})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tx.UserAccount.Query().Count(testdb.As(t, "u1")); got != 1 || err != nil {
			t.Errorf("u1 counts %d, %v", got, err)
		}
		if _, err := tx.ExecContext(testdb.As(t, "u1"), "SET ROLE "+other); err != nil {
			t.Fatal(err)
		}
		_, queryErr := tx.UserAccount.Query().All(testdb.As(t, "u1"))
		_, sqlErr := tx.ExecContext(testdb.As(t, "u1"), "SELECT 1")
		_, rowsErr := tx.QueryContext(testdb.As(t, "u1"), "SELECT 1") //nolint:rowserrcheck,sqlclosecheck // there are none
		for i, err := range []error{queryErr, sqlErr, rowsErr} {
			var detail *client.RowSecurityError
			if !errors.As(err, &detail) || detail.Role != other || detail.Login != s.Role ||
				detail.Table != "user_accounts" {
				t.Errorf("%d: %v", i, err)
			}
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
		if got := usersSeen(t, testdb.As(t, "u2"), s.App.UserCredential.Query()); len(got) != 1 {
			t.Errorf("afterwards u2 sees %v", got)
		}
	})
}

// Tables of the caller's own schema are looked at if they are named.
func TestRequireRowSecurityOfOwnTables(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		s.Exec(t, "CREATE SCHEMA billing; CREATE TABLE billing.invoices (org uuid); GRANT USAGE ON SCHEMA billing TO "+
			"credent_app")
		openWith := func() error {
			client, err := testopt.Open(t.Context(), s.ServiceURL,
				append(s.Opts, testopt.RequireRowSecurity("user_accounts", "billing.invoices", "public.user_accounts",
					"billing.invoices"))...)
			if err == nil {
				_, err = client.UserAccount.Query().All(t.Context())
				testdb.CloseAll(t, client)
			}
			return err
		}
		pooled := testdb.Must(testopt.NewClient(testdb.OpenDB(t, s.ServiceURL, s.Opts...), "postgres",
			append(s.Opts, testopt.RequireRowSecurity("billing.invoices", "user_accounts"))...))
		for _, step := range []struct {
			sql  string
			want error
		}{
			{"SELECT 1", credent.ErrRowSecurity},
			{"ALTER TABLE billing.invoices ENABLE ROW LEVEL SECURITY", credent.ErrRowSecurity},
			{"CREATE POLICY p ON billing.invoices USING (org = current_setting('app.user_id', true)::uuid)", nil},
			{"CREATE POLICY q ON billing.invoices FOR INSERT WITH CHECK (org IS NOT NULL)", credent.ErrRowSecurity},
			{"ALTER POLICY q ON billing.invoices WITH CHECK (org::text = current_setting('app.user_id', true))", nil},
			{"ALTER TABLE user_accounts DISABLE ROW LEVEL SECURITY", credent.ErrRowSecurity},
		} {
			s.Exec(t, step.sql)
			if err := openWith(); !errors.Is(err, step.want) {
				t.Errorf("%s: %v", step.sql, err)
			}
			if _, err := pooled.UserAccount.Query().All(t.Context()); !errors.Is(err, step.want) {
				t.Errorf("%s, in the pool: %v", step.sql, err)
			}
		}
	})
}

// SQLite has none, so anyone who requires it is refused there.
func TestRequireRowSecurityOnSQLite(t *testing.T) {
	t.Parallel()
	testdb.ForEachSQLite(t, func(t *testing.T, env *testdb.Env) {
		opts := []testopt.Option{testopt.WithKeyring(env.Ring), testopt.RequireRowSecurity()}
		_, clientErr := testopt.NewClient(env.DB, env.Dialect(), opts...)
		_, driverErr := testopt.WrapDriver(env.EntDriver(), opts...)
		_, openErr := testopt.Open(t.Context(), "sqlite::memory:", append(opts, env.Opts...)...)
		_, copyErr := testopt.Copy(t.Context(), env.DB, testdb.Sequence(), credent.CopyConfig{}, opts...)
		for name, err := range map[string]error{
			"NewClient": clientErr, "WrapDriver": driverErr, "Open": openErr,
			"Copy": copyErr,
		} {
			if !errors.Is(err, credent.ErrRowSecurity) || !errors.Is(err, credent.ErrUnsupported) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// Behind PgBouncer in transaction mode the role of a connection to the server
// may be another one at each statement, since SET ROLE stays on it.
func TestRequireRowSecurityBehindPgBouncer(t *testing.T) {
	t.Parallel()
	for name, way := range testdb.Pooled {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testdb.NewService(t)
			other, _ := testdb.NewServiceRole(t, s.Env)
			s.Exec(t, "ALTER TABLE user_accounts OWNER TO "+other+"; ALTER ROLE "+s.Role+" NOINHERIT; "+
				"GRANT "+other+" TO "+s.Role+"; GRANT ALL ON ALL TABLES IN SCHEMA public TO "+s.Role)
			through := testdb.StartPgBouncer(t, s.ServiceURL) + way.Parameters
			s.App = testdb.Open(t, through, append(way.Opts, testopt.WithKeyring(s.Ring),
				testopt.RequireRowSecurity())...)
			elsewhere := testdb.OpenDB(t, through, way.Opts...)
			s.Unchanged(t, "u1", "u2")
			for _, role := range []string{"NONE", other, "NONE"} {
				// On every connection to the server.
				var txs []*sql.Tx
				for range testdb.BouncerPoolSize {
					tx, err := elsewhere.BeginTx(t.Context(), nil)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := tx.ExecContext(t.Context(), "SET ROLE "+role); err != nil {
						t.Fatal(err)
					}
					txs = append(txs, tx)
				}
				for _, tx := range txs {
					if err := tx.Commit(); err != nil {
						t.Fatal(err)
					}
				}
				for who, ctx := range map[string]context.Context{"u1": testdb.As(t, "u1"), "no user": t.Context()} {
					_, err := s.App.UserAccount.Query().All(ctx)
					if role == "NONE" && err != nil || role == other && !errors.Is(err, credent.ErrRowSecurity) {
						t.Errorf("role %s, %s: %v", role, who, err)
					}
				}
			}
		})
	}
}
