package look

import (
	"context"
	"slices"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/internal/report/roles"
	"github.com/credent-go/credent/internal/report/trail"
)

// lookRoles checks row-level security as each role.
func (l *looker) lookRoles(ctx context.Context) error {
	if !l.isPostgres() {
		l.RowSecurity = report.RowSecurity{
			Tables: []report.SecuredTable{}, Roles: []report.Role{}, Policies: []report.RowPolicy{},
		}
		l.gap(report.PartRowSecurity, "what each role sees",
			"SQLite has no roles: who can open the file sees every row")
		return nil
	}
	l.step("the roles", 0, 0)
	tables := []roles.Table{{Name: "user_accounts", From: column.QuoteName("user_accounts"), User: "user_id"}}
	for _, c := range l.Columns {
		t := roles.Table{Name: c.TableName(), From: c.Quoted(), User: c.Tenant}
		if c.Tenant != "" && !slices.Contains(tables, t) {
			tables = append(tables, t)
		}
	}
	tables = append(tables,
		roles.Table{Name: tenantkey.Table, From: column.QuoteName(tenantkey.Table), User: tenantkey.Tenant})
	tables = append(tables, roles.Table{Name: trail.Table, From: column.QuoteName(trail.Table), User: "tenant"})
	found, untried, err := roles.Look(ctx, l.db, l.Within, tables...)
	l.RowSecurity = found
	for _, u := range untried {
		if u.Err != nil {
			l.missed(report.PartRowSecurity, "what the role "+u.Role+" sees; its rights are the catalog's", u.Err)
			continue
		}
		l.gap(report.PartRowSecurity, "what the role "+u.Role+" sees; its rights are the catalog's",
			"the command's role may not act as it")
	}
	if found.More > 0 {
		l.gap(report.PartRowSecurity, "more roles", "the first ones are listed")
	}
	l.judgeRoles()
	return err
}

// judgeRoles finds tables without row-level security, services that bypass it,
// and roles that see more than they should. Auditors are meant to see the whole
// audit trail without a user set.
func (l *looker) judgeRoles() {
	for _, t := range l.RowSecurity.Tables {
		if !t.Enabled {
			l.find(report.PartRowSecurity, "row-level security of %s is not enabled", t.Name)
		}
	}
	for _, r := range l.RowSecurity.Roles {
		for _, a := range r.Access {
			switch {
			case len(a.Privileges) == 0:
			case r.Service && !a.Held && a.Cause != "row-level security is not enabled":
				l.find(report.PartRowSecurity, "the service role %s gets around row-level security of %s: %s", r.Name,
					a.Table, a.Cause)
			case a.Held && (a.Alone == report.SeesAll && a.Table != trail.Table || a.AsUser == report.SeesOthers):
				l.find(report.PartRowSecurity, "row-level security should hold the role %s, and it sees %s of %s",
					r.Name, report.SeesOthers, a.Table)
			}
		}
	}
}
