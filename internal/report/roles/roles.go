// Package roles finds out what each role of a Postgres database sees of tables
// with row-level security. It reads the catalog and, if the connection may act
// as a role, tries as that role.
package roles

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/internal/sqldialect"
)

// maxRoles is how many roles are listed.
const maxRoles = 100

// Table is a table with the column that names a row's user.
type Table struct {
	Name string // name for people
	From string // name as SQL
	User string
}

// Untried is a role that the connection can't act as.
type Untried struct {
	Role string
	Err  error // nil if the connection isn't a member of the role
}

// looker is the state of one Look call.
type looker struct {
	db     *sql.DB
	tables []Table
	within time.Duration
	found  report.RowSecurity
	user   string // a user with rows; "" if there is none
	set    string // the statement that sets the user, without the value
}

// Look returns what each role that may use a table sees of it. The checks of
// one role are limited to within. Missing tables are omitted.
func Look(
	ctx context.Context, db *sql.DB, within time.Duration, tables ...Table,
) (found report.RowSecurity, untried []Untried, err error) {
	l := &looker{db: db, tables: tables, within: within, found: report.RowSecurity{
		Supported: true, Tables: []report.SecuredTable{}, Roles: []report.Role{}, Policies: []report.RowPolicy{},
	}}
	for _, look := range []func(context.Context) error{l.lookTables, l.lookPolicies, l.lookRoles, l.findUser} {
		if err := look(ctx); err != nil {
			return l.found, nil, err
		}
	}
	listed := l.found.Roles
	l.found.Roles = listed[:0]
	for _, role := range listed {
		may, err := l.try(ctx, &role)
		switch {
		case ctx.Err() != nil:
			return l.found, untried, ctx.Err()
		case err != nil && l.isGone(ctx, role.Name):
			continue
		case !may || err != nil:
			untried = append(untried, Untried{role.Name, err})
		default:
			role.Tried = true
		}
		l.found.Roles = append(l.found.Roles, role)
	}
	return l.found, untried, nil
}

// values returns the tables as rows of VALUES.
func (l *looker) values() string {
	var rows []string
	for i, t := range l.tables {
		rows = append(rows, fmt.Sprintf("(%d, %s, to_regclass(%s))", i, sqldialect.Literal(t.Name),
			sqldialect.Literal(t.From)))
	}
	return "(VALUES " + strings.Join(rows, ", ") + ") AS t(place, name, oid) " +
		"JOIN pg_catalog.pg_class c ON c.oid = t.oid"
}

func (l *looker) each(
	ctx context.Context, on interface {
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}, f func(scan func(...any) error) error, query string, args ...any,
) (err error) {
	rows, err := on.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (l *looker) lookTables(ctx context.Context) error {
	return l.each(ctx, l.db, func(scan func(...any) error) error {
		var t report.SecuredTable
		if err := scan(&t.Name, &t.Owner, &t.Enabled, &t.Forced); err != nil {
			return err
		}
		l.found.Tables = append(l.found.Tables, t)
		return nil
	}, "SELECT t.name, pg_get_userbyid(c.relowner)::text, c.relrowsecurity, c.relforcerowsecurity FROM "+l.values()+
		" ORDER BY t.place")
}

func (l *looker) lookPolicies(ctx context.Context) error {
	return l.each(ctx, l.db, func(scan func(...any) error) error {
		var p report.RowPolicy
		if err := scan(&p.Table, &p.Name, &p.Command, &p.Permissive, &p.Using, &p.Check); err != nil {
			return err
		}
		l.found.Policies = append(l.found.Policies, p)
		return nil
	}, `SELECT t.name, p.polname::text,
CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
p.polpermissive, coalesce(pg_get_expr(p.polqual, p.polrelid), ''), coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '')
FROM `+l.values()+" JOIN pg_catalog.pg_policy p ON p.polrelid = c.oid ORDER BY t.place, p.polname")
}

// rolesSQL returns a row for each role and table. It omits Postgres' own roles
// and roles without privileges on the tables.
const rolesSQL = `WITH t AS MATERIALIZED (SELECT t.place, t.name, c.* FROM %s),
r AS MATERIALIZED (SELECT r.oid, r.rolname::text AS name, r.rolsuper, r.rolbypassrls, r.rolcanlogin,
  EXISTS (SELECT 1 FROM pg_catalog.pg_roles a WHERE a.rolname = 'credent_app' AND pg_has_role(r.oid, a.oid, 'MEMBER') AND NOT r.rolsuper) AS service,
  EXISTS (SELECT 1 FROM t WHERE t.relowner = r.oid) AS owner
  FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_' AND (r.rolsuper OR EXISTS (SELECT 1 FROM t
    WHERE has_any_column_privilege(r.oid, t.oid, 'SELECT, INSERT, UPDATE') OR has_table_privilege(r.oid, t.oid, 'DELETE')))),
few AS (SELECT *, row_number() OVER (ORDER BY r.name <> 'credent_app', NOT r.owner, r.name <> current_user::text, NOT r.service,
  NOT r.rolcanlogin, r.name) AS place, count(*) OVER () AS n FROM r)
SELECT few.n, few.name, few.rolsuper, few.rolbypassrls, few.rolcanlogin, few.service, few.owner, t.name,
  concat_ws(',', CASE WHEN has_any_column_privilege(few.oid, t.oid, 'SELECT') THEN 'SELECT' END,
    CASE WHEN has_any_column_privilege(few.oid, t.oid, 'INSERT') THEN 'INSERT' END,
    CASE WHEN has_any_column_privilege(few.oid, t.oid, 'UPDATE') THEN 'UPDATE' END,
    CASE WHEN has_table_privilege(few.oid, t.oid, 'DELETE') THEN 'DELETE' END),
  CASE WHEN few.rolsuper THEN 'it is a superuser' WHEN few.rolbypassrls THEN 'it has BYPASSRLS'
    WHEN NOT t.relrowsecurity THEN 'row-level security is not enabled' WHEN t.relforcerowsecurity THEN ''
    WHEN t.relowner = few.oid THEN 'it owns the table'
    WHEN pg_has_role(few.oid, t.relowner, 'USAGE') THEN 'it inherits from the owner' ELSE '' END
FROM few, t WHERE few.place <= %d ORDER BY few.place, t.place`

func (l *looker) lookRoles(ctx context.Context) error {
	return l.each(ctx, l.db, func(scan func(...any) error) error {
		var (
			r                        = report.Role{Kinds: []string{}, Access: []report.Access{}}
			a                        report.Access
			n                        int
			super, bypass, in, owner bool
			privileges               string
		)
		err := scan(&n, &r.Name, &super, &bypass, &in, &r.Service, &owner, &a.Table, &privileges, &a.Cause)
		if err != nil {
			return err
		}
		l.found.More = max(n-maxRoles, 0)
		a.Privileges = strings.FieldsFunc(privileges, func(c rune) bool { return c == ',' })
		a.Held, a.Alone, a.AsUser = a.Cause == "", report.SeesUnknown, report.SeesUnknown
		for _, kind := range []struct {
			is   bool
			name string
		}{
			{super, "superuser"},
			{owner, "owner"},
			{r.Service, "service"},
			{bypass && !super, "bypasses row-level security"},
			{in, "can log in"},
		} {
			if kind.is {
				r.Kinds = append(r.Kinds, kind.name)
			}
		}
		if k := len(l.found.Roles); k == 0 || l.found.Roles[k-1].Name != r.Name {
			l.found.Roles = append(l.found.Roles, r)
		}
		last := &l.found.Roles[len(l.found.Roles)-1]
		last.Access = append(last.Access, a)
		return nil
	}, fmt.Sprintf(rolesSQL, l.values(), maxRoles))
}

// findUser finds a user with rows to act as.
func (l *looker) findUser(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.within)
	defer cancel()
	var function bool // Citus propagates its settings
	err := l.db.QueryRowContext(ctx, "SELECT coalesce(has_function_privilege("+
		"to_regprocedure('credent_set_user(text)'), 'EXECUTE'), false)").Scan(&function)
	if err != nil {
		return err
	}
	if l.set = "SET LOCAL app.user_id = %s"; function {
		l.set = "SELECT credent_set_user(%s)"
	}
	for _, t := range l.tables {
		if t.User == "" || !l.has(t.Name) {
			continue
		}
		if may, err := l.mayRead(ctx, l.db, t); err != nil {
			return err
		} else if !may {
			continue
		}
		err := l.db.QueryRowContext(ctx, "SELECT CAST("+column.QuoteName(t.User)+" AS text) FROM "+t.From+
			" WHERE "+column.QuoteName(t.User)+" IS NOT NULL LIMIT 1").Scan(&l.user)
		if err == nil || !errors.Is(err, sql.ErrNoRows) {
			return err
		}
	}
	return nil
}

// mayRead reports whether the role may read the user column of a table.
func (l *looker) mayRead(
	ctx context.Context, on interface {
		QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	}, t Table,
) (may bool, err error) {
	err = on.QueryRowContext(ctx, "SELECT has_schema_privilege(c.relnamespace, 'USAGE') AND "+
		"has_column_privilege(c.oid, $2::text, 'SELECT') FROM pg_catalog.pg_class c "+
		"WHERE c.oid = to_regclass($1::text)", t.From, t.User).Scan(&may)
	return may, err
}

func (l *looker) has(table string) bool {
	for _, t := range l.found.Tables {
		if t.Name == table {
			return true
		}
	}
	return false
}

// isGone reports whether a role was dropped during the checks.
func (l *looker) isGone(ctx context.Context, role string) bool {
	var n int
	err := l.db.QueryRowContext(ctx, "SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname = $1", role).Scan(&n)
	return err == nil && n == 0
}

// try checks as a role, in a transaction that is rolled back. It returns false
// if the connection may not act as the role.
func (l *looker) try(ctx context.Context, role *report.Role) (may bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.within)
	defer cancel()
	err = l.db.QueryRowContext(ctx, "SELECT pg_has_role(current_user, $1::text, 'MEMBER')", role.Name).Scan(&may)
	if !may || err != nil {
		return false, err
	}
	for _, user := range []string{"", l.user} {
		if err := l.tryUser(ctx, role, user); err != nil {
			return false, err
		}
		if l.user == "" {
			break
		}
	}
	return true, nil
}

// tryUser checks as a role with the given user set, or none.
func (l *looker) tryUser(ctx context.Context, role *report.Role, user string) error {
	tx, err := l.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, stmt := range []string{
		fmt.Sprintf(l.set, sqldialect.Literal(user)),
		"SET LOCAL ROLE " + column.QuoteName(role.Name),
	} {
		if _, err := tx.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	for i := range role.Access {
		a := &role.Access[i]
		t := l.tables[l.place(a.Table)]
		sees := &a.Alone
		if user != "" {
			sees = &a.AsUser
		}
		if *sees, err = l.sees(ctx, tx, t, user); err != nil {
			return err
		}
	}
	return nil
}

func (l *looker) place(table string) int {
	for i, t := range l.tables {
		if t.Name == table {
			return i
		}
	}
	return 0
}

// sees looks for a row of the user and for one of another user.
func (l *looker) sees(ctx context.Context, tx *sql.Tx, t Table, user string) (string, error) {
	name := column.QuoteName(t.User)
	may, err := l.mayRead(ctx, tx, t)
	if err != nil || !may {
		return report.SeesNoAccess, err
	}
	var own, others bool
	if user == "" {
		err = tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+t.From+")").Scan(&others)
		if others {
			return report.SeesAll, err
		}
		return report.SeesNothing, err
	}
	err = tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+t.From+" WHERE "+name+" = $1), "+
		"EXISTS (SELECT 1 FROM "+t.From+" WHERE "+name+" IS DISTINCT FROM $1)", user).Scan(&own, &others)
	switch {
	case err != nil:
		return report.SeesUnknown, err
	case others:
		return report.SeesOthers, nil
	case own:
		return report.SeesOwn, nil
	}
	return report.SeesNothing, nil
}
