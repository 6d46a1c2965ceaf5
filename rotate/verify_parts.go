package rotate

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// tally is the shared progress of a verification's workers.
type tally struct{ read, total atomic.Int64 }

// do counts the table in heap order if possible, and otherwise in key order.
//
// A verification that reports quarantined secrets uses key order, because it
// must continue where it was even if a snapshot is lost. So does a rate-limited
// one, because it would keep a snapshot open for long.
func (v *verifier) do(ctx context.Context) error {
	var bounds []any
	var m *moment
	err := v.retry(ctx, v.tell, func() error {
		rows, err := v.countTable(ctx, v.table)
		if v.total.Store(rows); err != nil {
			return err
		}
		bounds, err = v.divideTable(ctx, v.table, rows, v.cfg.Workers)
		if err == nil && rows > int64(v.cfg.Batch) && v.cfg.Quarantine == nil && v.cfg.RowsPerSecond <= 0 {
			m, err = v.store.moment(ctx, v.table)
		}
		return err
	})
	if err != nil {
		return err
	}
	if m != nil {
		t := v.table
		t.heap, t.extra = true, []string{rowTID: "t.ctid"}
		if err := m.end(v.parts(ctx, t, m.spans(len(bounds)+1))); !errors.Is(err, errMomentGone) {
			return err
		}
		v.read.Store(0)
	}
	var spans []span
	var after any
	for _, bound := range append(bounds, nil) {
		spans = append(spans, span{after: after, upTo: bound})
		after = bound
	}
	return v.parts(ctx, v.table, spans)
}

// parts counts the table's parts concurrently, and adds them up in order.
func (v *verifier) parts(ctx context.Context, t table, spans []span) error {
	parts := make([]*verifier, len(spans))
	for i := range parts {
		parts[i] = &verifier{run: v.run, primary: v.primary, table: t, tally: v.tally, at: spans[i].moment}
		parts[i].begin()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		workers sync.WaitGroup
		next    atomic.Int64
	)
	for range min(v.cfg.Workers, len(parts)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(parts)); i = next.Add(1) - 1 {
				if err := parts[i].part(ctx, spans[i]); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	v.columns = parts[0].columns
	for _, part := range parts[1:] {
		for i := range v.columns {
			v.columns[i].merge(&part.columns[i])
		}
	}
	return nil
}

// part counts a part, and reads the next page while it counts the current one.
func (v *verifier) part(ctx context.Context, s span) error {
	return v.eachPage(ctx, v.tell, v.table, s, func(ctx context.Context, page []row) error {
		if err := v.add(ctx, page); err != nil {
			return err
		}
		v.read.Add(int64(len(page)))
		v.tell(nil, 0)
		return nil
	})
}

// eachPage calls f for each page of a span while it reads the next one. Each
// page starts where the previous one ended, whatever is inserted or deleted
// meanwhile.
func (r *run) eachPage(ctx context.Context, tell teller, t table, s span, f func(context.Context, []row) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel(nil)
	pages := make(chan []row)
	reading.Go(func() {
		defer close(pages)
		if err := r.readPages(ctx, tell, t, s, pages); err != nil {
			cancel(err)
		}
	})
	for page := range pages {
		if err := f(ctx, page); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
	}
	return context.Cause(ctx)
}

func (r *run) readPages(ctx context.Context, tell teller, t table, s span, pages chan<- []row) error {
	for {
		page, rest, more, err := r.readPage(ctx, tell, t, s)
		if err != nil {
			return err
		}
		if err := r.limit.WaitN(ctx, len(page)); err != nil {
			return err
		}
		if len(page) > 0 {
			select {
			case pages <- page:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if !more {
			return nil
		}
		s = rest
	}
}

// tell reports the progress and what the verifier waits for.
func (v *verifier) tell(waiting error, pause time.Duration) {
	if v.cfg.Progress == nil {
		return
	}
	v.telling.Lock()
	defer v.telling.Unlock()
	read := v.read.Load()
	v.cfg.Progress(Progress{
		Table: v.table.label(), Read: read, Total: max(v.total.Load(), read), Elapsed: time.Since(v.start),
		Batch: v.pace.rows(), Waiting: waiting, Pause: pause,
	})
}

// merge adds the counts of a later part of the table.
func (c *ColumnCount) merge(part *ColumnCount) {
	for _, n := range []struct{ to, from *int64 }{
		{&c.Rows, &part.Rows},
		{&c.Null, &part.Null},
		{&c.Bound, &part.Bound},
		{&c.Earlier, &part.Earlier},
		{&c.Primary, &part.Primary},
		{&c.Tenant, &part.Tenant},
		{&c.Shredded, &part.Shredded},
		{&c.Readable, &part.Readable},
		{&c.UnknownKey, &part.UnknownKey},
		{&c.NotEncrypted, &part.NotEncrypted},
		{&c.Damaged, &part.Damaged},
		{&c.OverLength, &part.OverLength},
		{&c.Undecodable, &part.Undecodable},
	} {
		*n.to += *n.from
	}
	mergeKeys(c.Previous, part.Previous)
	c.UndecodableRows = append(c.UndecodableRows,
		part.UndecodableRows[:min(len(part.UndecodableRows), maxSamples-len(c.UndecodableRows))]...)
	for _, one := range part.Examples {
		c.Examples = addExample(c.Examples, one)
	}
	if c.Index != nil {
		c.Index.merge(part.Index)
	}
}

func (c *IndexCount) merge(part *IndexCount) {
	c.Primary += part.Primary
	c.Tenant += part.Tenant
	c.Earlier += part.Earlier
	c.Missing += part.Missing
	c.Wrong += part.Wrong
	c.Outlives += part.Outlives
	mergeKeys(c.Previous, part.Previous)
}

func mergeKeys(to, from map[string]int64) {
	for id, n := range from {
		to[id] += n
	}
}
