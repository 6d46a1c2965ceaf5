package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/retry"
	"github.com/credent-go/credent/internal/sqldialect"
)

// moment is a snapshot of a table, shared by several connections. Counting rows
// in heap order needs it, because a row that moves would otherwise be counted
// twice or not at all. It keeps the server from removing rows deleted since,
// and takes no locks.
type moment struct {
	tx     *sql.Tx // keeps the snapshot open
	name   string  // the snapshot's name
	table  string  // quoted
	file   string  // the heap's file
	blocks int64
}

// errMomentGone means that the snapshot ended with its connection, that no
// connection was free for it, or that the table was rewritten to another file,
// in which the snapshot can't see it.
var errMomentGone = errors.New("the snapshot is gone")

// momentGone adds the reason. It hides the database's error, which could cause
// a retry of the same query.
func momentGone(why error) error { return fmt.Errorf("%w: %s", errMomentGone, why.Error()) }

var oneMoment = sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}

const fileOfTable = "SELECT coalesce(pg_relation_filenode(to_regclass($1::text))::text, '')"

// moment opens a snapshot of a table with a heap order. It returns nil for
// other tables, for a standby, which ends long snapshots, and for a pool with
// one connection. If the table is rewritten before the snapshot begins, the
// recorded file differs. The transaction timeouts are disabled, because the
// transaction only keeps a snapshot.
func (p postgres) moment(ctx context.Context, t table) (_ *moment, err error) {
	var standby bool
	m := &moment{table: t.quoted()}
	if err := p.db.QueryRowContext(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return nil, err
	}
	if standby || p.db.Stats().MaxOpenConnections == 1 {
		return nil, nil //nolint:nilnil // documented
	}
	now, err := p.horizon(ctx, t)
	if err != nil || !now.inHeap() {
		return nil, err
	}
	if err := p.db.QueryRowContext(ctx, fileOfTable, m.table).Scan(&m.file); err != nil {
		return nil, err
	}
	if m.tx, err = p.db.BeginTx(ctx, &oneMoment); err != nil {
		return nil, err
	}
	_, err = m.tx.ExecContext(ctx, "SELECT set_config(name, '0', true) FROM pg_settings "+
		"WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')")
	if err == nil {
		err = m.tx.QueryRowContext(ctx, `SELECT pg_export_snapshot(),
			pg_relation_size(to_regclass($1::text)) / current_setting('block_size')::bigint`, m.table).
			Scan(&m.name, &m.blocks)
	}
	if err != nil {
		_ = m.tx.Rollback()
		return nil, err
	}
	return m, nil
}

// moment returns nil: SQLite's rows are in key order.
func (sqlite) moment(context.Context, table) (*moment, error) {
	return nil, nil //nolint:nilnil // documented
}

// spans divides the table as of the snapshot.
func (m *moment) spans(parts int) (spans []span) {
	var after tid
	for _, bound := range divideHeap(parts) {
		upTo := bound.(share).of(m.blocks)
		spans = append(spans, span{after: after, upTo: upTo, moment: m})
		after = upTo
	}
	return append(spans, span{after: after, upTo: tid{block: m.blocks}, moment: m})
}

// read reads from the snapshot over any connection of the pool.
func (m *moment) read(ctx context.Context, db *sql.DB, f func(querier) error) error {
	const snapshotTooOld = "72000" // if old_snapshot_threshold is set
	tx, err := db.BeginTx(ctx, &oneMoment)
	if retry.KindOf(err) == retry.Crowded {
		return momentGone(err) // this also frees a connection
	}
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing to commit
	if _, err := tx.ExecContext(ctx, "SET TRANSACTION SNAPSHOT "+sqldialect.Literal(m.name)); err != nil {
		if k := retry.KindOf(err); (k == retry.Other || k == retry.Crowded) && ctx.Err() == nil {
			return momentGone(err)
		}
		return err
	}
	if err := f(tx); dberror.State(err) == snapshotTooOld {
		return momentGone(err)
	} else if err != nil {
		return err
	}
	// The lock taken by reading keeps the table in its file until here.
	var file string
	if err := tx.QueryRowContext(ctx, fileOfTable, m.table).Scan(&file); err != nil {
		return err
	}
	if file != m.file {
		return momentGone(errors.New("the table is in another file"))
	}
	return nil
}

// end ends the snapshot. If err is nil, it reports whether the snapshot lasted
// to the end.
func (m *moment) end(err error) error {
	if gone := m.tx.Commit(); gone != nil && err == nil {
		return momentGone(gone)
	}
	return err
}
