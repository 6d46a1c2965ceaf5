package rotate

import (
	"context"
	"errors"

	"github.com/credent-go/credent/internal/ledger"
)

// snapshot processes the rows of one snapshot that were written since a
// horizon, except the run's own. If the snapshot is lost, it starts over with a
// new one.
func (p *pass) snapshot(ctx context.Context, h *part, s span) (err error) {
	for range maxPasses {
		var m *moment
		err = p.retry(ctx, p.tell, func() (err error) {
			if err = p.store.checkWritable(ctx); err != nil { // a fail-over may have led to a standby
				return err
			}
			if err = p.begin(ctx, h, &s); err != nil {
				return err
			}
			if m, err = p.store.moment(ctx, p.table); err == nil && m == nil {
				return errOther
			}
			return err
		})
		if err != nil {
			return err
		}
		if err = m.end(p.moment(ctx, h, s, m)); !errors.Is(err, errMomentGone) {
			return err
		}
	}
	return err
}

// begin resets the counts for a new snapshot.
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

// ownSince returns the transactions since a horizon, over all parts, with rows
// that need no second look.
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

// moment processes the rows of one snapshot.
func (p *pass) moment(ctx context.Context, h *part, s span, m *moment) error {
	s.moment, s.after, s.upTo, s.density = m, tid{}, tid{block: m.blocks}, 1.0/blocksPerRow
	return p.rewriteEach(ctx, h, s, func(_ []row, counts ledger.Counts, own []int64) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.rest, h.own = sum(h.rest, counts), addOwn(h.own, own)
		h.of.At = mark(h.at, h.own)
		return nil
	})
}
