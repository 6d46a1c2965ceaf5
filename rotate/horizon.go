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

// horizon is a moment in a table's history: every earlier transaction that
// could write to the table had ended. A row version written before a pass's
// horizon is the one that the pass has read, so the next pass only needs rows
// written since.
type horizon struct {
	// place identifies where transaction numbers are comparable: the server's
	// files, its start time, the number of fail-overs, its last crash, the
	// database, and the table's and its partitions' files. Elsewhere, the same
	// number may mean another transaction.
	place       string
	transaction int64 // includes the wraparounds of the counter
	at          time.Time
	blocks      int64 // size of a table readable in heap order; -1 for others
}

// maxAge is how many transactions a horizon is valid for. Postgres can compare
// numbers that are twice as far apart.
const maxAge = 1 << 30

// String returns what parseHorizon reads; "" for none.
func (h horizon) String() string {
	if h.place == "" {
		return ""
	}
	return fmt.Sprintf("%s/%d/%s/%d", h.place, h.transaction, h.at.UTC().Format(time.RFC3339), h.blocks)
}

// inHeap reports whether the table can be read in heap order.
func (h horizon) inHeap() bool { return h.place != "" && h.blocks >= 0 }

// neverWrapped is the last transaction that comes early enough before the first
// wraparound for a horizon to remain valid. Up to there, each number means one
// transaction.
const neverWrapped = 1<<32 - maxAge

// xid returns the transaction in the form that Postgres stores in a row.
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

// isSeenFrom reports whether the database can tell what was written since h. A
// later horizon may have a slightly lower number, because transactions of other
// databases may end during the query.
func (h horizon) isSeenFrom(now horizon) bool {
	age := now.transaction - h.transaction
	return h.place != "" && h.place == now.place && age > -maxAge && age < maxAge
}

// horizon returns none for a table if its rows don't show which transaction
// wrote them: a foreign table, a distributed one, or one with columns that the
// role may not read. After the crash of one of its processes, a server recovers
// without restarting and resets its statistics; with synchronous_commit off, it
// may have lost transactions. Blocks are ordered within one heap, which VACUUM
// FULL replaces with another file. Transactions of other databases don't write
// to the table.
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
		return horizon{}, nil // some Postgres services don't tell
	}
	if h.place = files.String + "." + tables.String; err != nil || files.String == "" {
		return horizon{}, err
	}
	return h, nil
}

// horizon returns none: SQLite doesn't record when a row was written.
func (sqlite) horizon(context.Context, table) (horizon, error) { return horizon{}, nil }
