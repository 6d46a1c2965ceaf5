package rotate

import (
	"context"
	"fmt"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/lockwait"
)

// ErrLockTimeout means that for a minute other transactions held a lock that
// [Encrypt] needs to validate a CHECK. Encrypted rows stay encrypted: run it
// again.
var ErrLockTimeout = lockwait.ErrTimeout

// LockError is an [ErrLockTimeout], and says which sessions held the lock.
//
//   - Package string: "rotate"
//   - File string, Line int: not used here
//   - Table string: that it waited for
//   - Waited time.Duration, Tries int: in all
//   - Holders []migrate.LockHolder: who held the lock
//   - Note string: what happened to the work, or ""
//   - Err error: the cause
type LockError = lockwait.Error

// validate waits for the table lock as a migration does, so that readers and
// writers can pass.
func (p postgres) validate(ctx context.Context, c column.Column, constraint string) error {
	policy := lockwait.Policy{Timeout: lockwait.DefaultTimeout, Limit: lockwait.DefaultLimit}
	err := policy.Exec(ctx, p.db, "ALTER TABLE "+c.Quoted()+" VALIDATE CONSTRAINT "+quote(constraint))
	if reason := refusedBy(err); reason != "" {
		return fmt.Errorf("%w: %s", ErrRefused, reason)
	}
	return err
}
