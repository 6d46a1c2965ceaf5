package credent

import (
	"context"
	"database/sql"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/tenancy"
)

// ErrRowSecurity means that row-level security doesn't hold the role that
// statements run as; see [RequireRowSecurity]. The error is a
// [RowSecurityError].
var ErrRowSecurity = tenancy.ErrRowSecurity

// RowSecurityError says why row-level security doesn't hold a role, and what
// to do.
type RowSecurityError = tenancy.RowSecurityError

// RequireRowSecurity refuses, with [ErrRowSecurity], to work as a role that
// gets around row-level security: the tables' owner, or who inherits from it, a
// superuser, or one with BYPASSRLS. It also refuses if the policies of a table
// are off, missing or altered, or the setting row_security is off. Without it
// such a role sees and changes every user's rows, whatever [WithUser] says.
//
// [Open] looks, and so does each statement outside of a transaction, each
// transaction, [Copy]'s included, and each statement after raw SQL in one, in
// the round trip that sets the user: the role may have changed on a pooled
// connection, and the policies may have changed since. A statement without
// WithUser is one of the user "", who sees no rows. QueryContext needs a
// transaction; it is [ErrNeedsTx] without one.
//
// The tables are Credent's. If the client has others of your own schema, name
// them all, Credent's included, as SQL does; row-level security must be on for
// them, and each permissive policy must ask for app.user_id.
//
// SQLite has no row-level security, so Open, [NewClient] and [WrapDriver]
// refuse there. Raw SQL that changes its own role is not seen until the next
// statement.
func RequireRowSecurity(tables ...string) Option {
	return func(o *options) { o.rowSecurity = append(make([]string, 0, len(tables)), tables...) }
}

// guard returns what refuses roles, or nil if the options don't ask for it.
func (o options) guard(entDialect string) (*tenancy.Guard, error) {
	if o.rowSecurity == nil {
		return nil, nil
	}
	return tenancy.NewGuard(entDialect, o.rowSecurity...)
}

// checkRowSecurity looks at the role of a pool.
func (o options) checkRowSecurity(ctx context.Context, db *sql.DB, entDialect string) error {
	guard, err := o.guard(entDialect)
	if err != nil || guard == nil {
		return err
	}
	return guard.Check(ctx, entsql.Conn{ExecQuerier: db})
}
