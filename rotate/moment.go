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

// moment is a table as it was at one moment, for several connections. Whoever
// counts rows in the order of the heap needs it: a row that moves would be
// counted twice or not at all. It keeps the server from removing rows that were
// deleted since, and locks nothing.
type moment struct {
	tx     *sql.Tx // that keeps the snapshot
	name   string  // of the snapshot
	table  string  // quoted
	file   string  // of the heap
	blocks int64
}

// errMomentGone means that the snapshot has ended with its connection, that
// there is no connection for it, or that the table was written to another file,
// where the snapshot doesn't see it.
var errMomentGone = errors.New("the snapshot is gone")

// momentGone says why. It hides the database's error, which would be a reason
// to try the same again.
func momentGone(why error) error { return fmt.Errorf("%w: %s", errMomentGone, why.Error()) }

var oneMoment = sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}

const fileOfTable = "SELECT coalesce(pg_relation_filenode(to_regclass($1::text))::text, '')"

// moment begins one for a table with an order of its heap; nil for others, on a
// standby, since its server ends long snapshots, and for a pool of one
// connection. A table that is written to another file before the snapshot
// begins has another file than it says. Timeouts for transactions aren't for
// one that only keeps a snapshot.
func (p postgres) moment(ctx context.Context, t table) (_ *moment, err error) {
	var standby bool
	m := &moment{table: t.quoted()}
	if err := p.db.QueryRowContext(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return nil, err
	}
	if standby || p.db.Stats().MaxOpenConnections == 1 {
		return nil, nil //nolint:nilnil // it says so
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

// moment returns none: SQLite's rows are in the order of their key.
func (sqlite) moment(context.Context, table) (*moment, error) {
	return nil, nil //nolint:nilnil // it says so
}

// spans divides the table as it was at the moment.
func (m *moment) spans(parts int) (spans []span) {
	var after tid
	for _, bound := range divideHeap(parts) {
		upTo := bound.(share).of(m.blocks)
		spans = append(spans, span{after: after, upTo: upTo, moment: m})
		after = upTo
	}
	return append(spans, span{after: after, upTo: tid{block: m.blocks}, moment: m})
}

// read reads what was there at the moment, over any connection of the pool.
func (m *moment) read(ctx context.Context, db *sql.DB, f func(querier) error) error {
	const snapshotTooOld = "72000" // where old_snapshot_threshold is set
	tx, err := db.BeginTx(ctx, &oneMoment)
	if retry.KindOf(err) == retry.Crowded {
		return momentGone(err) // and with it a connection is free
	}
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // it has nothing to commit
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
	// The lock that reading took keeps the table in its file until here.
	var file string
	if err := tx.QueryRowContext(ctx, fileOfTable, m.table).Scan(&file); err != nil {
		return err
	}
	if file != m.file {
		return momentGone(errors.New("the table is in another file"))
	}
	return nil
}

// end ends it, and reports whether the snapshot was there to the end, if err is
// nil.
func (m *moment) end(err error) error {
	if gone := m.tx.Commit(); gone != nil && err == nil {
		return momentGone(gone)
	}
	return err
}
