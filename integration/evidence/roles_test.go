package evidence

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/internal/testdb"
)

// The report says what each role actually sees.
func TestRoles(t *testing.T) {
	t.Parallel()
	testdb.ForEachService(t, func(t *testing.T, s *testdb.Service) {
		var owner string
		s.Value(t, &owner, "SELECT current_user")
		m := reportOf(t, s.Env)
		for _, table := range []string{"user_accounts", "user_credentials"} {
			all := []string{"SELECT", "INSERT", "UPDATE", "DELETE"}
			for role, want := range map[string]report.Access{
				"credent_app": {Privileges: all, Held: true, Alone: report.SeesNothing, AsUser: report.SeesOwn},
				s.Role:        {Privileges: all, Held: true, Alone: report.SeesNothing, AsUser: report.SeesOwn},
				owner: {
					Privileges: all, Cause: "it is a superuser",
					Alone: report.SeesAll, AsUser: report.SeesOthers,
				},
			} {
				want.Table = table
				if diff := cmp.Diff(want, m.access(role, table)); diff != "" {
					t.Errorf("%s: %s", role, diff)
				}
			}
		}
		if len(m.RowSecurity.Policies) < 3 || !strings.Contains(m.RowSecurity.Policies[0].Using, "app.user_id") {
			t.Errorf("the policies are %+v", m.RowSecurity.Policies)
		}
		if strings.Contains(m.page+m.text, `"u1"`) || strings.Contains(m.page, ">u1<") {
			t.Error("the report names a user")
		}
		// A policy that shows a service other users' rows is a finding.
		s.Exec(t, "CREATE POLICY more ON user_credentials USING (true)")
		m = reportOf(t, s.Env)
		m.finds(t, report.PartRowSecurity, "row-level security should hold the role credent_app, and it sees "+
			report.SeesOthers)
		if a := m.access(s.Role, "user_credentials"); a.Alone != report.SeesAll || a.AsUser != report.SeesOthers {
			t.Errorf("got %+v", a)
		}
		s.Exec(t, "DROP POLICY more ON user_credentials")
		s.Exec(t, "ALTER TABLE user_accounts DISABLE ROW LEVEL SECURITY")
		m = reportOf(t, s.Env)
		m.finds(t, report.PartRowSecurity, "row-level security of user_accounts is not enabled")
		s.Exec(t, "ALTER TABLE user_accounts ENABLE ROW LEVEL SECURITY")
	})
}

// A role that can't see every row says so, and counts nothing.
func TestReportOfAService(t *testing.T) {
	t.Parallel()
	s := testdb.NewService(t)
	env := *s.Env
	env.URL = s.ServiceURL
	m := reportOf(t, &env)
	m.lacks(t, report.PartInventory, "user_credentials: row-level security hides rows")
	m.lacks(t, report.PartVerification, "permission denied")
	if len(m.Tables) > 0 || m.Tenants.Known || m.code == 0 {
		t.Errorf("exit code %d, tables %+v, tenants %+v", m.code, m.Tables, m.Tenants)
	}
	if !slices.ContainsFunc(m.RowSecurity.Roles, func(r report.Role) bool { return r.Name == s.Role && r.Tried }) {
		t.Errorf("the roles are %+v", m.RowSecurity.Roles)
	}
	noSecret(t, &env, m.page+m.text+m.notes)
}
