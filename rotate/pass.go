package rotate

import (
	"context"
	"database/sql"
	"slices"
	"sync"
	"time"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/ledger"
)

// pass processes a table's parts once, except for those that other processes
// take: each worker claims one part at a time, and reads its next page while it
// re-encrypts and writes the current one.
type pass struct {
	*work
	state  ledger.State // at the pass's beginning
	number int
	before int64 // rows rewritten in earlier passes
	total  int64

	holding sync.Mutex
	held    map[*part]bool

	mu        sync.Mutex
	others    int64 // rows read by other processes
	read      int64
	rewritten int64
	indexed   int64 // rows changed for a blind index only
	renamed   int64 // rows with something under an earlier name
	skipped   int64
	shredded  int64
	left      quarantine
}

// do returns when all parts are finished, by this process or others.
func (p *pass) do(ctx context.Context) (err error) {
	p.held = make(map[*part]bool)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	saving := p.saveAlong(ctx)
	defer func() {
		saving()
		if err != nil {
			p.leaveAll(ctx)
		}
	}()
	for {
		var workers sync.WaitGroup
		errs := make([]error, min(p.cfg.Workers, p.store.maxWorkers()))
		for i := range errs {
			workers.Go(func() {
				errs[i] = p.worker(ctx, i)
				// If the positions are lost, each worker finishes its current
				// part.
				if errs[i] != nil && !isLost(errs[i]) {
					cancel(errs[i])
				}
			})
		}
		workers.Wait()
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		if over, err := p.waitForOthers(ctx); over || err != nil {
			return err
		}
	}
}

// worker processes one part after another, until none is free.
func (p *pass) worker(ctx context.Context, worker int) error {
	for {
		var (
			of ledger.Part
			ok bool
		)
		err := p.retry(ctx, p.tell, func() (err error) {
			of, ok, err = p.book.Claim(ctx, worker, p.state.Pass)
			return err
		})
		if err != nil || !ok {
			return err
		}
		if err := p.part(ctx, worker, of); err != nil {
			return err
		}
	}
}

// otherInterval is the polling interval while waiting for others.
const otherInterval = 200 * time.Millisecond

// waitForOthers waits until the pass is over or a part is released.
func (p *pass) waitForOthers(ctx context.Context) (over bool, err error) {
	for {
		state, err := p.work.state(ctx)
		if err != nil || state.Pass != p.state.Pass || state.Left == 0 {
			p.setOthers(state.Others)
			return true, err
		}
		if state.Free > 0 {
			return false, nil
		}
		if p.setOthers(state.Others); p.cfg.Progress != nil {
			p.tell(nil, 0)
		}
		select {
		case <-ctx.Done():
			return true, context.Cause(ctx)
		case <-time.After(otherInterval):
		}
	}
}

func (p *pass) setOthers(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.others = max(p.others, n)
}

// outcome is the result for a page.
type outcome struct {
	changes     []change
	indexed     int64 // changes for a blind index only
	renamed     int64 // changes that replace something under an earlier name
	shredded    int64
	quarantined []Quarantined
}

// add computes a row's new values.
func (o *outcome) add(p *pass, r row, keys map[string]tenantkey.Key) {
	c := change{row: r, cells: make([]cell, len(r.values))}
	for i, column := range p.table.columns {
		var err error
		if c.cells[i], err = p.cell(r, i, column, keys); err != nil {
			o.quarantined = append(o.quarantined, Quarantined{p.table.label(), column.Name, r.id, err})
		}
		if c.cells[i].shredded {
			o.shredded++
		}
		if c.cells[i].own {
			c.under = sql.NullString{String: keys[r.tenant.String].Wrapped, Valid: true}
		}
	}
	if changed, onlyIndex := c.changes(); changed {
		o.changes = append(o.changes, c)
		if onlyIndex {
			o.indexed++
		}
		if slices.ContainsFunc(c.cells, func(cell cell) bool { return cell.renamed }) {
			o.renamed++
		}
	}
}

// cell computes the new value of a column of a row.
func (p *pass) cell(r row, i int, column column.Column, keys map[string]tenantkey.Key) (c cell, err error) {
	stored, place := r.value(i), seal.Place{Column: column, Tenant: r.tenant}
	if p.isOfKeys() {
		return p.wrappedCell(stored, r.tenant.String)
	}
	of, err := p.keysAt(stored, place, keys)
	if err != nil {
		return cell{}, err
	}
	if of.shredded && r.isWaiting(i) { // its token column is still empty
		return cell{}, fernet.ErrNotEncrypted
	}
	if of.shredded {
		return p.shreddedCell(stored, place, r.indexes[i])
	}
	if stored.Valid {
		from, err := p.table.original(r, i, p.store)
		if err != nil {
			return cell{}, err
		}
		result, err := p.operation.rewrite(&p.cfg, of.ring, from, place)
		if err != nil {
			return cell{}, err
		}
		// A token stored by a client among the plaintext moves to the token
		// column.
		result.changed = result.changed || r.isWaiting(i)
		if result.changed {
			stored = sql.NullString{String: result.value, Valid: true}
			c = cell{changed: true, value: stored, bound: result.bound || of.own}
		}
	}
	c.renamed, c.own = p.isRenamed(of.ring, r, i, place), of.own && c.changed
	if column.Index == "" {
		return c, nil
	}
	if c.index, err = p.index(of.ring, stored, place); err != nil {
		return cell{}, err
	}
	c.changed = c.changed || c.index != r.indexes[i]
	c.own = of.own && c.changed
	return c, nil
}

// changes reports whether the row must be written, and whether only for a blind
// index.
func (c change) changes() (any, onlyIndex bool) {
	onlyIndex = true
	for _, cell := range c.cells {
		any = any || cell.changed
		onlyIndex = onlyIndex && !cell.value.Valid
	}
	return any, any && onlyIndex
}

// rewrite re-encrypts and writes a page. It returns the transactions with
// rows that need no second look.
func (p *pass) rewrite(ctx context.Context, page []row) (counts ledger.Counts, own []int64, err error) {
	var keys map[string]tenantkey.Key
	err = p.retry(ctx, p.tell, func() (err error) {
		keys, err = p.keysOf(ctx, page)
		return err
	})
	if err != nil {
		return ledger.Counts{}, nil, err
	}
	var o outcome
	for _, r := range page {
		o.add(p, r, keys)
	}
	if err := p.quarantined(o.quarantined); err != nil { // before writing the page, which may fail
		return ledger.Counts{}, nil, err
	}
	changes, quarantined := o.changes, o.quarantined
	written, found, stuck := int64(len(changes)), int64(len(changes)), int64(0)
	if len(changes) > 0 && !p.cfg.DryRun {
		w := &writing{pass: p, rest: changes}
		if err := w.do(ctx); err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.rewritten += w.written // kept even though its page isn't finished
			return ledger.Counts{}, nil, err
		}
		written, stuck, own = w.written, w.stuck, w.own
		refused := w.refused
		found -= int64(len(refused))
		for _, r := range refused {
			for i, cell := range r.cells {
				if cell.changed {
					quarantined = append(quarantined,
						Quarantined{p.table.label(), p.table.columns[i].Name, r.id, r.err})
				}
			}
		}
	}
	p.mu.Lock()
	p.read += int64(len(page))
	p.rewritten += written
	p.indexed += min(o.indexed, written)
	p.renamed += min(o.renamed, written)
	p.skipped += found - written
	p.shredded += o.shredded
	p.left.add(quarantined...)
	p.mu.Unlock()
	p.tell(nil, 0)
	if err := p.quarantined(quarantined[len(o.quarantined):]); err != nil {
		return ledger.Counts{}, nil, err
	}
	if !p.table.heap {
		stuck = found - written
	}
	return ledger.Counts{
		Read: int64(len(page)), Found: found, Skipped: stuck,
		Quarantined: int64(len(quarantined)),
	}, own, nil
}

// tell reports the pass's progress and what it waits for.
func (p *pass) tell(waiting error, pause time.Duration) {
	if p.cfg.Progress == nil {
		return
	}
	p.telling.Lock()
	defer p.telling.Unlock()
	p.mu.Lock()
	progress := Progress{
		Table: p.table.label(), Pass: p.number, Read: p.read + p.others, Total: max(p.total, p.read+p.others),
		Rewritten: p.before + p.rewritten, Elapsed: time.Since(p.start),
		Batch: p.pace.rows(), Waiting: waiting, Pause: pause,
	}
	p.mu.Unlock()
	p.cfg.Progress(progress)
}
