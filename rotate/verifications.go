package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/credent-go/credent/internal/dberror"
)

// verificationTable has a row for each column that was verified, with the last
// time.
const verificationTable = "credent_verifications"

// Verification says when a column was verified last, and what was found.
type Verification struct {
	At      time.Time // UTC, to the second
	Secrets int64     // that were there
	Failed  int64     // of these, that did not open: under no key of the keyring, altered, damaged or not encrypted
	Ready   bool      // all was as [ColumnCount.Ready] says
}

// RecordVerification records what [Verify] has counted, for [LastVerified]. The
// time is that at which Verify was called, since what was stored later it may
// not have read; of two verifications the one that began later is kept. It is
// recorded as a whole or not at all. A database whose migrations have not made
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
		n := len(args)
		rows = append(rows, fmt.Sprintf("($%d, $%d, $%d, $%d, $%d, $%d)", n+1, n+2, n+3, n+4, n+5, n+6))
		// The time as text, which both databases read as one without a zone.
		args = append(args, c.Table, c.Column, at.UTC().Format(time.DateTime), c.Rows-c.Null,
			c.UnknownKey+c.NotEncrypted+c.Damaged, c.Ready())
	}
	_, err := db.ExecContext(ctx, "INSERT INTO "+verificationTable+
		" (table_name, column_name, verified_at, secrets, failed, ready) VALUES "+strings.Join(rows, ", ")+
		" ON CONFLICT (table_name, column_name) DO UPDATE SET verified_at = excluded.verified_at,"+
		" secrets = excluded.secrets, failed = excluded.failed, ready = excluded.ready"+
		" WHERE "+verificationTable+".verified_at <= excluded.verified_at", args...)
	if err != nil {
		return verificationError("record the verification", err)
	}
	return nil
}

// LastVerified returns what was recorded last of each column, by its name as
// TABLE.COLUMN. Errors are [RecordVerification]'s.
func LastVerified(ctx context.Context, db *sql.DB) (last map[string]Verification, err error) {
	rows, err := db.QueryContext(ctx, "SELECT table_name, column_name, verified_at, secrets, failed, ready FROM "+
		verificationTable)
	if err != nil {
		return nil, verificationError("read the last verification", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	last = make(map[string]Verification)
	for rows.Next() {
		var (
			table, column string
			v             Verification
		)
		if err := rows.Scan(&table, &column, &v.At, &v.Secrets, &v.Failed, &v.Ready); err != nil {
			return nil, verificationError("read the last verification", err)
		}
		v.At = v.At.UTC()
		last[table+"."+column] = v
	}
	return last, rows.Err()
}

func verificationError(what string, err error) error {
	const undefinedTable = "42P01"
	if dberror.State(err) == undefinedTable || strings.Contains(err.Error(), "no such table") {
		return fmt.Errorf("rotate: %s: %s: %w", what, verificationTable, ErrNoTable)
	}
	return fmt.Errorf("rotate: %s: %w", what, err)
}
