package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// Errors of [Counts.Err].
var (
	// ErrNotAllPrimary means that not every stored secret is under the primary key.
	ErrNotAllPrimary = errors.New("not every stored secret is under the primary key")

	// ErrPlaintext means that a stored secret is no token: it is plaintext, or empty.
	ErrPlaintext = errors.New("some are not encrypted")
)

// ColumnCount is the number of rows of an encrypted column, by what is stored in it. The counts add up to Rows.
type ColumnCount struct {
	Table        string           `json:"table"`
	Column       string           `json:"column"`
	Rows         int64            `json:"rows"`
	Null         int64            `json:"null"`
	Primary      int64            `json:"primary"`       // under the primary key
	Previous     map[string]int64 `json:"previous"`      // under an earlier key, by its ID
	UnknownKey   int64            `json:"unknown_key"`   // well-formed, and no key opens it
	NotEncrypted int64            `json:"not_encrypted"` // no token
	Damaged      int64            `json:"damaged"`       // a malformed token
	OverLength   int64            `json:"over_length"`   // longer than the column's declared size, of any of the above
}

// Ready reports whether every secret of the column is under the primary key.
func (c ColumnCount) Ready() bool { return c.Primary+c.Null == c.Rows && c.OverLength == 0 }

// Counts is what [Verify] found.
type Counts []ColumnCount

// Err returns nil if every secret is under the primary key, and otherwise [ErrNotAllPrimary]; if one is stored as plaintext,
// [ErrPlaintext] as well.
func (c Counts) Err() error {
	for _, column := range c {
		if column.NotEncrypted > 0 {
			return fmt.Errorf("rotate: %w: %s.%s: %w", ErrNotAllPrimary, column.Table, column.Column, ErrPlaintext)
		}
	}
	for _, column := range c {
		if !column.Ready() {
			return fmt.Errorf("rotate: %w: %s.%s", ErrNotAllPrimary, column.Table, column.Column)
		}
	}
	return nil
}

// Needs returns the number of secrets that only the key with the given ID opens.
func (c Counts) Needs(keyID string) int64 {
	var n int64
	for _, column := range c {
		n += column.Previous[keyID]
	}
	return n
}

// Verify reads every secret and counts which key it needs. It opens them all, and writes nothing. The counts are of the
// moment at which each page of rows was read.
func Verify(ctx context.Context, db *sql.DB, ring *fieldcrypt.Keyring) (Counts, error) {
	primary := ring.Primary()
	if primary == nil {
		return nil, fmt.Errorf("rotate: %w", fieldcrypt.ErrNoKey)
	}
	tables, store, err := open(ctx, db, nil)
	if err != nil {
		return nil, err
	}
	var counts Counts
	for _, t := range tables {
		columns := make([]ColumnCount, len(t.columns))
		for i, c := range t.columns {
			columns[i] = ColumnCount{Table: t.name, Column: c.Name, Previous: make(map[string]int64)}
			for _, key := range ring.Keys()[1:] {
				columns[i].Previous[key.ID()] = 0
			}
		}
		var after any
		for more := true; more; {
			page, err := store.page(ctx, t, after, DefaultBatch)
			if err != nil {
				return nil, fmt.Errorf("rotate: %s: %w", t.name, err)
			}
			for _, row := range page {
				after = row.key
				for i, token := range row.values {
					columns[i].add(ring, primary, token, t.columns[i].Size)
				}
			}
			more = len(page) == DefaultBatch
		}
		counts = append(counts, columns...)
	}
	return counts, nil
}

func (c *ColumnCount) add(ring *fieldcrypt.Keyring, primary *fieldcrypt.Key, token sql.NullString, size int) {
	c.Rows++
	if !token.Valid {
		c.Null++
		return
	}
	if utf8.RuneCountInString(token.String) > size {
		c.OverLength++
	}
	key, err := ring.KeyOf(token.String)
	switch {
	case key == primary:
		c.Primary++
	case err == nil:
		c.Previous[key.ID()]++
	case errors.Is(err, fieldcrypt.ErrUnknownKey):
		c.UnknownKey++
	case errors.Is(err, fieldcrypt.ErrNotEncrypted):
		c.NotEncrypted++
	default:
		c.Damaged++
	}
}
