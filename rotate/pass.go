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
	"github.com/credent-go/credent/internal/retry"
)

// pass goes through a table once: one goroutine reads pages, the workers
// re-encrypt and write them.
type pass struct {
	*run
	table  table
	number int
	before int64 // rows rewritten in earlier passes
	total  int64

	mu        sync.Mutex
	read      int64
	found     int64 // rows with something to rewrite
	rewritten int64
	indexed   int64 // of these, for a blind index only
	renamed   int64 // of these, that had something under an earlier name
	skipped   int64
	shredded  int64
	left      quarantine
}

func (p *pass) do(ctx context.Context) error {
	if err := p.countRows(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pages := make(chan []row)
	var workers sync.WaitGroup
	for range min(p.cfg.Workers, p.store.maxWorkers()) {
		workers.Go(func() {
			for page := range pages {
				if err := p.rewrite(ctx, page); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := p.readPages(ctx, pages)
	close(pages)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// readPages reads the table in the order of its primary key, so that each page
// begins where the one before ended, whatever is inserted or deleted meanwhile.
func (p *pass) readPages(ctx context.Context, pages chan<- []row) error {
	var last any
	for {
		page, more, err := p.readPage(ctx, p.tell, p.table, last)
		if err != nil {
			return err
		}
		if err := p.limit.WaitN(ctx, len(page)); err != nil {
			return err
		}
		if len(page) > 0 {
			select {
			case pages <- page:
			case <-ctx.Done():
				return ctx.Err()
			}
			last = page[len(page)-1].key
		}
		if !more {
			return nil
		}
	}
}

// countRows finds out how many rows the table has, for the progress alone. It
// is a query that takes long, so one that is ended is no reason to stop.
func (p *pass) countRows(ctx context.Context) error {
	return p.retry(ctx, p.tell, func() (err error) {
		if p.total, err = p.store.count(ctx, p.table); retry.KindOf(err) == retry.Timeout && ctx.Err() == nil {
			return nil
		}
		return err
	})
}

// outcome is what becomes of a page.
type outcome struct {
	changes     []change
	indexed     int64 // of the changes, for a blind index only
	renamed     int64 // of the changes, that replace something under an earlier name
	shredded    int64
	quarantined []Quarantined
}

// add makes the new values of a row.
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

// cell makes what becomes of a column of a row.
func (p *pass) cell(r row, i int, column column.Column, keys map[string]tenantkey.Key) (c cell, err error) {
	stored, place := r.value(i), seal.Place{Column: column, Tenant: r.tenant}
	if p.isOfKeys() {
		return p.wrappedCell(stored, r.tenant.String)
	}
	of, err := p.keysAt(stored, place, keys)
	if err != nil {
		return cell{}, err
	}
	if of.shredded && r.isWaiting(i) { // no token is in its way yet
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
		// A token that a client stored among the plaintext moves to its place.
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

// changes reports whether the row is to be written, and whether only for a
// blind index.
func (c change) changes() (any, onlyIndex bool) {
	onlyIndex = true
	for _, cell := range c.cells {
		any = any || cell.changed
		onlyIndex = onlyIndex && !cell.value.Valid
	}
	return any, any && onlyIndex
}

// rewrite rewrites what is to be rewritten in a page, and writes it.
func (p *pass) rewrite(ctx context.Context, page []row) error {
	var keys map[string]tenantkey.Key
	err := p.retry(ctx, p.tell, func() (err error) {
		keys, err = p.keysOf(ctx, page)
		return err
	})
	if err != nil {
		return err
	}
	var o outcome
	for _, r := range page {
		o.add(p, r, keys)
	}
	if err := p.quarantined(o.quarantined); err != nil { // before its page, which may fail
		return err
	}
	changes, quarantined := o.changes, o.quarantined
	written, found := int64(len(changes)), int64(len(changes))
	if len(changes) > 0 && !p.cfg.DryRun {
		w := &writing{pass: p, rest: changes}
		if err := w.do(ctx); err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.rewritten += w.written // which stays, though its page is not done
			return err
		}
		written = w.written
		refused := w.refused
		found -= int64(len(refused))
		for _, r := range refused {
			for i, cell := range r.cells {
				if cell.changed {
					quarantined = append(quarantined, Quarantined{p.table.label(), p.table.columns[i].Name, r.id, r.err})
				}
			}
		}
	}
	p.mu.Lock()
	p.read += int64(len(page))
	p.found += found
	p.rewritten += written
	p.indexed += min(o.indexed, written)
	p.renamed += min(o.renamed, written)
	p.skipped += found - written
	p.shredded += o.shredded
	p.left.add(quarantined...)
	p.mu.Unlock()
	p.tell(nil, 0)
	return p.quarantined(quarantined[len(o.quarantined):])
}

// tell tells how far the pass is, and what it waits for.
func (p *pass) tell(waiting error, pause time.Duration) {
	if p.cfg.Progress == nil {
		return
	}
	p.telling.Lock()
	defer p.telling.Unlock()
	p.mu.Lock()
	progress := Progress{
		Table: p.table.label(), Pass: p.number, Read: p.read, Total: max(p.total, p.read),
		Rewritten: p.before + p.rewritten, Elapsed: time.Since(p.start),
		Batch: p.pace.rows(), Waiting: waiting, Pause: pause,
	}
	p.mu.Unlock()
	p.cfg.Progress(progress)
}
