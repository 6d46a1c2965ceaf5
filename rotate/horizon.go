package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/credent-go/credent/internal/retry"
)

// horizon is a moment in the life of a table on Postgres: every transaction
// before it had ended. A row that a pass has read, and that a transaction
// before the pass's horizon wrote, is the row that the pass has read. So the
// next pass needs only what was written since.
type horizon struct {
	place       string // the server's files, the database, and the table's own and its partitions'
	transaction int64  // with the number of times that the counter has wrapped around
	at          time.Time
}

// maxAge is how many transactions a horizon is good for: half as many as
// Postgres can compare.
const maxAge = 1 << 30

// String returns what parseHorizon reads; "" for none.
func (h horizon) String() string {
	if h.place == "" {
		return ""
	}
	return fmt.Sprintf("%s/%d/%s", h.place, h.transaction, h.at.UTC().Format(time.RFC3339))
}

// xid returns the transaction as Postgres stores it in a row.
func (h horizon) xid() string { return strconv.FormatUint(uint64(h.transaction)&0xffffffff, 10) }

func parseHorizon(text string) (h horizon, err error) {
	if text == "" {
		return horizon{}, nil
	}
	fields := strings.Split(text, "/")
	if len(fields) != 3 {
		return horizon{}, errors.New("rotate: a position has no moment")
	}
	h.place = fields[0]
	if h.transaction, err = strconv.ParseInt(fields[1], 10, 64); err != nil {
		return horizon{}, err
	}
	h.at, err = time.Parse(time.RFC3339, fields[2])
	return h, err
}

// isSeenFrom reports whether the database can say what was written since h.
func (h horizon) isSeenFrom(now horizon) bool {
	age := now.transaction - h.transaction
	return h.place != "" && h.place == now.place && age >= 0 && age < maxAge
}

// horizon returns none for a table whose rows don't say which transaction wrote
// them: a foreign one, or one that is distributed over several servers.
func (p postgres) horizon(ctx context.Context, t table) (horizon, error) {
	var (
		known         sql.NullBool
		files, tables sql.NullString
		h             horizon
	)
	err := p.db.QueryRowContext(ctx, `WITH RECURSIVE tree AS (SELECT to_regclass($1::text)::oid AS oid
			UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree ON i.inhparent = tree.oid)
		SELECT to_regclass('pg_catalog.pg_dist_partition') IS NULL AND has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
				AND bool_and(c.relkind = 'p' OR c.relkind = 'r' AND a.amname = 'heap'),
			(SELECT d.oid::text FROM pg_database AS d WHERE d.datname = current_database()) || '.' ||
				encode(sha256(convert_to(string_agg(c.oid::text, ',' ORDER BY c.oid), 'UTF8')), 'hex'),
			txid_snapshot_xmin(txid_current_snapshot()), clock_timestamp()
		FROM tree JOIN pg_class AS c ON c.oid = tree.oid LEFT JOIN pg_am AS a ON a.oid = c.relam`, t.quoted()).
		Scan(&known, &tables, &h.transaction, &h.at)
	if err != nil {
		return horizon{}, err
	}
	if !known.Bool || !tables.Valid {
		return horizon{}, nil
	}
	err = p.db.QueryRowContext(ctx, "SELECT system_identifier::text FROM pg_catalog.pg_control_system()").Scan(&files)
	if err != nil && retry.KindOf(err) == retry.Other && ctx.Err() == nil {
		return horizon{}, nil // some services of Postgres don't say
	}
	if h.place = files.String + "." + tables.String; err != nil || files.String == "" {
		return horizon{}, err
	}
	return h, nil
}

// horizon returns none: SQLite doesn't say when a row was written.
func (sqlite) horizon(context.Context, table) (horizon, error) { return horizon{}, nil }
