package rotate

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// Errors of [Counts.Err].
var (
	// ErrNotAllPrimary means that not every stored secret is under the primary key.
	ErrNotAllPrimary = errors.New("not every stored secret is under the primary key")

	// ErrIndexBehind means that a blind index has a digest that is not of the row's secret under a key of the keyring, or one
	// under an earlier key. A digest that is missing is no error: another program may write without one.
	ErrIndexBehind = errors.New("a blind index is behind")

	// ErrPlaintext means that a stored secret is no token: it is plaintext, or empty.
	ErrPlaintext = errors.New("some are not encrypted")

	// ErrUnbound means that not every stored secret of a column is bound to table, column and tenant.
	ErrUnbound = errors.New("not every stored secret is bound to its place")
)

// ColumnCount is the number of rows of an encrypted column, by what is stored in it. Null to Damaged, without Bound, add up to Rows.
type ColumnCount struct {
	Table        string           `json:"table"`
	Column       string           `json:"column"`
	Rows         int64            `json:"rows"`
	Null         int64            `json:"null"`
	Bound        int64            `json:"bound"`         // bound to table, column and tenant; counted again by its key
	Primary      int64            `json:"primary"`       // under the primary key
	Previous     map[string]int64 `json:"previous"`      // under an earlier key, by its ID
	UnknownKey   int64            `json:"unknown_key"`   // well-formed, and no key opens it
	NotEncrypted int64            `json:"not_encrypted"` // no token
	Damaged      int64            `json:"damaged"`       // a malformed token
	OverLength   int64            `json:"over_length"`   // longer than the column's declared size, of any of the above
	Index        *IndexCount      `json:"index,omitempty"`
}

// IndexCount is the number of rows by what a column's blind index has, of those whose secret opens or is NULL.
type IndexCount struct {
	Primary  int64            `json:"primary"`  // the digest under the primary key, or NULL for NULL
	Previous map[string]int64 `json:"previous"` // that under an earlier key, by its ID
	Missing  int64            `json:"missing"`  // NULL for a secret, which is not found
	Wrong    int64            `json:"wrong"`    // a digest of something else, or under another key
}

// unbound is the number of secrets that a key opens and that are not bound.
func (c ColumnCount) unbound() int64 {
	n := c.Primary - c.Bound
	for _, previous := range c.Previous {
		n += previous
	}
	return n
}

// Ready reports whether every secret of the column is under the primary key, and what its blind index has is, too.
func (c ColumnCount) Ready() bool { return c.secretsReady() && !c.indexBehind() }

func (c ColumnCount) secretsReady() bool { return c.Primary+c.Null == c.Rows && c.OverLength == 0 }

func (c ColumnCount) indexBehind() bool {
	if c.Index == nil {
		return false
	}
	behind := c.Index.Wrong
	for _, n := range c.Index.Previous {
		behind += n
	}
	return behind > 0
}

// Counts is what [Verify] found.
type Counts []ColumnCount

// Err returns nil if every secret and digest is under the primary key, and otherwise [ErrNotAllPrimary]; if a secret is stored as
// plaintext, [ErrPlaintext] as well, and for digests [ErrIndexBehind].
func (c Counts) Err() error {
	for _, column := range c {
		if column.NotEncrypted > 0 {
			return fmt.Errorf("rotate: %w: %s.%s: %w", ErrNotAllPrimary, column.Table, column.Column, ErrPlaintext)
		}
	}
	for _, column := range c {
		if !column.secretsReady() {
			return fmt.Errorf("rotate: %w: %s.%s", ErrNotAllPrimary, column.Table, column.Column)
		}
		if column.indexBehind() {
			return fmt.Errorf("rotate: %w: %s.%s: %w", ErrNotAllPrimary, column.Table, column.Column, ErrIndexBehind)
		}
	}
	return nil
}

// CheckBound returns an [ErrUnbound] if a secret that a key opens is not bound, in one of the columns of the given names.
func (c Counts) CheckBound(names ...string) error {
	for _, count := range c {
		name := count.Table + "." + count.Column
		if n := count.unbound(); n > 0 && slices.Contains(names, name) {
			return fmt.Errorf("rotate: %w: %s: %d are not", ErrUnbound, name, n)
		}
	}
	return nil
}

// Needs returns the number of secrets that only the key with the given ID opens, or finds.
func (c Counts) Needs(keyID string) int64 {
	var n int64
	for _, column := range c {
		needed := column.Previous[keyID]
		if column.Index != nil {
			needed = max(needed, column.Index.Previous[keyID])
		}
		n += needed
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
			columns[i] = ColumnCount{Table: t.name, Column: c.Name, Previous: noneOf(ring)}
			if c.Index != "" {
				columns[i].Index = &IndexCount{Previous: noneOf(ring)}
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
					place := fieldcrypt.Place{Column: t.columns[i], Tenant: row.tenant}
					columns[i].add(ring, primary, token, place)
					if columns[i].Index == nil {
						continue
					}
					if err := columns[i].Index.add(ring, place, token, row.indexes[i]); err != nil {
						return nil, fmt.Errorf("rotate: %s: %w", t.name, err)
					}
				}
			}
			more = len(page) == DefaultBatch
		}
		counts = append(counts, columns...)
	}
	return counts, nil
}

func (c *ColumnCount) add(ring *fieldcrypt.Keyring, primary *fieldcrypt.Key, token sql.NullString, p fieldcrypt.Place) {
	c.Rows++
	if !token.Valid {
		c.Null++
		return
	}
	if utf8.RuneCountInString(token.String) > p.Column.Size {
		c.OverLength++
	}
	key, bound, err := ring.KeyAt(p, token.String)
	if bound && err == nil {
		c.Bound++
	}
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

// noneOf has a zero for each of the earlier keys.
func noneOf(ring *fieldcrypt.Keyring) map[string]int64 {
	counts := make(map[string]int64)
	for _, key := range ring.Keys()[1:] {
		counts[key.ID()] = 0
	}
	return counts
}

// add counts what the index has for a token.
func (c *IndexCount) add(ring *fieldcrypt.Keyring, p fieldcrypt.Place, token, index sql.NullString) error {
	if !token.Valid {
		if index.Valid {
			c.Wrong++
		} else {
			c.Primary++
		}
		return nil
	}
	plaintext, err := ring.DecryptAt(p, token.String)
	if err != nil {
		return nil //nolint:nilerr // counted as a secret that does not open
	}
	if !index.Valid {
		c.Missing++
		return nil
	}
	digests, err := ring.Digests(p.Column, plaintext)
	if err != nil {
		return err
	}
	keys := ring.Keys()
	switch i := slices.IndexFunc(digests, func(d []byte) bool { return hex.EncodeToString(d) == index.String }); {
	case i == 0:
		c.Primary++
	case i > 0 && i < len(keys):
		c.Previous[keys[i].ID()]++
	default:
		c.Wrong++
	}
	return nil
}
