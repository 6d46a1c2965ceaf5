package client

import (
	"context"
	"database/sql"
	"fmt"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/clientconfig"
	"github.com/credent-go/credent/internal/nilarg"
	"github.com/credent-go/credent/internal/tenancy"
)

// ErrRowSecurity means that row-level security doesn't hold the role that
// statements run as; see [Config.RequireRowSecurity]. The error is a
// [RowSecurityError].
var ErrRowSecurity = tenancy.ErrRowSecurity

// RowSecurityError says why row-level security doesn't hold a role, and what
// to do. It unwraps to [ErrRowSecurity].
//
//   - Role, Login string: the role that statements run as, and the one that
//     logged in
//   - Table string
//   - Cause, Remedy string: why, and what to do
//   - IsMissing() bool reports whether there is no such table that the role may
//     use.
type RowSecurityError = tenancy.RowSecurityError

// CheckRowSecurity looks at the role of a pool, as a client with the
// configuration does before each statement, so that a service learns it when it
// starts. It does nothing without [Config.RequireRowSecurity].
func CheckRowSecurity(ctx context.Context, db *sql.DB, entDialect string, cfg Config) error {
	guard, err := clientconfig.Config(cfg).Guard(entDialect)
	if err != nil || guard == nil {
		return err
	}
	if err := nilarg.Check("the pool", db); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	return guard.Check(ctx, entsql.Conn{ExecQuerier: db})
}
