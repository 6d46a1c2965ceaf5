package canary

import (
	"context"
	"errors"
	"fmt"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// Keep stores a canary for each column that has none. It refuses a keyring that
// doesn't open an existing canary, or opens none of the column's tokens: the
// error is then [fernet.ErrUnknownKey] or another of Decrypt's, and nothing is
// changed. It doesn't replace canaries: [Move] does that after a rotation.
//
// Errors: [keyring.ErrNoKey], [ErrNoTable]; [ErrNotChecked] if the role can't
// see the column's rows, so that the key can't be checked.
func Keep(ctx context.Context, db DB, ring *keyring.Ring, columns ...column.Column) error {
	if _, err := keyring.Load(ring); err != nil {
		return err
	}
	if has, err := db.HasTable(ctx); err != nil {
		return err
	} else if !has {
		return ErrNoTable
	}
	for _, of := range columns {
		if err := db.keep(ctx, ring, of); err != nil {
			return fmt.Errorf("keep the canary of %s: %w", of, err)
		}
	}
	return nil
}

func (db DB) keep(ctx context.Context, ring *keyring.Ring, of column.Column) error {
	token, err := db.Read(ctx, of)
	if err != nil {
		return err
	}
	if token == "" {
		if _, err := db.newSampler(ring, of).prove(ctx); err != nil {
			return err
		}
		if token, err = db.put(ctx, ring, of); err != nil {
			return err
		}
	}
	_, _, err = open(ring, of, token) // another writer may have stored it
	return err
}

// put stores a canary, unless there is one, and returns the stored canary.
func (db DB) put(ctx context.Context, ring *keyring.Ring, of column.Column) (string, error) {
	token, err := sealed(ring, of)
	if err != nil {
		return "", err
	}
	if err := db.insert(ctx, of, token); err != nil {
		return "", err
	}
	return db.Read(ctx, of)
}

// prove returns how many of the column's tokens the keyring opens, and an error
// if there are tokens and it opens none.
func (s *sampler) prove(ctx context.Context) (opened int, err error) {
	t, err := s.table(ctx, s.of)
	if err == nil && t.hidden {
		err = errors.New(HiddenRows)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNotChecked, err)
	}
	found, err := s.read(ctx, s.anyTokens())
	if err != nil || len(found) == 0 {
		return 0, err
	}
	rows, err := s.openAll(ctx, found)
	if err == nil && rows.Opened == 0 && rows.Unseen == "" {
		err = rows.Err
	}
	return rows.Opened, err
}

// Outcome is the result of [Move] for one canary.
type Outcome struct {
	Written bool  // it was made or replaced, or would be in a dry run
	Err     error // why it doesn't open; it was then left as it is
}

// Move replaces a column's canary with one under the primary key, after the
// column's rows were re-encrypted. rows says that all of them opened: then Move
// also makes a missing canary, and replaces one that doesn't open if the
// keyring opens the column's tokens, so that the canary is out of date.
func Move(
	ctx context.Context, db DB, ring *keyring.Ring, of column.Column, rows, dryRun bool,
) (result Outcome, err error) {
	before, err := db.Read(ctx, of)
	if err != nil {
		return result, err
	}
	if before == "" {
		if result.Written = rows; rows && !dryRun {
			_, err = db.put(ctx, ring, of)
		}
		return result, err
	}
	_, primary, failed := open(ring, of, before)
	if primary {
		return result, nil
	}
	if failed != nil {
		opened := 0
		if rows {
			if opened, err = db.newSampler(ring, of).prove(ctx); err != nil {
				return result, err
			}
		}
		if opened == 0 {
			result.Err = failed
			return result, nil
		}
	}
	result.Written = true
	if dryRun {
		return result, nil
	}
	token, err := sealed(ring, of)
	if err != nil {
		return result, err
	}
	if _, err := db.replace(ctx, of, before, token); err != nil {
		return result, err
	}
	return result, nil
}
