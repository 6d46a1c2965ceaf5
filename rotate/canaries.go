package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/credent-go/credent/internal/canary"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// canaries says what an operation does with its columns' canaries; see package
// canary.
type canaries int

const (
	// moveCanaries re-encrypts canaries under the primary key and creates
	// missing ones.
	moveCanaries canaries = iota
	// keepCanaries creates missing canaries. If a canary doesn't open, the
	// operation ends before it writes anything.
	keepCanaries
	// dropCanaries deletes them, because the columns have no tokens afterwards.
	dropCanaries
)

// openCanaries returns the canary database, or nil if the table is missing.
func openCanaries(ctx context.Context, db *sql.DB) (*canary.DB, error) {
	on, err := canary.Of(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("rotate: %w", err)
	}
	has, err := on.HasTable(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("rotate: %s: %w", canary.Table, err)
	case !has:
		return nil, nil
	}
	return &on, nil
}

// checkCanaries refuses a keyring that doesn't open a column's canary before
// anything is encrypted with it.
func checkCanaries(ctx context.Context, db *canary.DB, ring *engine.Ring, tables []table) error {
	if db == nil {
		return nil
	}
	for _, t := range tables {
		states, err := canary.States(ctx, *db, ring, t.columns...)
		if err != nil {
			return fmt.Errorf("rotate: %s: %w", canary.Table, err)
		}
		for i, state := range states {
			if state.Err != nil {
				return fmt.Errorf("rotate: the canary of %s is under another key, and nothing was encrypted: %w",
					t.columns[i], state.Err)
			}
		}
	}
	return nil
}

// keepCanaries updates a table's canaries as the operation requires, after all
// of its rows were processed.
func (r *run) keepCanaries(ctx context.Context, t table, result *TableReport) error {
	if r.canaryDB == nil {
		return nil
	}
	for _, of := range t.columns {
		opened := result.QuarantinedByOthers == 0 && !result.isLeft(of.Name)
		var (
			outcome canary.Outcome
			written bool // perhaps by a try with a lost answer
		)
		err := r.retryTable(ctx, t, func() (err error) {
			switch {
			case r.forCanaries == moveCanaries:
				outcome, err = canary.Move(ctx, *r.canaryDB, r.ring, of, opened, r.cfg.DryRun)
				written = written || outcome.Written
			case r.cfg.DryRun, !opened:
			case r.forCanaries == dropCanaries:
				err = r.canaryDB.Drop(ctx, of)
			default:
				err = canary.Keep(ctx, *r.canaryDB, r.ring, of)
			}
			return err
		})
		if written {
			result.Canaries++
		}
		if outcome.Err != nil {
			q := Quarantined{Table: t.label(), Column: of.Name, Err: outcome.Err}
			result.leaveCanary(q)
			err = errors.Join(err, r.quarantined([]Quarantined{q}))
		}
		if err != nil {
			return fmt.Errorf("the canary of %s: %w", of, err)
		}
	}
	return nil
}

// CanaryCount says which key a column's canary needs. If there is no canary,
// all fields are false and empty.
type CanaryCount struct {
	Primary  bool   `json:"primary"`  // the primary key
	Previous string `json:"previous"` // an earlier key, by its ID
	Unopened bool   `json:"unopened"` // no key of the keyring, or it was altered
}

// behind reports whether a canary isn't under the primary key.
func (c CanaryCount) behind() bool { return c.Unopened || c.Previous != "" }

// addCanaries adds canaries to the counts of a table's columns.
func (v *verifier) addCanaries(ctx context.Context, db *canary.DB) error {
	if db == nil || v.table.isOfKeys() {
		return nil
	}
	states, err := canary.States(ctx, *db, v.ring, v.table.columns...)
	if err != nil {
		return fmt.Errorf("%s: %w", canary.Table, err)
	}
	for i, state := range states {
		c := &v.columns[i].Canary
		switch {
		case state.Missing != "":
		case state.Err != nil:
			c.Unopened = true
		case state.Primary:
			c.Primary = true
		default:
			c.Previous = state.Key.ID()
		}
	}
	return nil
}
