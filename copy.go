package credent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/clientconfig"
	"github.com/credent-go/credent/internal/hooks"
	"github.com/credent-go/credent/internal/load"
	"github.com/credent-go/credent/internal/nilarg"
	"github.com/credent-go/credent/internal/recorder"
	"github.com/credent-go/credent/internal/replica"
)

// Types of [Copy]. They are documented where they point.
type (
	// CopyRow is one credential to store. Zero fields take the defaults of a
	// Create.
	//
	//   - ID uuid.UUID: the primary key; a new one if zero
	//   - UserAccountID uuid.UUID, UserID string: the account, by one or
	//     both; the other is looked up
	//   - CredentialType string
	//   - APIKey, SecretKey Secret: must be present, and may be empty
	//   - ExpiresAt *time.Time: from then on the provider refuses it; nil for
	//     never
	//   - Inactive bool: stores it as disabled
	//   - CreatedAt, UpdatedAt time.Time: the time of storing if zero
	CopyRow = load.Row
	// CopyConfig says how the rows are stored. The zero value is ready for use.
	//
	//   - Batch int: rows in a transaction, and in memory; zero or less means
	//     5,000, and the most is 1,000,000
	//   - Atomic bool: stores all rows in one transaction, or none
	//   - DryRun bool: checks the rows, looks up their accounts, and stores
	//     nothing; it doesn't find what only the database refuses
	//   - Progress func(rows int64): called after each batch; nil for nobody
	//   - Refused func(*CopyError) bool: called for each row that the checks
	//     refuse; true leaves the row out; nil stops at the first
	//   - RetryFor time.Duration: how long a batch is tried again while the
	//     database fails; zero means five minutes, less means not at all, and
	//     so does Atomic
	//   - Waiting func(err error, pause time.Duration): called before each
	//     pause of RetryFor; nil for nobody
	//   - Stored func(ids []uuid.UUID): called after each transaction with the
	//     primary keys that it stored, valid until it returns; nil for nobody
	CopyConfig = load.Config
	// CopyError says which row could not be stored, and why.
	//
	//   - Row int64: the place in the sequence, from 1, or 0 for no single row
	//   - Err error: what a Create would have returned, or the sequence gave
	CopyError = load.Error
)

// ErrUncertain means that a [Copy]'s connection broke at the end of a
// transaction, so that nobody knows whether its rows are stored.
var ErrUncertain = load.ErrUncertain

// Copy stores many credentials, with their secrets encrypted, about twice as
// fast as a bulk of Creates: for loading and moving, not for the single
// request. The pool is one of [OpenDB]. It takes the client's configuration.
// Config.Audit records each transaction's rows together, and Config.Trail gets
// one entry, an import, for each transaction, in it; hooks of the caller's
// aren't run, and Config.Wrap, Config.Migrate, Config.OnReveal and
// Config.Reader don't matter. It counts as a write of its context's request,
// see [WithRequest], and with a context without a request as none.
//
// Each row has the defaults and passes the checks of a Create, and where it is
// refused, a Create's error comes in a [CopyError] with the row's place in the
// sequence: [ErrTooLong], [ErrNotText], [ErrRedacted], [ErrFormat],
// [ErrTenantMismatch], ent.IsValidationError, ent.IsNotFound for an account
// that is not there, and ent.IsConstraintError, for a primary key that is there
// already for one. No error has a secret in it.
//
// The rows are read one by one, and stored in transactions of CopyConfig.Batch
// rows, which is also what is held in memory. Copy returns how many rows are
// stored. After an error that is the beginning of the sequence, so that it can
// be continued after that many rows; with CopyConfig.Atomic it is none. An
// error that the sequence gives stops Copy like a row that is refused, after
// the rows before it are stored. One case is left open: where the connection
// breaks while a transaction is committed, its rows may be stored and are not
// counted; the error is then [ErrUncertain]. Who tries again then sets
// CopyRow.ID, so that no row is stored twice.
//
// Postgres gets them by COPY over pgx, if row-level security does not apply to
// the role, as to the tables' owner; Postgres refuses COPY to others. Over
// lib/pq, for members of credent_app, and on SQLite they are sent in INSERTs of
// 500 rows, which is slower, and else the same. The user of [WithUser] counts
// as for a Create.
func Copy(
	ctx context.Context, db *sql.DB, rows iter.Seq2[CopyRow, error], cfg CopyConfig, client Config,
) (int64, error) {
	if err := errors.Join(nilarg.Check("the pool", db), nilarg.Check("the sequence of rows", rows)); err != nil {
		return 0, fmt.Errorf("credent: copy: %w", err)
	}
	ctx = replica.Writing(ctx)
	checked := clientconfig.Config(client)
	checked.Audit = nil // Stored records the rows, once they are committed
	if err := checked.Check(); err != nil {
		return 0, err
	}
	if client.Audit != nil {
		stored := cfg.Stored
		cfg.Stored = func(ids []uuid.UUID) {
			hooks.RecordCreated(ctx, client.Audit, ids)
			if stored != nil {
				stored(ids)
			}
		}
	}
	return load.Run(ctx, db, rows, cfg, load.Sealing{
		Record:  recorder.Imports(client.Trail, usercredential.Table),
		Driver:  checked.Driver(),
		Guard:   checked.Guard,
		Checked: len(checked.Formats) > 0,
		Copier:  copier,
		NewClient: func(drv dialect.Driver) *ent.Client {
			client := ent.NewClient(ent.Driver(drv))
			hooks.Install(client, checked.Hooks())
			return client
		},
	})
}
