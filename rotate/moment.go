package rotate

import (
	"context"
	"database/sql"
	"errors"

	"github.com/credent-go/credent/internal/retry"
)

// moment is a table as it was at one moment, for several connections. Whoever
// counts rows in the order of the heap needs it: a row that moves would be
// counted twice or not at all. It keeps the server from removing rows that were
// deleted since, and locks nothing.
type moment struct {
	tx     *sql.Tx // that keeps the snapshot
	name   string  // of the snapshot
	file   string  // of the heap
	blocks int64
}

// errMomentGone means that the snapshot has ended with its connection, or that
// the table was written to another file, where the snapshot doesn't see it.
var errMomentGone = errors.New("the snapshot is gone")

var oneMoment = sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}

const fileOfTable = "SELECT coalesce(pg_relation_filenode(to_regclass($1::text))::text, '')"

// moment begins one for a table with an order of its heap; nil for others, and
// for a pool of one connection. A table that is written to another file before
// the snapshot begins has another file than it says.
func (p postgres) moment(ctx context.Context, t table) (_ *moment, err error) {
	if p.db.Stats().MaxOpenConnections == 1 {
		return nil, nil //nolint:nilnil // it says so
	}
	now, err := p.horizon(ctx, t)
	if err != nil || !now.inHeap() {
		return nil, err
	}
	m := new(moment)
	if err := p.db.QueryRowContext(ctx, fileOfTable, t.quoted()).Scan(&m.file); err != nil {
		return nil, err
	}
	if m.tx, err = p.db.BeginTx(ctx, &oneMoment); err != nil {
		return nil, err
	}
	err = m.tx.QueryRowContext(ctx, `SELECT pg_export_snapshot(),
		pg_relation_size(to_regclass($1::text)) / current_setting('block_size')::bigint`, t.quoted()).
		Scan(&m.name, &m.blocks)
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

// page reads a page as it was at the moment, over any connection.
func (m *moment) page(
	ctx context.Context, db *sql.DB, t table, read func(querier) ([]row, error),
) (page []row, err error) {
	tx, err := db.BeginTx(ctx, &oneMoment)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // it has nothing to commit
	if _, err := tx.ExecContext(ctx, "SET TRANSACTION SNAPSHOT '"+m.name+"'"); err != nil {
		if retry.KindOf(err) == retry.Other && ctx.Err() == nil {
			return nil, errMomentGone
		}
		return nil, err
	}
	if page, err = read(tx); err != nil {
		return nil, err
	}
	// The page's lock keeps the table in its file until here.
	var file string
	if err := tx.QueryRowContext(ctx, fileOfTable, t.quoted()).Scan(&file); err != nil {
		return nil, err
	}
	if file != m.file {
		return nil, errMomentGone
	}
	return page, nil
}

// end reports whether the snapshot was there to the end, if err is nil.
func (m *moment) end(err error) error {
	if gone := m.tx.Commit(); gone != nil && err == nil {
		return errMomentGone
	}
	return err
}
