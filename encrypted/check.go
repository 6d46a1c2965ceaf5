package encrypted

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/credent-go/credent/internal/canary"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/ledger"
	"github.com/credent-go/credent/keyring"
)

// Errors of [Check] and [KeepCanary], to be tested with errors.Is.
var (
	// ErrNotChecked means that Check could not look, so the key may be right or
	// wrong.
	ErrNotChecked = canary.ErrNotChecked
	// ErrNoCanaryTable means that the database lacks the table of canaries; see
	// [CanaryTable].
	ErrNoCanaryTable = canary.ErrNoTable
)

// Check makes sure, when a service starts, that the keyring is the one that the
// columns need. It has three answers:
//
//   - nil: each column had something to open, and it opened.
//   - An error from opening it, most likely [ErrUnknownKey], or [ErrCorrupt],
//     [ErrWrongLocation], [ErrNotEncrypted].
//   - [ErrNotChecked]: it found nothing to look at in some column, and no other
//     column failed. The table is missing, the role may not read it, row-level
//     security hides the rows, or there are none; and there is no canary.
//
// It opens the column's canary, if there is one (see [KeepCanary]), and the
// secrets of its last rows by primary key, at most ten. It fails if none of
// these opens: a single damaged row isn't enough. Bound or not, under the
// keyring or the tenant's key: each counts as opened. It looks at 200 rows at
// most, by the index of the primary key, however large the table is.
//
// It fails with [ErrValue] or [ErrNotText] if none of the opened secrets
// decodes as its field's type, such as after bytes were cast to text before
// they were encrypted.
//
// It also fails with [ErrNotRegistered] if a blind index lacks its function to
// normalize with, because the generated package runtime isn't imported, and
// with [ErrBlindIndex] if one of these rows has a digest of something else in
// its blind index, or if the index is unique and none has a digest: a client
// without [NewDriver] or another program wrote them, and nothing keeps them
// unique until rotate has filled the index in.
//
// Give it the client's keyring, and the client's columns from the generated
// package's EncryptedColumns: without a keyring it is [ErrNoKey], and without
// columns [ErrNoColumn].
func Check(ctx context.Context, db *sql.DB, ring *keyring.Keyring, columns ...Column) error {
	columns, err := named(columns)
	if err != nil {
		return fmt.Errorf("encrypted: check: %w", err)
	}
	on, err := canary.Of(ctx, db)
	if err != nil {
		return fmt.Errorf("encrypted: check: %w: %w", ErrNotChecked, err)
	}
	c, err := canary.NewChecker(on, (*engine.Ring)(ring))
	if err != nil {
		return fmt.Errorf("encrypted: check: %w; give it the client's keyring", err)
	}
	if err := c.Check(ctx, columns...); err != nil {
		return fmt.Errorf("encrypted: %w", err)
	}
	return nil
}

// KeepCanary stores a canary for each column that has none: a token of a known
// text under the primary key, in a table that each service's role may read.
// With it [Check] tells whether the key is right even if no row is stored yet,
// or row-level security hides the rows. Call it after the migrations, as the
// role that owns the tables; migrate.Config has a Keyring for it. rotate.Run
// re-encrypts canaries under a new primary key.
//
// It refuses a keyring that doesn't open the existing canary, or opens none of
// the column's secrets, mostly with [ErrUnknownKey], and then changes nothing.
// To find a secret it may read the whole table, if the column has no canary
// yet. Other errors: [ErrNoKey], [ErrNoColumn], [ErrNoCanaryTable];
// [ErrNotChecked] if the role doesn't see the rows.
func KeepCanary(ctx context.Context, db *sql.DB, ring *keyring.Keyring, columns ...Column) error {
	columns, err := named(columns)
	if err != nil {
		return fmt.Errorf("encrypted: keep the canaries: %w", err)
	}
	on, err := canary.Of(ctx, db)
	if err == nil {
		err = canary.Keep(ctx, on, (*engine.Ring)(ring), columns...)
	}
	if err != nil {
		return fmt.Errorf("encrypted: %w", err)
	}
	return nil
}

// CanaryTable returns the statements that make the table of canaries, for a
// schema without migration files. It returns none for a dialect other than
// Postgres and SQLite. On Postgres grant SELECT on it to each service's role.
func CanaryTable(dialect string) []string { return canary.CreateTable(dialect) }

// ProgressTable returns the statements that make the table of package rotate's
// progress, for a schema without migration files. It returns none for a dialect
// other than Postgres and SQLite. Without the table a run starts over with
// every row, and shares its work with no other. Services need no rights on it:
// grant SELECT, INSERT, UPDATE and DELETE to the role that runs rotate, if it
// isn't the owner. It holds no secrets, but rows' primary keys.
func ProgressTable(dialect string) []string { return ledger.CreateTable(dialect) }

// named returns the given columns, without duplicates of a database column.
func named(columns []Column) ([]Column, error) {
	if len(columns) == 0 {
		return nil, fmt.Errorf("%w: none is named; give it the EncryptedColumns of the client's generated package",
			ErrNoColumn)
	}
	if err := column.CheckBindings(columns); err != nil {
		return nil, err
	}
	return column.Distinct(columns)
}
