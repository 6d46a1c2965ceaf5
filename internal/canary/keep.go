package canary

import (
	"context"
	"errors"
	"fmt"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// Keep stores a canary for each column that has none. It refuses a keyring that
// doesn't open the canary that is there, or opens none of the column's tokens:
// the error is then [fernet.ErrUnknownKey] or another of Decrypt's, and nothing
// is changed. It replaces no canary: [Move] does, when everything is under
// another primary key.
//
// Errors: [keyring.ErrNoKey], [ErrNoTable]; [ErrNotChecked] if the role doesn't
// see the column's rows, so that nobody knows whether the key is right.
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
	_, _, err = open(ring, of, token) // of another writer, it may be
	return err
}

// put stores a canary, and returns the one that the database has then.
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

// prove returns how many tokens of the column the keyring opens, and an error
// if it opens none of the existing ones.
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

// Outcome is what became of one canary in a rotation.
type Outcome struct {
	Written bool  // it was made, or replaced by one under the primary key, or is to be
	Err     error // why it doesn't open, and was left as it is
}

// Move brings the canary of a column under the primary key, after the column's
// rows. One that doesn't open is replaced only if the keyring opens the tokens
// of the column, so that it's the canary that is out of date. One that is
// missing is made. Both need rows, which says that all of the column's opened.
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
