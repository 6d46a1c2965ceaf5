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

// A table is divided into parts of pagesPerPart pages. There are at least
// partsPerWorker parts for each worker, of this and other processes, if there
// are enough pages, and at most maxParts.
const (
	pagesPerPart   = 20
	partsPerWorker = 4
	fewWorkers     = 4
	maxParts       = 512
)

// book tracks who has claimed a table's parts and how far they are. Package
// ledger implements it.
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

// work is an operation on one table. It makes passes until a pass that began
// after the work did finds nothing to do.
//
// The first two passes read every row, the second because somebody may have
// written behind the first. Later passes read only the rows written since the
// previous pass began, if the database can tell and that pass skipped no row.
// So does the first pass of a run that continues another run's work. A plain
// Postgres table is read once in heap order, and the later passes are
// snapshots; see heap.go.
type work struct {
	*run
	table  table
	book   book
	stored bool   // the book is in the database
	goal   string // for a stored book
	need   int    // the first pass that may be the last
	rows   int64  // rows in the table at the start
	result *TableReport
	whole  bool     // this run has made a whole pass
	own    int64    // values quarantined by this run in the last pass
	ids    []string // key IDs at the start
	anew   bool     // ignore the book's progress
}

// table makes passes over a table until one finds nothing to do.
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
		// Somebody deleted the positions or their table. Start over without
		// them; rows already rewritten only cost a read.
		if w.book = nil; w.result.Passes >= maxPasses {
			return w.notDone()
		}
	}
}

// isLost reports whether the positions were lost.
func isLost(err error) bool {
	const undefinedTable = "42P01"
	return errors.Is(err, ledger.ErrLost) || err != nil && strings.Contains(err.Error(), ledger.Table) &&
		(dberror.State(err) == undefinedTable || strings.Contains(err.Error(), "no such table"))
}

func (w *work) notDone() error { return fmt.Errorf("%w: %s", ErrNotDone, w.advice) }

// passes starts or continues the work.
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

// stands reports whether the current pass's scope is still valid: the rows
// written since a horizon, or the blocks of a heap.
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

// isLast reports whether a pass has left nothing to do. In heap order, only a
// snapshot can show that, and only if its table and server are still the same.
func (w *work) isLast(state ledger.State, now horizon) bool {
	if state.Counts.Found > 0 || state.Pass < w.need || !w.table.heap {
		return state.Counts.Found == 0 && state.Pass >= w.need
	}
	from, err := parseHorizon(state.Since)
	return err == nil && from.isSeenFrom(now)
}

// since returns the horizon since which the next pass has to read rows; ""
// means all rows.
func (w *work) since(state ledger.State, now horizon) string {
	began, err := parseHorizon(state.Began)
	if err != nil || !began.isSeenFrom(now) || state.Counts.Skipped > 0 || w.isAll(state) {
		w.result.ChangedSince = time.Time{}
		return ""
	}
	took := w.table.heap && state.Since == "" && w.result.Passes > 0 // this run took part in the heap pass
	if state.Pass < w.need && !w.whole && !took {
		w.result.ChangedSince = began.at
	}
	return state.Began
}

// isAll reports whether the next pass must read all rows: each run reports the
// secrets that can't be opened, and retries values that were refused once.
func (w *work) isAll(state ledger.State) bool {
	c := state.Counts
	if w.table.heap {
		return state.Pass < w.need && (c.Quarantined > 0 || !w.table.isDescribed()) ||
			state.Pass == w.need && state.Since == "" && c.Found > 0 && c.Quarantined > 0
	}
	return c.Quarantined > 0 || state.Pass < 2 && c.Found > 0 || !w.table.isDescribed()
}

// errOther means that a table was replaced by another kind of table.
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

// open finds the work's book, and reads its state.
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

// choose chooses the order of reading the table and the place of the book. A
// snapshot needs a connection besides the one that writes.
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

// forgetIfOther deletes the work's positions if its goal has changed. If the
// keyring was replaced meanwhile, the work starts over, because no snapshot
// contains what the run wrote before.
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

// keyIDs returns the IDs of the keyring's keys, primary key first.
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

// divideTable returns the last keys of a table's parts except the last one, for
// at most the given number of workers.
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

// countRows counts the table's rows, for dividing it and for the progress. The
// query may take long, so the run continues if it is cancelled.
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

// pass continues the current pass.
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
