package rotate

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/nilarg"
)

// verificationTable has a row for each column and verification.
const verificationTable = "credent_verifications"

// What secrets are under in [Verification.Under], beside the IDs of keys.
const (
	UnderTenantKey = "tenant-key" // the data key of the row's tenant
	UnderDestroyed = "shredded"   // a tenant's key that was destroyed
	UnderReadable  = "readable"   // of a tenant whose key was destroyed, and not unreadable
	UnderUnknown   = "unknown"    // no key of the keyring, or altered
	UnderNone      = "plaintext"  // no token
	UnderDamaged   = "damaged"    // a malformed token
)

// Verification says when a column was verified, and what was found.
type Verification struct {
	At      time.Time // UTC, to the second
	Secrets int64     // that were there
	Failed  int64     // of these, that did not open: under no key of the keyring, altered, damaged or not encrypted
	Ready   bool      // all was as [ColumnCount.Ready] says

	// Primary is the ID of the primary key of that time, and Under the number
	// of secrets by the ID of their key, or by one of the words above. Both are
	// empty if an earlier version recorded it.
	Primary string
	Under   map[string]int64
}

// found is what the table's column of that name has, as JSON.
type found struct {
	Primary string           `json:"primary"`
	Under   map[string]int64 `json:"under"`
}

// Under returns the number of secrets by the ID of their key, or by one of the
// words such as [UnderTenantKey]; none is 0 but the primary key's.
func (c ColumnCount) Under() map[string]int64 {
	under := map[string]int64{c.PrimaryKey: c.Primary}
	add := func(name string, n int64) {
		if n > 0 {
			under[name] += n
		}
	}
	for id, n := range c.Previous {
		add(id, n)
	}
	add(UnderTenantKey, c.Tenant)
	add(UnderDestroyed, c.Shredded)
	add(UnderReadable, c.Readable)
	add(UnderUnknown, c.UnknownKey)
	add(UnderNone, c.NotEncrypted)
	add(UnderDamaged, c.Damaged)
	return under
}

// RecordVerification records what [Verify] has counted, for [LastVerified] and
// [Verifications]. The time is that at which Verify was called, since what was
// stored later it may not have read. It is recorded as a whole or not at all,
// beside what was recorded before. A database whose migrations have not made
// the table credent_verifications gives an [ErrNoTable].
func RecordVerification(ctx context.Context, db *sql.DB, counts Counts, at time.Time) error {
	if len(counts) == 0 {
		return nil
	}
	// One statement, and no transaction: lib/pq begins one as READ WRITE, also
	// for a role whose sessions are to be read-only.
	var rows []string
	var args []any
	for _, c := range counts {
		text, err := json.Marshal(found{c.PrimaryKey, c.Under()})
		if err != nil {
			return fmt.Errorf("rotate: record the verification: %w", err)
		}
		n := len(args)
		rows = append(rows, fmt.Sprintf("($%d, $%d, $%d, $%d, $%d, $%d, $%d)", n+1, n+2, n+3, n+4, n+5, n+6, n+7))
		// The time as text, which both databases read as one without a zone.
		args = append(args, c.Table, c.Column, at.UTC().Format(time.DateTime), c.Rows-c.Null,
			c.UnknownKey+c.NotEncrypted+c.Damaged, c.Ready(), string(text))
	}
	_, err := db.ExecContext(ctx, "INSERT INTO "+verificationTable+
		" (table_name, column_name, verified_at, secrets, failed, ready, found) VALUES "+strings.Join(rows, ", ")+
		" ON CONFLICT (table_name, column_name, verified_at) DO UPDATE SET secrets = excluded.secrets,"+
		" failed = excluded.failed, ready = excluded.ready, found = excluded.found", args...)
	if err != nil {
		return verificationError("record the verification", err)
	}
	return nil
}

// LastVerified returns what was recorded last of each column, by its name as
// TABLE.COLUMN. Errors are [RecordVerification]'s.
func LastVerified(ctx context.Context, db *sql.DB) (map[string]Verification, error) {
	all, err := Verifications(ctx, db, 1)
	if err != nil {
		return nil, err
	}
	last := make(map[string]Verification, len(all))
	for name, list := range all {
		last[name] = list[0]
	}
	return last, nil
}

// Verifications returns what was recorded of each column, by its name as
// TABLE.COLUMN: the last ones, at most n of each, the oldest first. Errors are
// [RecordVerification]'s.
func Verifications(ctx context.Context, db *sql.DB, n int) (all map[string][]Verification, err error) {
	if err := nilarg.Check("the pool", db); err != nil {
		return nil, fmt.Errorf("rotate: %w", err)
	}
	rows, err := db.QueryContext(ctx, "SELECT table_name, column_name, verified_at, secrets, failed, ready, found "+
		"FROM (SELECT v.*, row_number() OVER (PARTITION BY table_name, column_name ORDER BY verified_at DESC) "+
		"AS place FROM "+verificationTable+" AS v) AS v WHERE place <= $1 "+
		"ORDER BY table_name, column_name, verified_at", n)
	if err != nil {
		return nil, verificationError("read the verifications", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	all = make(map[string][]Verification)
	for rows.Next() {
		var (
			table, column, text string
			v                   Verification
			f                   found
		)
		if err := rows.Scan(&table, &column, &v.At, &v.Secrets, &v.Failed, &v.Ready, &text); err != nil {
			return nil, verificationError("read the verifications", err)
		}
		if text != "" {
			if err := json.Unmarshal([]byte(text), &f); err != nil {
				return nil, fmt.Errorf("rotate: read the verifications: %s.%s: the column found isn't what "+
					"RecordVerification writes; delete the row", table, column)
			}
		}
		v.At, v.Primary, v.Under = v.At.UTC(), f.Primary, f.Under
		name := table + "." + column
		all[name] = append(all[name], v)
	}
	return all, rows.Err()
}

// verificationError names a table that is missing, or lacks a column.
func verificationError(what string, err error) error {
	state, text := dberror.State(err), err.Error()
	const undefinedTable, undefinedColumn = "42P01", "42703"
	if state == undefinedTable || state == undefinedColumn || strings.Contains(text, "no such table") ||
		strings.Contains(text, "no such column") || strings.Contains(text, "has no column named") {
		return fmt.Errorf("rotate: %s: %s: %w", what, verificationTable, ErrNoTable)
	}
	return fmt.Errorf("rotate: %s: %w", what, err)
}
