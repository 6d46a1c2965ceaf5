package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/credent-go/credent/internal/canary"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// canaries holds the keyring and columns for which to keep canaries.
type canaries struct {
	ring    *engine.Ring
	columns []column.Column
}

func (c *canaries) check() error {
	if c == nil {
		return nil
	}
	if _, err := engine.Load(c.ring); err != nil {
		return fmt.Errorf("migrate: the keyring: %w", err)
	}
	if len(c.columns) == 0 {
		return fmt.Errorf("migrate: Keyring is set, and Columns are not: %w", column.ErrNoColumn)
	}
	return nil
}

// keepCanaries updates the canaries on the migrations' connection, because the
// pool may have no other.
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
