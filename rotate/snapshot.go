package rotate

import (
	"context"
	"database/sql"
	"errors"

	"github.com/credent-go/credent/internal/ledger"
	"github.com/credent-go/credent/internal/retry"
)

// snapshot goes through the rows of one moment that were written since another,
// but for what the run wrote itself. If it is cut, it begins anew, with another
// moment, and with fewer blocks at once if the database took too long.
func (p *pass) snapshot(ctx context.Context, h *part, s span) error {
	return p.retry(ctx, p.tell, func() error {
		for {
			err := p.begin(ctx, h, &s)
			if err == nil {
				err = p.moment(ctx, h, s)
			}
			var tried *DatabaseError // of what was written meanwhile
			if retry.KindOf(err) != retry.Timeout || errors.As(err, &tried) || ctx.Err() != nil ||
				!p.pace.slower(p.pace.rows()) {
				return err
			}
		}
	})
}

// begin begins a snapshot with nothing.
func (p *pass) begin(ctx context.Context, h *part, s *span) error {
	positions, err := p.book.Positions(ctx)
	if err != nil {
		return err
	}
	if s.own, err = p.ownSince(s.since, positions, h); err != nil {
		return err
	}
	h.mu.Lock()
	h.rest = ledger.Counts{}
	h.mu.Unlock()
	p.mu.Lock()
	p.read, p.shredded, p.left = 0, 0, quarantine{}
	p.mu.Unlock()
	if p.total > 0 {
		p.tell(nil, 0)
	}
	return nil
}

// ownSince returns the transactions since a moment whose rows are right as they
// are, of all parts.
func (p *pass) ownSince(since string, positions []string, h *part) (own []int64, err error) {
	from, err := parseHorizon(since)
	if err != nil {
		return nil, ledger.ErrLost
	}
	h.mu.Lock()
	lists := [][]int64{h.own}
	h.mu.Unlock()
	for _, position := range positions {
		_, list := cutMark(position)
		lists = append(lists, list)
	}
	for _, list := range lists {
		for _, n := range list {
			if n >= from.transaction {
				own = append(own, n)
			}
		}
	}
	return own, nil
}

// moment goes through the rows of one moment. The table is locked before the
// moment is chosen. Otherwise an ALTER TABLE could end in between that writes
// the rows anew, which an older moment doesn't have.
func (p *pass) moment(ctx context.Context, h *part, s span) (err error) {
	tx, err := p.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // it has nothing to commit
	if _, err := tx.ExecContext(ctx, "LOCK TABLE "+p.table.quoted()+" IN ACCESS SHARE MODE"); err != nil {
		return err
	}
	blocks, alone, err := p.store.heap(ctx, tx, p.table)
	if err != nil {
		return err
	}
	if p.alone = p.alone && alone; !p.alone {
		s.own = nil
	}
	s.on, s.after, s.upTo, s.density = tx, tid{}, tid{block: blocks}, 1.0/blocksPerRow
	for more := true; more && !h.isLost(); {
		var page []row
		if page, s, more, err = p.store.page(ctx, p.table, s, p.pace.rows()); err != nil {
			return err
		}
		if len(page) == 0 {
			continue
		}
		if err := p.limit.WaitN(ctx, len(page)); err != nil {
			return err
		}
		counts, own, err := p.rewrite(ctx, page)
		if err != nil {
			return retry.Permanent(err) // it has been tried again
		}
		h.mu.Lock()
		h.rest, h.own = sum(h.rest, counts), addOwn(h.own, own)
		h.of.At = mark(h.at, h.own)
		h.mu.Unlock()
	}
	return nil
}
