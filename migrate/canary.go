package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/credent-go/credent/internal/canary"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// canaries are what Config.Keyring asks for.
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
