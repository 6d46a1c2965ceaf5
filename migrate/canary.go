package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/credent-go/credent/internal/canary"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// WithKeyring makes [Apply] keep a canary for each of the columns, after the
// files: a token of a known text under the keyring's primary key. By it a
// service finds out at its start whether its key is right, also before the
// first row is stored and where row-level security hides the rows; see
// encrypted.Check. ent.EncryptedColumns of the generated package returns the
// columns.
//
// Apply then fails with a keyring that doesn't open the canary that is there,
// or opens none of the column's secrets, mostly with encrypted.ErrUnknownKey.
// The files stay applied, and no canary is changed. Without the table
// credent_canary it is encrypted.ErrNoCanaryTable, unless [WithTarget] stops
// before it.
func WithKeyring(ring *keyring.Keyring, columns ...column.Column) Option {
	return func(c *config) { c.canaries = &canaries{ring, columns} }
}

// canaries are what WithKeyring asks for.
type canaries struct {
	ring    *keyring.Keyring
	columns []column.Column
}

func (c *canaries) check() error {
	if c == nil {
		return nil
	}
	if _, err := keyring.Load(c.ring); err != nil {
		return fmt.Errorf("migrate: WithKeyring: %w", err)
	}
	if len(c.columns) == 0 {
		return fmt.Errorf("migrate: WithKeyring: %w: none is named", column.ErrNoColumn)
	}
	return nil
}

// keepCanaries keeps the canaries over the connection of the migrations, since
// the pool may have no other.
func (a *applier) keepCanaries(ctx context.Context) error {
	if a.canaries == nil {
		return nil
	}
	db, err := canary.Of(ctx, a.conn)
	if err == nil {
		err = canary.Keep(ctx, db, a.canaries.ring, a.canaries.columns...)
	}
	if a.target != "" && errors.Is(err, canary.ErrNoTable) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
