package credent

import (
	"context"
	"database/sql"
	"iter"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/hooks"
	"github.com/credent-go/credent/internal/load"
)

// Types of [Copy]. They are documented where they point.
type (
	// CopyRow is one credential to store.
	CopyRow = load.Row
	// CopyConfig says how the rows are stored; the zero value is a good one.
	CopyConfig = load.Config
	// CopyError says which row could not be stored, and why.
	CopyError = load.Error
)

// ErrUncertain means that a [Copy]'s connection broke at the end of a
// transaction, so that nobody knows whether its rows are stored.
var ErrUncertain = load.ErrUncertain

// Copy stores many credentials, with their secrets encrypted, about twice as
// fast as a bulk of Creates: for loading and moving, not for the single
// request. The pool is one of [OpenDB]. It takes the client's options:
// [WithKeyring], [WithFormats], [WithFormatWarnings], [RequireRowSecurity] and
// [WithAudit], which records each transaction's rows together; hooks of the
// caller's are not run.
//
// Each row has the defaults and passes the checks of a Create, and where it is
// refused, a Create's error comes in a [CopyError] with the row's place
// in the sequence: [ErrTooLong], [ErrNotText], [ErrRedacted], [ErrFormat],
// [ErrTenantMismatch], ent.IsValidationError, ent.IsNotFound for an account that is not
// there, and ent.IsConstraintError, for a primary key that is there already for
// one. No error has a secret in it.
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
// Postgres gets them by COPY over pgx, if
// row-level security does not apply to the role, as to the tables' owner;
// Postgres refuses COPY to others. Over lib/pq, for members of credent_app, and
// on SQLite they are sent in INSERTs of 500 rows, which is slower, and else the
// same. The user of [WithUser] counts as for a Create.
func Copy(ctx context.Context, db *sql.DB, rows iter.Seq2[CopyRow, error], cfg CopyConfig, opts ...Option) (int64, error) {
	o := optionsOf(opts)
	audit := o.hooks.Audit
	o.hooks.Audit = nil // of what is stored, and not of what is tried
	if audit != nil {
		stored := cfg.Stored
		cfg.Stored = func(ids []uuid.UUID) {
			hooks.RecordCreated(ctx, audit, ids)
			if stored != nil {
				stored(ids)
			}
		}
	}
	return load.Run(ctx, db, rows, cfg, load.Sealing{
		Driver:  o.driver(),
		Guard:   o.guard,
		Checked: o.hooks.Formats != nil,
		Copier:  copier,
		NewClient: func(drv dialect.Driver) *ent.Client {
			client := ent.NewClient(ent.Driver(drv))
			hooks.Install(client, o.hooks)
			return client
		},
	})
}
