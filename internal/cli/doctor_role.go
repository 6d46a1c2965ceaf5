package cli

import (
	"context"
	"fmt"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/tenancy"
)

// tableAccess describes what the connection's role sees of a table.
type tableAccess struct {
	Role        string `json:"role"`         // current_user
	Login       string `json:"login"`        // session_user
	RowSecurity bool   `json:"row_security"` // whether it applies to the role
	Cause       string `json:"cause,omitempty"`
	Rows        int    `json:"rows"`
}

// addAccess reports the current role, whether row-level security applies to it,
// and what it sees. It reads at most limit rows per table; 0 means no limit.
func (r *report) addAccess(ctx context.Context, db *database, limit int) {
	const name = "row-level security"
	if !db.isPostgres() {
		r.skip(name, "SQLite has none: who can open the file sees every row")
		return
	}
	guard, err := tenancy.NewGuard(db.dialect)
	var tables []tenancy.Access
	if err == nil {
		tables, err = guard.Inspect(ctx, entsql.Conn{ExecQuerier: db.DB})
	}
	if err != nil {
		r.add(name, err, "")
		return
	}
	for i, table := range tables {
		if i == 0 {
			role := "this is " + table.Role
			if table.Login != table.Role {
				role += ", logged in as " + table.Login
			}
			r.add("role", nil, role)
		}
		r.addRows(ctx, db, table, limit)
	}
}

// addRows reports what a role sees of one table.
func (r *report) addRows(ctx context.Context, db *database, table tenancy.Access, limit int) {
	name := "rows of " + table.Table
	a := &tableAccess{Role: table.Role, Login: table.Login, RowSecurity: table.Err == nil}
	detail := "row-level security applies to this role: it sees %s without a user"
	if table.Err != nil {
		a.Cause = table.Err.Cause
		detail = "row-level security does not apply to this role, since " + a.Cause + ": it sees %s"
		if table.Err.IsMissing() {
			r.skip(name, a.Cause)
			return
		}
	}
	query := "SELECT count(*) FROM " + table.Table
	if limit > 0 {
		query = fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s LIMIT %d) AS sample", table.Table, limit)
	}
	if err := db.QueryRowContext(ctx, query).Scan(&a.Rows); err != nil {
		r.add(name, err, "")
		return
	}
	rows := count(a.Rows, "row")
	if limit > 0 && a.Rows == limit {
		rows += " or more"
	}
	r.Checks = append(r.Checks, check{Name: name, State: stateOK, Detail: fmt.Sprintf(detail, rows), tableAccess: a})
}
