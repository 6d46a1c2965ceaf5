package rotate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/ledger"
	"github.com/credent-go/credent/internal/retry"
)

// A table is divided into parts of so many pages, but into so many parts for
// each worker, of this process or of several, if there are as many pages, and
// into no more than so many.
const (
	pagesPerPart   = 20
	partsPerWorker = 4
	fewWorkers     = 4
	maxParts       = 512
)

// book is where a table's parts are claimed, and where it is recorded how far
// they are: one of package ledger's.
type book interface {
	Open(ctx context.Context, plan func() (ledger.Plan, error)) (state ledger.State, existed bool, err error)
	State(ctx context.Context) (ledger.State, error)
	Claim(ctx context.Context, worker, pass int) (ledger.Part, bool, error)
	Save(ctx context.Context, worker int, p ledger.Part, release bool) (held bool, err error)
	Finish(ctx context.Context, worker int, p ledger.Part) (held bool, err error)
	Next(ctx context.Context, from int, since, began string) error
	NextWhole(ctx context.Context, from int, since, began string) error
	Positions(ctx context.Context) ([]string, error)
	Leave(ctx context.Context) error
	Drop(ctx context.Context) error
}

// work is an operation on one table: passes over it until one finds nothing to
// do that began after the work did.
//
// The first two passes read every row, the second because somebody may have
// written behind the first. Where the database can say which rows were written
// since a pass began, and that pass left no row as it was, the passes after
// that, and the first one of a run that finds the work of another, read only
// these rows. A plain table is gone through in the order of its heap, once, and
// the passes after that are snapshots; see heap.go.
type work struct {
	*run
	table  table
	book   book
	stored bool   // the book is in the database
	goal   string // of a stored book
	need   int    // the first pass that can be the last
	rows   int64  // that the table had
	result *TableReport
	whole  bool     // this run has gone through a whole pass
	own    int64    // values that the last pass has quarantined in this run
	ids    []string // of the keys that it began with
	anew   bool     // it leaves alone what is in the book
}

// table goes through a table until a pass finds nothing to do.
func (r *run) table(ctx context.Context, t table) (*TableReport, error) {
	w := &work{run: r, table: t, anew: r.cfg.FromStart, result: &TableReport{
		Table:   t.label(),
		Columns: t.columnNames(),
	}}
	return w.result, w.do(ctx)
}

func (w *work) do(ctx context.Context) error {
	if err := w.countRows(ctx); err != nil {
		return err
	}
	for {
		err := w.passes(ctx)
		if !isLost(err) {
			return err
		}
		// Somebody deleted the positions, or their table. Without them it's
		// from the beginning, and what is done costs a read.
		if w.book = nil; w.result.Passes >= maxPasses {
			return w.notDone()
		}
	}
}

// isLost reports whether the positions are gone.
func isLost(err error) bool {
	const undefinedTable = "42P01"
	return errors.Is(err, ledger.ErrLost) || err != nil && strings.Contains(err.Error(), ledger.Table) &&
		(dberror.State(err) == undefinedTable || strings.Contains(err.Error(), "no such table"))
}

func (w *work) notDone() error { return fmt.Errorf("%w: %s", ErrNotDone, w.advice) }

// passes goes on with the work, or begins it.
func (w *work) passes(ctx context.Context) error {
	state, err := w.open(ctx)
	if err != nil {
		return err
	}
	for {
		now, err := w.now(ctx)
		if err != nil {
			return err
		}
		stands, err := w.stands(state, now)
		if err != nil {
			return err
		}
		switch {
		case state.Left > 0 && !stands:
			err = w.next(ctx, state.Pass, "", now.String())
		case state.Left > 0:
			err = w.pass(ctx, state)
		case w.isLast(state, now), w.cfg.DryRun:
			w.result.QuarantinedByOthers = max(0, state.Counts.Quarantined-w.own)
			return w.forgetIfOther(ctx)
		case w.result.Passes >= maxPasses:
			return w.notDone()
		default:
			err = w.next(ctx, state.Pass, w.since(state, now), now.String())
		}
		if err != nil {
			return err
		}
		if state, err = w.state(ctx); err != nil {
			return err
		}
	}
}

// stands reports whether the pass under way is still about what it was when it
// began: the rows since a moment, or the blocks of a heap.
func (w *work) stands(state ledger.State, now horizon) (bool, error) {
	text := state.Since
	if text == "" && w.table.heap {
		text = state.Began
	}
	from, err := parseHorizon(text)
	if err != nil {
		return false, ledger.ErrLost
	}
	return text == "" || from.isSeenFrom(now), nil
}

// isLast reports whether nothing is left to do after a pass. In the order of a
// heap only a snapshot says that, and only if it was still about the table and
// the server that it began with.
func (w *work) isLast(state ledger.State, now horizon) bool {
	if state.Counts.Found > 0 || state.Pass < w.need || !w.table.heap {
		return state.Counts.Found == 0 && state.Pass >= w.need
	}
	from, err := parseHorizon(state.Since)
	return err == nil && from.isSeenFrom(now)
}

// since returns from when on the next pass has to look at rows; "" means at all
// of them.
func (w *work) since(state ledger.State, now horizon) string {
	began, err := parseHorizon(state.Began)
	if err != nil || !began.isSeenFrom(now) || state.Counts.Skipped > 0 || w.isAll(state) {
		w.result.ChangedSince = time.Time{}
		return ""
	}
	took := w.table.heap && state.Since == "" && w.result.Passes > 0 // this run, part in the pass over the heap
	if state.Pass < w.need && !w.whole && !took {
		w.result.ChangedSince = began.at
	}
	return state.Began
}

// isAll reports whether the pass after this one is about all rows in any case.
// The report of each run has what can't be opened, and what was refused once is
// tried once more.
func (w *work) isAll(state ledger.State) bool {
	c := state.Counts
	if w.table.heap {
		return state.Pass < w.need && (c.Quarantined > 0 || !w.table.isDescribed()) ||
			state.Pass == w.need && state.Since == "" && c.Found > 0 && c.Quarantined > 0
	}
	return c.Quarantined > 0 || state.Pass < 2 && c.Found > 0 || !w.table.isDescribed()
}

// errOther means that a table is no more what it was.
var errOther = errors.New("it was changed to another kind of table meanwhile: run it again")

func (w *work) now(ctx context.Context) (now horizon, err error) {
	if w.cfg.DryRun {
		return horizon{}, nil
	}
	err = w.retryTable(ctx, w.table, func() (err error) {
		now, err = w.store.horizon(ctx, w.table)
		return err
	})
	if err == nil && w.table.heap && !now.inHeap() {
		err = errOther
	}
	return now, err
}

func (w *work) next(ctx context.Context, from int, since, began string) error {
	return w.retryTable(ctx, w.table, func() error {
		if w.table.heap && since != "" {
			return w.book.NextWhole(ctx, from, since, began)
		}
		return w.book.Next(ctx, from, since, began)
	})
}

func (w *work) state(ctx context.Context) (state ledger.State, err error) {
	err = w.retryTable(ctx, w.table, func() (err error) {
		state, err = w.book.State(ctx)
		return err
	})
	return state, err
}

// open finds the book of the work, and a place in it.
func (w *work) open(ctx context.Context) (state ledger.State, err error) {
	err = w.retryTable(ctx, w.table, func() error {
		if err := w.choose(ctx); err != nil {
			return err
		}
		var existed bool
		state, existed, err = w.book.Open(ctx, func() (ledger.Plan, error) { return w.plan(ctx) })
		if w.need = 1; existed {
			w.need = state.Pass + 1
		}
		return err
	})
	w.anew = w.anew && err != nil
	return state, err
}

// choose chooses the order in which the table is gone through, and where the
// book is. A snapshot has a connection while another one writes.
func (w *work) choose(ctx context.Context) (err error) {
	w.ids = w.keyIDs()
	if !w.cfg.DryRun && !w.table.heap && w.db.Stats().MaxOpenConnections != 1 {
		now, err := w.store.horizon(ctx, w.table)
		if err != nil {
			return err
		}
		if now.inHeap() {
			w.table = w.table.asHeap()
		}
	}
	sqlite := w.store.dialect() == dialect.SQLite
	if w.stored = false; !w.cfg.DryRun {
		if w.stored, err = ledger.Usable(ctx, w.db, sqlite); err != nil {
			return err
		}
	}
	if !w.stored {
		w.book = new(ledger.Memory)
		return nil
	}
	if w.goal, err = w.goalOf(ctx, w.table); err != nil {
		return err
	}
	w.book = ledger.NewStored(w.db, sqlite, w.goal, w.table.label())
	if w.anew {
		return w.book.Drop(ctx)
	}
	return nil
}

// forgetIfOther forgets the work if it was not for what it began with. If the
// keyring was replaced meanwhile, it starts over: no snapshot has what the run
// wrote before.
func (w *work) forgetIfOther(ctx context.Context) error {
	if w.stored {
		err := w.retryTable(ctx, w.table, func() error {
			now, err := w.goalOf(ctx, w.table)
			if err == nil && now != w.goal {
				err = w.book.Drop(ctx)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if w.table.heap && !slices.Equal(w.ids, w.keyIDs()) {
		return ledger.ErrLost
	}
	return nil
}

// keyIDs returns the IDs of the keyring's keys, the primary key's first.
func (r *run) keyIDs() (ids []string) {
	for _, key := range r.ring.Keys() {
		ids = append(ids, key.ID())
	}
	return ids
}

// plan divides the table.
func (w *work) plan(ctx context.Context) (plan ledger.Plan, err error) {
	if !w.cfg.DryRun {
		now, err := w.store.horizon(ctx, w.table)
		if err != nil {
			return ledger.Plan{}, err
		}
		plan.Began = now.String()
	}
	keys, err := w.divideTable(ctx, w.table, w.rows, w.store.maxWorkers())
	for _, key := range keys {
		text, err := encodeKey(key)
		if err != nil {
			return ledger.Plan{}, err
		}
		plan.Bounds = append(plan.Bounds, text)
	}
	return plan, err
}

// divideTable returns the last keys of a table's parts but for the last part,
// for at most so many workers.
func (r *run) divideTable(ctx context.Context, t table, rows int64, most int) ([]any, error) {
	pages := int(rows) / r.cfg.Batch
	parts := min(max(pages/pagesPerPart, partsPerWorker*max(r.cfg.Workers, fewWorkers)), pages, maxParts)
	if most <= 1 || parts <= 1 {
		return nil, nil
	}
	if t.heap {
		return divideHeap(parts), nil
	}
	return r.store.divide(ctx, t, rows, parts)
}

// countRows finds out how many rows the table has, for its parts and for the
// progress. It is a query that takes long, so one that is ended is no reason to
// stop.
func (w *work) countRows(ctx context.Context) error {
	return w.retryTable(ctx, w.table, func() (err error) {
		w.rows, err = w.countTable(ctx, w.table)
		return err
	})
}

func (r *run) countTable(ctx context.Context, t table) (n int64, err error) {
	if n, err = r.store.count(ctx, t); retry.KindOf(err) == retry.Timeout && ctx.Err() == nil {
		return 0, nil
	}
	return n, err
}

// pass goes on with the pass under way.
func (w *work) pass(ctx context.Context, state ledger.State) error {
	result := w.result
	result.Passes++
	p := &pass{
		work: w, state: state, number: result.Passes, before: result.Rewritten, total: w.rows,
		others: state.Others,
	}
	err := p.do(ctx)
	switch {
	case state.Since == "":
		result.Rows, result.Others, result.Shredded = p.read, p.others, p.shredded
		result.leave(p.left)
		w.whole = state.Counts.Read == 0
	case !w.whole || w.table.heap:
		result.Rows += p.read
		result.Others += p.others
		result.Shredded += p.shredded
		fallthrough
	default:
		result.leaveMore(p.left)
	}
	if w.own = p.left.n + w.own; state.Since == "" || !w.table.heap {
		w.own = p.left.n
	}
	result.Rewritten += p.rewritten
	result.Indexed += p.indexed
	result.Renamed += p.renamed
	result.Skipped += p.skipped
	return err
}
