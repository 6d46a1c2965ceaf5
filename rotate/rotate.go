// Package rotate re-encrypts what is stored, so that an old key can be retired. [Run] rewrites every token that is not
// under the keyring's primary key, in every encrypted column that the process knows, while services read and write the
// same rows; [Verify] counts which keys the stored tokens need.
//
// A key is replaced in this order: all readers get the new key as an additional one; then all writers get it as the
// primary; then Run, until Verify finds nothing but the primary key; then the old key is removed.
package rotate

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// Errors to be tested with errors.Is.
var (
	// ErrQuarantined means that some tokens could not be opened. They are in the report and were left as they are.
	ErrQuarantined = errors.New("some secrets could not be opened and were left as they are")

	// ErrNotDone means that after all passes there are still tokens under an earlier key, since others keep writing them.
	ErrNotDone = errors.New("others keep writing under an earlier key: make the new key their primary one first")
)

// Limits and defaults.
const (
	// DefaultBatch is the number of rows in a page, which is read and written at once.
	DefaultBatch = 1000
	// DefaultWorkers is the number of pages that are re-encrypted and written at the same time, each on a connection.
	DefaultWorkers = 2
	// maxPasses bounds how often the whole table is gone through. Each pass takes what concurrent writers made the one
	// before skip; the last finds nothing.
	maxPasses = 20
)

// Config says how [Run] goes about it. Zero values mean the defaults.
type Config struct {
	// Batch is the number of rows in a page.
	Batch int
	// Workers is the number of pages at the same time. SQLite has one in any case.
	Workers int
	// RowsPerSecond limits how many rows are read in a second; 0 means no limit.
	RowsPerSecond int
	// DryRun counts what would be rewritten and writes nothing.
	DryRun bool
	// Progress is called after each page, from one goroutine at a time; nil for none.
	Progress func(Progress)
}

// Progress says how far a pass over a table is.
type Progress struct {
	Table     string
	Pass      int           // from 1
	Read      int64         // rows read in this pass
	Total     int64         // rows that the table had when the pass began
	Rewritten int64         // rows rewritten in this run
	Elapsed   time.Duration // since the run began
}

// Report is what a run did.
type Report struct {
	Tables []TableReport
	DryRun bool
}

// TableReport is what a run did in one table.
type TableReport struct {
	Table   string
	Columns []string
	// Rows is the number of rows read in the last pass.
	Rows int64
	// Rewritten is the number of rows written, or with DryRun that would be.
	Rewritten int64
	// Skipped is the number of writes that found the row changed by another; they were tried again in the next pass.
	Skipped int64
	Passes  int
	// Quarantined lists the tokens that could not be opened, in the order of rows.
	Quarantined []Quarantined
}

// Quarantined is a token that could not be opened.
type Quarantined struct {
	Column string
	Row    string // primary key
	Err    error  // fieldcrypt's ErrNotEncrypted, ErrCorrupt or ErrUnknownKey
}

// Rewritten is the number of rows rewritten in all tables.
func (r *Report) Rewritten() int64 {
	var n int64
	for _, t := range r.Tables {
		n += t.Rewritten
	}
	return n
}

// Run rewrites every token that is not under the primary key of the keyring. Each write replaces the very token that was
// read: a row that another changed in between is left alone and looked at again. Nothing else of a row is changed, no hook
// is run, and updated_at stays. The role must own the tables, or not be bound by their row-level security.
//
// A run can be stopped at any moment, by the context or by force, and started again: it keeps no state, and a token that
// is under the primary key already costs a read. When the context ends, the report has what was done until then. Errors:
// [ErrQuarantined], with the tokens in the report, [ErrNotDone], and those of the database.
func Run(ctx context.Context, db *sql.DB, ring *fieldcrypt.Keyring, cfg Config) (*Report, error) {
	if ring.Primary() == nil {
		return nil, fmt.Errorf("rotate: %w", fieldcrypt.ErrNoKey)
	}
	if cfg.Batch <= 0 {
		cfg.Batch = DefaultBatch
	}
	if cfg.Workers <= 0 {
		cfg.Workers = DefaultWorkers
	}
	tables, store, err := open(ctx, db)
	if err != nil {
		return nil, err
	}
	report := &Report{DryRun: cfg.DryRun}
	r := &run{ring: ring, cfg: cfg, store: store, start: time.Now(), limit: rate.NewLimiter(rate.Inf, cfg.Batch)}
	if cfg.RowsPerSecond > 0 {
		r.limit.SetLimit(rate.Limit(cfg.RowsPerSecond))
	}
	var errs []error
	for _, t := range tables {
		result, err := r.table(ctx, t)
		report.Tables = append(report.Tables, *result)
		if err != nil {
			errs = append(errs, fmt.Errorf("rotate: %s: %w", t.name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return report, errors.Join(errs...)
}

// run is one call of Run.
type run struct {
	ring  *fieldcrypt.Keyring
	cfg   Config
	store store
	start time.Time
	limit *rate.Limiter
}

// table goes through a table until a pass finds nothing to do.
func (r *run) table(ctx context.Context, t table) (*TableReport, error) {
	result := &TableReport{Table: t.name, Columns: t.columns}
	for result.Passes < maxPasses {
		result.Passes++
		p := &pass{run: r, table: t, number: result.Passes, before: result.Rewritten}
		err := p.do(ctx)
		result.Rows = p.read
		result.Rewritten += p.rewritten
		result.Skipped += p.skipped
		result.Quarantined = p.quarantined
		slices.SortFunc(result.Quarantined, func(a, b Quarantined) int {
			return cmp.Or(strings.Compare(a.Row, b.Row), strings.Compare(a.Column, b.Column))
		})
		if err != nil {
			return result, err
		}
		if p.found == 0 || r.cfg.DryRun {
			if len(result.Quarantined) > 0 {
				return result, fmt.Errorf("%w: %d", ErrQuarantined, len(result.Quarantined))
			}
			return result, nil
		}
	}
	return result, ErrNotDone
}

// pass goes through a table once: one goroutine reads pages, the workers re-encrypt and write them.
type pass struct {
	*run
	table  table
	number int
	before int64 // rows rewritten in earlier passes
	total  int64

	mu          sync.Mutex
	read        int64
	found       int64 // rows with something to rewrite
	rewritten   int64
	skipped     int64
	quarantined []Quarantined
}

func (p *pass) do(ctx context.Context) error {
	var err error
	if p.total, err = p.store.count(ctx, p.table); err != nil {
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
	err = p.readPages(ctx, pages)
	close(pages)
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// readPages reads the table in the order of its primary key, so that each page begins where the one before ended, whatever
// is inserted or deleted meanwhile.
func (p *pass) readPages(ctx context.Context, pages chan<- []row) error {
	var last string
	for {
		if err := p.limit.WaitN(ctx, p.cfg.Batch); err != nil {
			return err
		}
		page, err := p.store.page(ctx, p.table, last, p.cfg.Batch)
		if err != nil {
			return err
		}
		if len(page) > 0 {
			select {
			case pages <- page:
			case <-ctx.Done():
				return ctx.Err()
			}
			last = page[len(page)-1].id
		}
		if len(page) < p.cfg.Batch {
			return nil
		}
	}
}

// rewrite re-encrypts what is to be re-encrypted in a page, and writes it.
func (p *pass) rewrite(ctx context.Context, page []row) error {
	var (
		changes     []change
		quarantined []Quarantined
	)
	for _, row := range page {
		c := change{id: row.id, old: row.tokens, new: make([]sql.NullString, len(row.tokens))}
		changed := false
		for i, token := range row.tokens {
			if !token.Valid {
				continue
			}
			newToken, isNew, err := p.ring.Reencrypt(token.String)
			if err != nil {
				quarantined = append(quarantined, Quarantined{Column: p.table.columns[i], Row: row.id, Err: err})
				isNew = false
			}
			if isNew {
				c.new[i] = sql.NullString{String: newToken, Valid: true}
				changed = true
			}
		}
		if changed {
			changes = append(changes, c)
		}
	}
	written := int64(len(changes))
	if len(changes) > 0 && !p.cfg.DryRun {
		var err error
		if written, err = p.store.write(ctx, p.table, changes); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read += int64(len(page))
	p.found += int64(len(changes))
	p.rewritten += written
	p.skipped += int64(len(changes)) - written
	p.quarantined = append(p.quarantined, quarantined...)
	if p.cfg.Progress != nil {
		p.cfg.Progress(Progress{
			Table: p.table.name, Pass: p.number, Read: p.read, Total: max(p.total, p.read),
			Rewritten: p.before + p.rewritten, Elapsed: time.Since(p.start),
		})
	}
	return nil
}
