package rotate

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/credent-go/credent/internal/ledger"
)

// part is a part of a table claimed by a worker.
type part struct {
	worker int

	mu    sync.Mutex
	of    ledger.Part // as last saved or about to be
	at    string      // its position, without own
	own   []int64     // transactions with rows that need no second look
	lost  bool        // another worker has it now
	dirty bool        // a value was quarantined
	rest  ledger.Counts
}

// part processes a part from its last saved position.
func (p *pass) part(ctx context.Context, worker int, of ledger.Part) error {
	h := &part{worker: worker, of: of}
	h.at, h.own = cutMark(of.At)
	s, err := p.span(h)
	if err != nil {
		return ledger.ErrLost
	}
	p.hold(h, true)
	defer p.hold(h, false)
	if p.table.heap && s.since != "" {
		err = p.snapshot(ctx, h, s)
	} else {
		err = p.pages(ctx, h, s)
	}
	switch {
	case h.isLost():
		return err
	case err != nil:
		p.leave(ctx, h)
		return err
	}
	return p.retry(ctx, p.tell, func() error {
		_, err := p.book.Finish(ctx, worker, h.whole())
		return err
	})
}

// span returns the rest of a part.
func (p *pass) span(h *part) (s span, err error) {
	if s.after, err = decodeKey(cmp.Or(h.at, h.of.After)); err != nil {
		return s, err
	}
	if s.upTo, err = decodeKey(h.of.UpTo); err != nil {
		return s, err
	}
	if s.since = p.state.Since; !p.table.heap {
		return s, nil
	}
	began, err := parseHorizon(p.state.Began)
	if s.since == "" && began.transaction < neverWrapped {
		s.before = p.state.Began
	}
	if s.after == nil {
		s.after = share(0)
	}
	if s.upTo == nil {
		s.upTo = share(shares)
	}
	if of, ok := s.after.(share); ok {
		s.after = of.of(began.blocks)
	}
	if of, ok := s.upTo.(share); ok {
		s.upTo = of.of(began.blocks)
	}
	for _, end := range []any{s.after, s.upTo} {
		if _, ok := end.(tid); !ok {
			return s, ledger.ErrLost
		}
	}
	return s, err
}

// errEnough ends a part that another worker has taken over.
var errEnough = errors.New("another has the part")

// pages processes the rest of a part and tracks its position.
func (p *pass) pages(ctx context.Context, h *part, s span) error {
	return p.rewriteEach(ctx, h, s, func(page []row, counts ledger.Counts, own []int64) error {
		last, err := p.table.position(page[len(page)-1])
		if err != nil {
			return err
		}
		return h.add(last, counts, own)
	})
}

// rewriteEach rewrites each page of a span and then calls done, until another
// worker takes the part over.
func (p *pass) rewriteEach(
	ctx context.Context, h *part, s span, done func(page []row, counts ledger.Counts, own []int64) error,
) error {
	err := p.eachPage(ctx, p.tell, p.table, s, func(ctx context.Context, page []row) error {
		counts, own, err := p.rewrite(ctx, page)
		if err != nil {
			return err
		}
		if err := done(page, counts, own); err != nil {
			return err
		}
		if h.isLost() {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// add counts a finished page. The position stays before the first page with a
// quarantined value, so that a worker that continues from it reports it again.
func (h *part) add(last any, counts ledger.Counts, own []int64) error {
	at, err := encodeKey(last)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.own = addOwn(h.own, own)
	if h.dirty = h.dirty || counts.Quarantined > 0; h.dirty {
		h.rest = sum(h.rest, counts)
	} else {
		h.at, h.of.Counts = at, sum(h.of.Counts, counts)
	}
	h.of.At = mark(h.at, h.own)
	return nil
}

func sum(a, b ledger.Counts) ledger.Counts {
	return ledger.Counts{
		Read: a.Read + b.Read, Found: a.Found + b.Found, Skipped: a.Skipped + b.Skipped,
		Quarantined: a.Quarantined + b.Quarantined,
	}
}

// whole returns the part with all of its progress.
func (h *part) whole() ledger.Part {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.of
	of.Counts = sum(of.Counts, h.rest)
	return of
}

func (h *part) isLost() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost
}

// hold adds a part to the list of held parts, or removes it.
func (p *pass) hold(h *part, is bool) {
	p.holding.Lock()
	defer p.holding.Unlock()
	if p.held[h] = true; !is {
		delete(p.held, h)
	}
}

// leaveTimeout limits saving the position of a stopped run.
const leaveTimeout = 2 * time.Second

// leave saves where a run stopped and releases the part at once. If that fails,
// others wait for the lease to end.
func (p *pass) leave(ctx context.Context, h *part) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	h.mu.Lock()
	of := h.of
	h.mu.Unlock()
	_, _ = p.book.Save(ctx, h.worker, of, true)
}

// leaveAll releases all parts at once, after all workers have stopped.
func (p *pass) leaveAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	_ = p.book.Leave(ctx) // otherwise they wait for the lease to end
}

// saveAlong saves the positions periodically until stop is called.
func (p *pass) saveAlong(ctx context.Context) (stop func()) {
	if !p.stored {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var saving sync.WaitGroup
	saving.Go(func() {
		every := time.NewTicker(ledger.SaveEvery)
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
				p.save(ctx)
			}
		}
	})
	return func() { cancel(); saving.Wait() }
}

// save saves the positions. An error doesn't stop the run: the next step will
// fail too, or the position is merely older than it could be.
func (p *pass) save(ctx context.Context) {
	p.holding.Lock()
	var list []*part
	for h := range p.held {
		list = append(list, h)
	}
	p.holding.Unlock()
	for _, h := range list {
		h.mu.Lock()
		of := h.of
		h.mu.Unlock()
		held, err := p.book.Save(ctx, h.worker, of, false)
		if err == nil && !held {
			h.mu.Lock()
			h.lost = true
			h.mu.Unlock()
		}
	}
	if state, err := p.book.State(ctx); err == nil && state.Pass == p.state.Pass {
		p.setOthers(state.Others)
	}
}
