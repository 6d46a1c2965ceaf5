package canary

import (
	"context"
	"errors"
	"fmt"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// Checker checks whether a keyring opens columns of a database.
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

// Check opens each column's canary and a sample of its rows. It returns nil if
// every column had something to open and all of it opened, the first error if
// something doesn't open, and otherwise an [ErrNotChecked].
func (c *Checker) Check(ctx context.Context, columns ...column.Column) error {
	return c.CheckRows(ctx, func(of column.Column) (Rows, error) {
		return c.newSampler(c.ring, of).look(ctx)
	}, columns...)
}

// CheckRows is like Check, and calls look to check a column's rows.
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
			return err // even if other columns couldn't be checked
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

// canary opens a column's canary. missing says why there is none that the role
// can read.
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

// State is the state of one canary.
type State struct {
	Missing string      // why there is no canary to open
	Key     *fernet.Key // the keyring's key that opens it
	Primary bool        // Key is the primary key
	Err     error       // why no key opens it
}

// States returns the state of each column's canary.
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
