package evidence

import (
	"strings"
	"testing"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/internal/testdb"
)

// The report verifies the audit trail and names none of its tenants.
func TestAuditTrail(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		keep(t, env)
		trail, err := audit.Open(t.Context(), env.DB, env.Dialect(), audit.Config{Keyring: env.Ring})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			err := trail.Add(t.Context(), audit.Entry{
				Action: audit.ActionReveal, Tenant: tenant, Actor: tenant, Outcome: audit.OutcomeOK,
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := trail.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		m := reportOf(t, env)
		if a := m.Audit; !a.Present || !a.Verified || a.Writers != 1 || a.Entries == 0 || a.First == nil ||
			a.Last == nil {
			t.Errorf("got %+v, gaps %v", a, m.Gaps)
		}
		if strings.Contains(m.page+m.text+m.notes, tenant) {
			t.Error("the report names the tenant")
		}
		m.lacks(t, report.PartAudit, "checkpoint")
		if !env.IsSQLite() {
			return
		}
		for _, trigger := range testdb.Lines(t, env.DB,
			"SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'credent_audit'") {
			testdb.Run(t, env.DB, "DROP TRIGGER "+trigger)
		}
		testdb.Run(t, env.DB, "UPDATE credent_audit SET actor = 'another' WHERE action = 'reveal'")
		m = reportOf(t, env)
		m.finds(t, report.PartAudit, "changed")
		if m.Audit.Verified || m.code != 1 {
			t.Errorf("exit code %d, %+v", m.code, m.Audit)
		}
	})
}
