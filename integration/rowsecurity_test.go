package integration

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/internal/testopt"
)

// guarded makes the service's client one that requires row-level security, and
// returns its pool, of one connection.
func (s *service) guarded(t *testing.T) *sql.DB {
	t.Helper()
	db := openDB(t, s.serviceURL, s.opts...)
	db.SetMaxOpenConns(1)
	s.app = must(testopt.NewClient(db, "postgres", append(s.opts, testopt.RequireRowSecurity())...))
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
	"owner of the keys":  {admin: "ALTER TABLE credent_tenant_keys OWNER TO {role}", cause: "it owns the table"},
	"superuser":          {admin: "ALTER ROLE {role} SUPERUSER", cause: "it is a superuser", remedy: "credent_app"},
	"BYPASSRLS":          {admin: "ALTER ROLE {role} BYPASSRLS", cause: "it has BYPASSRLS", remedy: `ALTER ROLE "{role}" NOBYPASSRLS`},
	"disabled":           {admin: "ALTER TABLE user_accounts DISABLE ROW LEVEL SECURITY", cause: "not enabled on the table", remedy: "ENABLE ROW LEVEL SECURITY"},
	"disabled, the keys": {admin: "ALTER TABLE credent_tenant_keys DISABLE ROW LEVEL SECURITY", cause: "not enabled on the table"},
	"a policy dropped":   {admin: "DROP POLICY user_credentials_tenant ON user_credentials", cause: "missing or altered", remedy: "credent migrate check"},
	"a policy opened":    {admin: "ALTER POLICY user_credentials_tenant ON user_credentials USING (true)", cause: "missing or altered"},
	"a check opened":     {admin: "ALTER POLICY user_credentials_tenant ON user_credentials WITH CHECK (true)", cause: "missing or altered"},
	"another policy":     {admin: "CREATE POLICY support ON user_accounts FOR SELECT USING (true)", cause: "lets the role see more"},
	"a policy for some":  {admin: "ALTER POLICY user_accounts_tenant ON user_accounts TO {other}", cause: "missing or altered"},
	"a policy of another setting": {
		admin: "ALTER POLICY user_accounts_tenant ON user_accounts USING (user_id = NULLIF(current_setting('app.tenant', true), ''))",
		cause: "missing or altered",
	},
	"row_security off": {pooled: "SET row_security = off", cause: "row_security is off", remedy: "RESET row_security"},
	"SET ROLE": {
		admin:  "ALTER TABLE user_accounts OWNER TO {other}; ALTER ROLE {role} NOINHERIT; GRANT {other} TO {role}",
		pooled: "SET ROLE {other}", cause: "(logged in as {role}) on table user_accounts: it owns the table",
	},
	"no schema": {
		admin: "REVOKE ALL ON SCHEMA public FROM PUBLIC, credent_app",
		cause: "no such table that the role may use", remedy: `GRANT credent_app TO "{role}"`,
	},
	"temporary table": {pooled: "CREATE TEMP TABLE user_accounts (LIKE user_accounts)", cause: "not enabled on the table"},
}

// TestRequireRowSecurity is case A13 and its kind: a role that gets around the
// policies is refused when the client is opened and at each statement, for a
// user or for nobody, and has changed nothing.
func TestRequireRowSecurity(t *testing.T) {
	t.Parallel()
	forEachService(t, func(t *testing.T, s *service) {
		for name := range around {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s.fresh(t).refusesAround(t, name)
			})
		}
	})
}

// fresh returns another service like this one.
func (s *service) fresh(t *testing.T) *service {
	t.Helper()
	return newService(t, s.environment.opts...)
}

func (s *service) refusesAround(t *testing.T, name string) {
	t.Helper()
	way := around[name]
	other, _ := newServiceRole(t, s.environment)
	filled := strings.NewReplacer("{role}", s.role, "{other}", other)
	db := s.guarded(t)
	if got := usersSeen(t, as(t, "u1"), s.app.UserCredential.Query()); len(got) != 2 {
		t.Fatalf("before: u1 sees %v", got)
	}
	s.unchanged(t, "u1", "u2")
	if way.admin != "" {
		s.exec(t, filled.Replace(way.admin))
	}
	refused := func(what string, err error) {
		t.Helper()
		var detail *client.RowSecurityError
		if !errors.Is(err, credent.ErrRowSecurity) || !errors.As(err, &detail) {
			t.Errorf("%s: %v", what, err)
			return
		}
		for _, text := range []string{"role " + detail.Role, way.cause, way.remedy} {
			if !strings.Contains(err.Error(), filled.Replace(text)) {
				t.Errorf("%s: the error lacks %q: %v", what, filled.Replace(text), err)
			}
		}
	}
	if way.pooled == "" {
		_, err := testopt.Open(t.Context(), s.serviceURL, append(s.opts, testopt.RequireRowSecurity())...)
		refused("Open", err)
	} else if _, err := db.ExecContext(t.Context(), filled.Replace(way.pooled)); err != nil {
		t.Fatal(err)
	}
	for who, ctx := range map[string]context.Context{"u1": as(t, "u1"), "nobody": as(t, "nobody"), "no user": t.Context()} {
		for read, run := range s.reads() {
			_, err := run(ctx)
			refused(who+", "+read, err)
		}
		for write, err := range s.writeErrors(ctx) {
			refused(who+", "+write, err)
		}
		_, err := testopt.Copy(ctx, db, sequence(copyRows(3, "u1")...), credent.CopyConfig{}, append(s.opts, testopt.RequireRowSecurity())...)
		refused(who+", Copy", err)
	}
}

// writeErrors are the errors of the ways to write.
func (s *service) writeErrors(ctx context.Context) map[string]error {
	_, updateErr := s.app.UserAccount.Update().SetAccountName("changed").Save(ctx)
	_, deleteErr := s.app.UserCredential.Delete().Exec(ctx)
	_, sqlErr := s.app.ExecContext(ctx, "UPDATE user_accounts SET account_name = 'changed'")
	_, txErr := s.app.BeginTx(ctx, nil)
	return map[string]error{
		"update": updateErr, "delete": deleteErr, "SQL": sqlErr, "transaction": txErr,
		"create": s.app.UserAccount.Create().SetUserID("u9").SetAccountName("new").Exec(ctx),
		"update one": s.app.UserCredential.UpdateOneID(s.credentials["u2"][0].ID).
			SetAPIKey(credent.NewSecret("PK")).Exec(ctx),
	}
}

// TestRequireRowSecurityHolds is about roles and policies that are as safe as
// the ones that the migrations make.
func TestRequireRowSecurityHolds(t *testing.T) {
	t.Parallel()
	forEachService(t, func(t *testing.T, s *service) {
		for name, admin := range map[string]string{
			"a member":                  "SELECT 1",
			"owner with FORCE":          "ALTER TABLE user_accounts OWNER TO {role}; ALTER TABLE user_accounts FORCE ROW LEVEL SECURITY",
			"a member without INHERIT":  "ALTER TABLE user_accounts OWNER TO {other}; ALTER ROLE {role} NOINHERIT; GRANT {other} TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
			"a restrictive policy more": "CREATE POLICY only_active ON user_accounts AS RESTRICTIVE USING (is_active)",
			"a policy without a check": "DROP POLICY user_accounts_tenant ON user_accounts; CREATE POLICY renamed ON user_accounts " +
				"USING (user_id = NULLIF(current_setting('app.user_id', true), ''))",
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := s.fresh(t)
				other, _ := newServiceRole(t, s.environment)
				s.exec(t, strings.NewReplacer("{role}", s.role, "{other}", other).Replace(admin))
				s.app = open(t, s.serviceURL, append(s.opts, testopt.RequireRowSecurity())...)
				s.unchanged(t, "u2")
				for user, want := range map[string][]string{"u1": {"u1", "u1"}, "u2": {"u2"}, "": nil, "nobody": nil, "u'1": nil} {
					if diff := cmp.Diff(want, usersSeen(t, as(t, user), s.app.UserCredential.Query())); diff != "" {
						t.Errorf("%q: %s", user, diff)
					}
				}
				if got := usersSeen(t, t.Context(), s.app.UserCredential.Query()); len(got) != 0 {
					t.Errorf("without a user: %v", got)
				}
				if n, err := s.app.UserAccount.Update().SetAccountName("changed").Save(t.Context()); n != 0 || err != nil {
					t.Errorf("without a user, changed %d, %v", n, err)
				}
				if n, err := s.app.UserAccount.Update().SetAccountName("changed").Save(as(t, "u1")); n != 1 || err != nil {
					t.Errorf("changed %d, %v", n, err)
				}
				if _, err := s.app.QueryContext(t.Context(), "SELECT 1"); !errors.Is(err, credent.ErrNeedsTx) { //nolint:rowserrcheck,sqlclosecheck // there are none
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
	forEachService(t, func(t *testing.T, s *service) {
		db := s.guarded(t)
		if _, err := db.ExecContext(t.Context(), "SET app.user_id = 'u2'"); err != nil {
			t.Fatal(err)
		}
		if got := usersSeen(t, t.Context(), s.app.UserCredential.Query()); len(got) != 0 {
			t.Errorf("sees %v", got)
		}
	})
}

// A transaction looks again after raw SQL, which may have changed the role.
func TestRequireRowSecurityInTransactions(t *testing.T) {
	t.Parallel()
	forEachService(t, func(t *testing.T, s *service) {
		other, _ := newServiceRole(t, s.environment)
		s.exec(t, "ALTER TABLE user_accounts OWNER TO "+other+"; ALTER ROLE "+s.role+" NOINHERIT; "+
			"GRANT "+other+" TO "+s.role+"; GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO "+s.role)
		s.guarded(t)
		s.unchanged(t, "u1", "u2")
		tx, err := s.app.BeginTx(as(t, "u1"), &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelSerializable})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tx.UserAccount.Query().Count(as(t, "u1")); got != 1 || err != nil {
			t.Errorf("u1 counts %d, %v", got, err)
		}
		if _, err := tx.ExecContext(as(t, "u1"), "SET ROLE "+other); err != nil {
			t.Fatal(err)
		}
		_, queryErr := tx.UserAccount.Query().All(as(t, "u1"))
		_, sqlErr := tx.ExecContext(as(t, "u1"), "SELECT 1")
		_, rowsErr := tx.QueryContext(as(t, "u1"), "SELECT 1") //nolint:rowserrcheck,sqlclosecheck // there are none
		for i, err := range []error{queryErr, sqlErr, rowsErr} {
			var detail *client.RowSecurityError
			if !errors.As(err, &detail) || detail.Role != other || detail.Login != s.role || detail.Table != "user_accounts" {
				t.Errorf("%d: %v", i, err)
			}
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
		if got := usersSeen(t, as(t, "u2"), s.app.UserCredential.Query()); len(got) != 1 {
			t.Errorf("afterwards u2 sees %v", got)
		}
	})
}

// Tables of the caller's own schema are looked at if they are named.
func TestRequireRowSecurityOfOwnTables(t *testing.T) {
	t.Parallel()
	forEachService(t, func(t *testing.T, s *service) {
		s.exec(t, "CREATE SCHEMA billing; CREATE TABLE billing.invoices (org uuid); GRANT USAGE ON SCHEMA billing TO credent_app")
		openWith := func() error {
			client, err := testopt.Open(t.Context(), s.serviceURL, append(s.opts, testopt.RequireRowSecurity("user_accounts", "billing.invoices", "public.user_accounts", "billing.invoices"))...)
			if err == nil {
				_, err = client.UserAccount.Query().All(t.Context())
				closeAll(t, client)
			}
			return err
		}
		pooled := must(testopt.NewClient(openDB(t, s.serviceURL, s.opts...), "postgres",
			append(s.opts, testopt.RequireRowSecurity("billing.invoices", "user_accounts"))...))
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
			s.exec(t, step.sql)
			if err := openWith(); !errors.Is(err, step.want) {
				t.Errorf("%s: %v", step.sql, err)
			}
			if _, err := pooled.UserAccount.Query().All(t.Context()); !errors.Is(err, step.want) {
				t.Errorf("%s, in the pool: %v", step.sql, err)
			}
		}
	})
}

// SQLite has none, so whoever requires it is refused there.
func TestRequireRowSecurityOnSQLite(t *testing.T) {
	t.Parallel()
	forEachSQLite(t, func(t *testing.T, env *environment) {
		opts := []testopt.Option{testopt.WithKeyring(env.ring), testopt.RequireRowSecurity()}
		_, clientErr := testopt.NewClient(env.db, env.dialect(), opts...)
		_, driverErr := testopt.WrapDriver(env.entDriver(), opts...)
		_, openErr := testopt.Open(t.Context(), "sqlite::memory:", opts...)
		_, copyErr := testopt.Copy(t.Context(), env.db, sequence(), credent.CopyConfig{}, opts...)
		for name, err := range map[string]error{"NewClient": clientErr, "WrapDriver": driverErr, "Open": openErr, "Copy": copyErr} {
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
	for name, way := range pooled {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			other, _ := newServiceRole(t, s.environment)
			s.exec(t, "ALTER TABLE user_accounts OWNER TO "+other+"; ALTER ROLE "+s.role+" NOINHERIT; "+
				"GRANT "+other+" TO "+s.role+"; GRANT ALL ON ALL TABLES IN SCHEMA public TO "+s.role)
			through := startPgBouncer(t, s.serviceURL) + way.parameters
			s.app = open(t, through, append(way.opts, testopt.WithKeyring(s.ring), testopt.RequireRowSecurity())...)
			elsewhere := openDB(t, through, way.opts...)
			s.unchanged(t, "u1", "u2")
			for _, role := range []string{"NONE", other, "NONE"} {
				// On every connection to the server.
				var txs []*sql.Tx
				for range bouncerPoolSize {
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
				for who, ctx := range map[string]context.Context{"u1": as(t, "u1"), "no user": t.Context()} {
					_, err := s.app.UserAccount.Query().All(ctx)
					if role == "NONE" && err != nil || role == other && !errors.Is(err, credent.ErrRowSecurity) {
						t.Errorf("role %s, %s: %v", role, who, err)
					}
				}
			}
		})
	}
}
