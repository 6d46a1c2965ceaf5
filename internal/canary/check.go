package canary

import (
	"context"
	"errors"
	"fmt"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// Checker tells for one keyring and database whether columns open.
type Checker struct {
	DB
	ring *keyring.Ring

	asked      bool
	unreadable string // why canaries can't be read; "" if they can
}

// NewChecker returns a Checker. Errors: [keyring.ErrNoKey].
func NewChecker(db DB, ring *keyring.Ring) (*Checker, error) {
	if _, err := keyring.Load(ring); err != nil {
		return nil, err
	}
	return &Checker{DB: db, ring: ring}, nil
}

// Check opens the canary of each column and a sample of its rows. It returns
// nil if each column had something to open, and all of it opened; why something
// doesn't open; and otherwise an [ErrNotChecked].
func (c *Checker) Check(ctx context.Context, columns ...column.Column) error {
	return c.CheckRows(ctx, func(of column.Column) (Rows, error) {
		return c.newSampler(c.ring, of).look(ctx)
	}, columns...)
}

// CheckRows is Check with the caller's look at the rows.
func (c *Checker) CheckRows(
	ctx context.Context, look func(of column.Column) (Rows, error), columns ...column.Column,
) error {
	var unseen error
	for _, of := range columns {
		err := c.column(ctx, look, of)
		if err != nil {
			err = fmt.Errorf("check %s: %w", of, err)
		}
		switch {
		case err == nil:
		case !errors.Is(err, ErrNotChecked):
			return err // whatever else could not be looked at
		case unseen == nil:
			unseen = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return unseen
}

func (c *Checker) column(ctx context.Context, look func(of column.Column) (Rows, error), of column.Column) error {
	rows, err := look(of)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotChecked, err)
	}
	if rows.Err != nil {
		return rows.Err
	}
	missing, err := c.canary(ctx, of)
	switch {
	case err != nil:
		return err
	case missing != "" && rows.Unseen != "":
		return fmt.Errorf("%w: %s, and %s", ErrNotChecked, rows.Unseen, missing)
	}
	return nil
}

// canary opens the canary of a column. If there is none that the role can read,
// it says why.
func (c *Checker) canary(ctx context.Context, of column.Column) (missing string, err error) {
	if !c.asked {
		if c.unreadable, err = c.DB.unreadable(ctx); err != nil {
			return "", fmt.Errorf("%w: %w", ErrNotChecked, err)
		}
		c.asked = true
	}
	state, err := c.state(ctx, c.ring, of, c.unreadable)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrNotChecked, err)
	case state.Err != nil:
		return "", fmt.Errorf("its canary doesn't open: %w", state.Err)
	}
	return state.Missing, nil
}

// State is what is known of one canary.
type State struct {
	Missing string      // why there is none to open
	Key     *fernet.Key // of the keyring, that opens it
	Primary bool        // it is the primary key
	Err     error       // why none opens it
}

// States returns the state of the canary of each column.
func States(ctx context.Context, db DB, ring *keyring.Ring, columns ...column.Column) ([]State, error) {
	unreadable, err := db.unreadable(ctx)
	if err != nil {
		return nil, err
	}
	states := make([]State, len(columns))
	for i, of := range columns {
		if states[i], err = db.state(ctx, ring, of, unreadable); err != nil {
			return nil, err
		}
	}
	return states, nil
}

func (db DB) state(ctx context.Context, ring *keyring.Ring, of column.Column, unreadable string) (State, error) {
	if unreadable != "" {
		return State{Missing: unreadable}, nil
	}
	token, err := db.Read(ctx, of)
	if err != nil {
		return State{}, err
	}
	if token == "" {
		return State{Missing: "the column has no canary yet"}, nil
	}
	key, primary, err := open(ring, of, token)
	return State{Key: key, Primary: primary, Err: err}, nil
}
