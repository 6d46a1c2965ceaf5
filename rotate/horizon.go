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
// before it that could write to the table had ended. A row that a pass has
// read, and that a transaction before the pass's horizon wrote, is the row that
// the pass has read. So the next pass needs only what was written since.
type horizon struct {
	// place is the server's files, since when it runs, after how many
	// fail-overs and which crash, the database, and the table's files and its
	// partitions. Elsewhere, transactions of the same number may be others.
	place       string
	transaction int64 // with the number of times that the counter has wrapped around
	at          time.Time
	blocks      int64 // of a table that can be gone through in their order; -1 for others
}

// maxAge is how many transactions a horizon is good for: half as many as
// Postgres can compare.
const maxAge = 1 << 30

// String returns what parseHorizon reads; "" for none.
func (h horizon) String() string {
	if h.place == "" {
		return ""
	}
	return fmt.Sprintf("%s/%d/%s/%d", h.place, h.transaction, h.at.UTC().Format(time.RFC3339), h.blocks)
}

// inHeap reports whether the table can be gone through in the order of its
// blocks.
func (h horizon) inHeap() bool { return h.place != "" && h.blocks >= 0 }

// neverWrapped is before the counter wraps around for the first time, as long
// as a horizon is good for. So long each number is one transaction.
const neverWrapped = 1<<32 - maxAge

// xid returns the transaction as Postgres stores it in a row.
func (h horizon) xid() string { return strconv.FormatUint(uint64(h.transaction)&0xffffffff, 10) }

func parseHorizon(text string) (h horizon, err error) {
	if text == "" {
		return horizon{}, nil
	}
	fields := strings.Split(text, "/")
	if len(fields) != 4 {
		return horizon{}, errors.New("rotate: a position has no moment")
	}
	h.place = fields[0]
	if h.transaction, err = strconv.ParseInt(fields[1], 10, 64); err != nil {
		return horizon{}, err
	}
	if h.blocks, err = strconv.ParseInt(fields[3], 10, 64); err != nil {
		return horizon{}, err
	}
	h.at, err = time.Parse(time.RFC3339, fields[2])
	return h, err
}

// isSeenFrom reports whether the database can say what was written since h. A
// later horizon may be a little older: it has the transactions of other
// databases that end while it is asked for.
func (h horizon) isSeenFrom(now horizon) bool {
	age := now.transaction - h.transaction
	return h.place != "" && h.place == now.place && age > -maxAge && age < maxAge
}

// horizon returns none if a table's rows don't say which transaction wrote
// them: a foreign table, one distributed over several servers, or one with only
// some columns readable to the role. A server that recovers from the crash of
// one of its processes goes on running, and discards its statistics; with
// synchronous_commit off it may have lost transactions. Blocks have an order in
// one heap, which a VACUUM FULL rewrites to another file. Transactions of other
// databases don't write to the table.
func (p postgres) horizon(ctx context.Context, t table) (horizon, error) {
	var (
		known         sql.NullBool
		files, tables sql.NullString
		h             horizon
	)
	err := p.db.QueryRowContext(ctx, `WITH RECURSIVE tree AS (SELECT to_regclass($1::text)::oid AS oid
			UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN tree ON i.inhparent = tree.oid)
		SELECT to_regclass('pg_catalog.pg_dist_partition') IS NULL AND has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
				AND bool_and((c.relkind = 'p' OR c.relkind = 'r' AND a.amname = 'heap')
					AND has_table_privilege(c.oid, 'SELECT')),
			(SELECT d.oid::text FROM pg_database AS d WHERE d.datname = current_database()) || '.' ||
				encode(sha256(convert_to(string_agg(c.oid::text || ' ' || coalesce(pg_relation_filenode(c.oid), 0), ',' ORDER BY c.oid), 'UTF8')), 'hex'),
			(SELECT coalesce(min(x), txid_snapshot_xmax(txid_current_snapshot())) FROM txid_snapshot_xip(txid_current_snapshot()) AS x
				WHERE NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.backend_xid::text::bigint = x & 4294967295
					AND a.datid <> (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()))), clock_timestamp(),
			CASE WHEN count(*) = 1 AND bool_and(c.relkind = 'r') AND current_setting('server_version_num')::int >= 140000
				THEN pg_relation_size(min(c.oid)) / current_setting('block_size')::bigint ELSE -1 END
		FROM tree JOIN pg_class AS c ON c.oid = tree.oid LEFT JOIN pg_am AS a ON a.oid = c.relam`, t.quoted()).
		Scan(&known, &tables, &h.transaction, &h.at, &h.blocks)
	if err != nil {
		return horizon{}, err
	}
	if !known.Bool || !tables.Valid {
		return horizon{}, nil
	}
	err = p.db.QueryRowContext(ctx, `SELECT system_identifier::text || '.' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
			|| '.' || extract(epoch FROM pg_postmaster_start_time())::bigint
			|| '.' || extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time())
		FROM pg_catalog.pg_control_system()`).Scan(&files)
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
