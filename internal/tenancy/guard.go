package tenancy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/sqldialect"
)

// ErrRowSecurity means that row-level security doesn't restrict the role that
// statements run as. The error is a [RowSecurityError].
var ErrRowSecurity = errors.New("row-level security does not hold")

// RowSecurityError says why row-level security doesn't restrict a role.
type RowSecurityError struct {
	Role   string // statements run as it; "" on SQLite, or if credent_set_user is missing
	Login  string // logged in as it; differs after SET ROLE
	Table  string
	Cause  string // "it owns the table"
	Remedy string // what to do

	missing bool
}

// IsMissing reports whether there is no such table that the role may use.
func (e *RowSecurityError) IsMissing() bool { return e.missing }

// Error returns "credent: row-level security does not hold role R on table T:
// cause; what to do".
func (e *RowSecurityError) Error() string {
	if e.Role == "" { // on SQLite, or if the database couldn't say
		return "credent: " + ErrRowSecurity.Error() + ": " + e.Cause + "; " + e.Remedy
	}
	role := e.Role
	if e.Login != e.Role {
		role += " (logged in as " + e.Login + ")"
	}
	return fmt.Sprintf("credent: %v role %s on table %s: %s; %s", ErrRowSecurity, role, e.Table, e.Cause, e.Remedy)
}

// Is makes it an [ErrRowSecurity], on SQLite also an [ErrUnsupported], and
// without credent_set_user also an [ErrNoSetUser].
func (e *RowSecurityError) Is(target error) bool {
	switch {
	case target == ErrRowSecurity:
		return true
	case e.missing:
		return e.Role == "" && target == ErrNoSetUser
	}
	return e.Role == "" && target == ErrUnsupported
}

// Access is the effect of row-level security on a table for a role.
type Access struct {
	Table       string
	Role, Login string
	// Err says why row-level security doesn't restrict the role; nil if it
	// does.
	Err *RowSecurityError
}

// policies are Credent's tables, and the user's column in each.
var policies = [][2]string{
	{"user_accounts", "user_id"},
	{"user_credentials", "user_id"},
	{"credent_tenant_keys", "tenant"},
}

// Guard refuses roles that row-level security doesn't restrict. It is immutable
// and safe for concurrent use.
type Guard struct {
	inspect string // returns a row for each table
	setUser string // sets the user, and returns whether all is well
}

// NewGuard returns a guard of the given tables, or of Credent's if there are
// none. Errors: [ErrRowSecurity] if the dialect isn't Postgres.
func NewGuard(entDialect string, tables ...string) (*Guard, error) {
	if entDialect != dialect.Postgres {
		return nil, &RowSecurityError{
			Cause:  "the database is " + entDialect + ", which has none",
			Remedy: "use Postgres, or remove RequireRowSecurity and let only the service access the file",
		}
	}
	if tables = slices.Clone(tables); len(tables) == 0 {
		for _, p := range policies {
			tables = append(tables, p[0])
		}
	}
	var values, oids, own, active []string
	for place, table := range tables {
		oid, policy := "to_regclass("+sqldialect.Literal(table)+")::oid", "NULL"
		for _, p := range policies {
			if p[0] == table {
				policy = sqldialect.Literal(policyOf(p[1]))
			}
		}
		if policy == "NULL" {
			own = append(own, oid)
		}
		oids = append(oids, oid)
		active = append(active, "row_security_active("+oid+")")
		values = append(values, fmt.Sprintf("(%d, %s, %s)", place, sqldialect.Literal(table), policy))
	}
	exact := "p.polcmd = '*' AND p.polroles = '{0}' AND pg_get_expr(p.polqual, p.polrelid) IN (" +
		exactPolicies() + ")" +
		" AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid) IN (" + exactPolicies() + "), true)"
	if len(own) > 0 {
		exact = "CASE WHEN p.polrelid IN (" + strings.Join(own, ", ") + ") THEN " + asksForUserSQL +
			" ELSE " + exact + " END"
	}
	distinct := strconv.Itoa(len(tables))
	if len(own) > 0 { // two names may be of the same table
		distinct = "(SELECT count(DISTINCT o) FROM unnest(ARRAY[" + strings.Join(oids, ", ") + "]) AS t(o))"
	}
	return &Guard{
		inspect: fmt.Sprintf(inspectSQL, asksForUserSQL, strings.Join(values, ", ")),
		setUser: fmt.Sprintf(setUserSQL, strings.Join(active, " AND "), distinct, exact, strings.Join(oids, ", ")),
	}, nil
}

func exactPolicies() string {
	var texts []string
	for _, p := range policies {
		texts = append(texts, sqldialect.Literal(policyOf(p[1])))
	}
	return strings.Join(texts, ", ")
}

// policyOf returns a policy's condition as Postgres prints it.
func policyOf(column string) string {
	return "((" + column + ")::text = NULLIF(current_setting('app.user_id'::text, true), ''::text))"
}

const (
	separator = "\t"

	// setUserSQL sets the user, and returns whether all is well. lib/pq plans
	// it in every transaction, so it doesn't find out what is wrong.
	setUserSQL = `SELECT credent_set_user($1)::text, coalesce(current_setting('app.user_id', true) = $1 AND
current_setting('row_security') = 'on' AND %s AND
(SELECT count(DISTINCT p.polrelid) = %s AND bool_and(%s) FROM pg_policy p WHERE p.polpermissive AND p.polrelid IN (%s)), false)`

	// asksForUserSQL checks a permissive policy p of a table with unknown
	// policies.
	asksForUserSQL = `concat(p.polqual, p.polwithcheck) <> ''
    AND coalesce(pg_get_expr(p.polqual, p.polrelid) LIKE '%app.user_id%', true)
    AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid) LIKE '%app.user_id%', true)`

	// row_security_active covers superusers, BYPASSRLS, owners, roles that
	// inherit from them, and FORCE. It takes the setting row_security for on. A
	// policy that isn't as expected, or is missing, is a cause.
	inspectSQL = `SELECT concat_ws(E'\t', CASE
WHEN c.oid IS NULL THEN 'missing'
WHEN NOT row_security_active(c.oid) THEN (SELECT CASE WHEN r.rolsuper THEN 'superuser' WHEN r.rolbypassrls THEN 'bypass'
  WHEN NOT c.relrowsecurity THEN 'disabled' WHEN c.relowner = r.oid THEN 'owner' ELSE 'inherits' END
  FROM pg_roles r WHERE r.rolname = current_user)
WHEN current_setting('row_security') <> 'on' THEN 'off'
WHEN (SELECT bool_and(CASE WHEN t.policy IS NULL THEN %s ELSE p.polcmd = '*' AND p.polroles = '{0}'
    AND pg_get_expr(p.polqual, p.polrelid) = t.policy AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid) = t.policy, true) END)
  FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive) IS NOT TRUE THEN 'policies'
ELSE '' END, t.name, current_user, session_user, pg_get_userbyid(c.relowner))
FROM (VALUES %s) AS t(place, name, policy) LEFT JOIN pg_class c ON c.oid = to_regclass(t.name) ORDER BY t.place`
)

// errAnswer refuses an answer that can't be read.
var errAnswer = errors.New("credent: the database's answer about row-level security is not understood")

// access parses a row of inspectSQL.
func access(finding string) (Access, error) {
	fields := strings.Split(finding, separator)
	if len(fields) < 4 {
		return Access{}, errAnswer
	}
	a := Access{Table: fields[1], Role: fields[2], Login: fields[3]}
	owner := strings.Join(fields[4:], separator) // "" if the table is missing
	member := "connect as a role that is a member of credent_app and owns nothing: " +
		"CREATE ROLE name LOGIN PASSWORD '…' IN ROLE credent_app"
	err := &RowSecurityError{Role: a.Role, Login: a.Login, Table: a.Table}
	switch fields[0] {
	case "":
		return a, nil
	case "missing":
		err.missing, err.Cause = true, "there is no such table that the role may use"
		err.Remedy = "apply the migrations as the owner, and then run GRANT credent_app TO " + quote(a.Role)
	case "superuser":
		err.Cause, err.Remedy = "it is a superuser", member
	case "bypass":
		err.Cause = "it has BYPASSRLS"
		err.Remedy = "run ALTER ROLE " + quote(a.Role) + " NOBYPASSRLS, or " + member
	case "disabled":
		err.Cause = "row-level security is not enabled on the table"
		err.Remedy = "run ALTER TABLE … ENABLE ROW LEVEL SECURITY; `credent migrate check` shows what else is missing"
	case "owner":
		err.Cause, err.Remedy = "it owns the table", member
	case "inherits":
		err.Cause = "it inherits from " + owner + ", which owns the table"
		err.Remedy = "run REVOKE " + quote(owner) + " FROM " + quote(a.Role) + "; GRANT credent_app TO " + quote(a.Role)
	case "off":
		err.Cause = "the setting row_security is off"
		err.Remedy = "leave it on: ALTER ROLE " + quote(a.Login) + " RESET row_security, and don't set it in the " +
			"connection string"
	case "policies":
		err.Cause = "its policies are missing or altered, or another one lets the role see more"
		err.Remedy = "put them back; `credent migrate check` shows what is different"
	default:
		return Access{}, errAnswer
	}
	a.Err = err
	return a, nil
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// errDoubt means that setUserSQL found something wrong, but Check right after
// it didn't.
var errDoubt = errors.New("credent: row-level security did not hold the role, but does a moment later; " +
	"or credent_set_user is altered, and does not set app.user_id: `credent migrate check` shows that")

// Inspect returns, for each table, whether row-level security restricts a
// connection's role.
func (g *Guard) Inspect(ctx context.Context, db dialect.ExecQuerier) (tables []Access, err error) {
	var rows entsql.Rows
	if err := db.Query(ctx, g.inspect, []any{}, &rows); err != nil {
		return nil, fmt.Errorf("credent: look at row-level security: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var finding string
		if err := rows.Scan(&finding); err != nil {
			return nil, fmt.Errorf("credent: look at row-level security: %w", err)
		}
		a, err := access(finding)
		if err != nil {
			return nil, err
		}
		tables = append(tables, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("credent: look at row-level security: %w", err)
	}
	return tables, nil
}

// Check returns an [ErrRowSecurity] if row-level security doesn't restrict a
// connection's role on one of the tables.
func (g *Guard) Check(ctx context.Context, db dialect.ExecQuerier) error {
	tables, err := g.Inspect(ctx, db)
	switch {
	case err != nil:
		return err
	case len(tables) == 0:
		return errAnswer
	}
	for _, a := range tables {
		if a.Err != nil {
			return a.Err
		}
	}
	return nil
}

// become sets a transaction's user, and checks its role in the same round trip.
func (g *Guard) become(ctx context.Context, tx dialect.ExecQuerier, user string) error {
	if g == nil {
		if err := tx.Exec(ctx, setUser, []any{user}, nil); err != nil {
			return g.cannotSet(err)
		}
		return nil
	}
	holds, err := g.set(ctx, tx, user)
	if err != nil || holds {
		return err
	}
	if err := g.Check(ctx, tx); err != nil {
		return err
	}
	return errDoubt
}

// set sets the user, and reports whether row-level security restricts the role.
func (g *Guard) set(ctx context.Context, tx dialect.ExecQuerier, user string) (holds bool, err error) {
	var (
		rows entsql.Rows
		was  string
	)
	if err := tx.Query(ctx, g.setUser, []any{user}, &rows); err != nil {
		return false, g.cannotSet(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if rows.Next() {
		err = rows.Scan(&was, &holds)
	}
	if err := errors.Join(err, rows.Err()); err != nil {
		return false, g.cannotSet(err)
	}
	return holds, nil
}

// cannotSet explains the error of setting the user.
func (g *Guard) cannotSet(err error) error {
	switch dberror.State(err) {
	case "42883", "42501": // undefined function, insufficient privilege
		if g != nil {
			return fmt.Errorf("%w: %w", &RowSecurityError{
				missing: true,
				Cause:   "the function credent_set_user is missing, or the role may not call it",
				Remedy:  "apply the migrations as the owner, and then run GRANT credent_app TO the role",
			}, err)
		}
		return fmt.Errorf("credent: set the user: %w: %w", ErrNoSetUser, err)
	}
	return fmt.Errorf("credent: set the user: %w", err)
}
