package audit

import (
	"context"
	"time"

	"github.com/credent-go/credent/internal/auditrow"
	"github.com/credent-go/credent/internal/auditstore"
)

const (
	// batchRows and batchBytes limit a statement.
	batchRows  = 512
	batchBytes = 1 << 20
	// attempt limits a try, so that a hanging connection is abandoned. The
	// outcome of its commit doesn't matter, because the same rows are written
	// again.
	attempt    = 30 * time.Second
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second

	checkpointEach = time.Minute
	partitionsEach = 24 * time.Hour
)

// flusher writes the queue until the context ends or the chain is closed. Only
// the flusher appends to the chain, so its numbers have no gaps.
func (t *Trail) flusher(ctx context.Context) {
	defer close(t.done)
	tick := time.NewTicker(t.cfg.Flush)
	defer tick.Stop()
	told, made := time.Now(), time.Now()
	toldSeq := int64(0)
	for ctx.Err() == nil {
		select {
		case <-t.kick:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		t.mu.Lock()
		groups, links, ticket := t.take()
		closing := t.closed
		t.mu.Unlock()
		if len(groups)+len(links) > 0 {
			t.write(ctx, groups, links, ticket)
		}
		if t.cfg.OnCheckpoint != nil && ctx.Err() == nil && t.chain.Seq > toldSeq &&
			(closing || time.Since(told) >= checkpointEach) {
			told, toldSeq = time.Now(), t.chain.Seq
			t.tell()
		}
		if time.Since(made) >= partitionsEach {
			made = time.Now()
			auditstore.EnsurePartitions(ctx, t.db, t.dialect)
		}
	}
}

// tell passes the chain's head to OnCheckpoint.
func (t *Trail) tell() {
	keys, err := t.currentKeys()
	if err != nil {
		t.tellError(err)
		return
	}
	t.cfg.OnCheckpoint(newCheckpoint(keys, auditrow.Range{Writer: t.chain.Writer, To: t.chain.Seq, Hash: t.chain.Hash}))
}

// write appends to the chain, links first, because an entry with ActionClose is
// the last one. It retries until it succeeds or the context ends. Each batch
// frees room in the queue, but callers that wait for an entry wait for all of
// them.
func (t *Trail) write(ctx context.Context, groups []*group, links []auditrow.Link, ticket int64) {
	var keys *auditrow.Keys
	t.untilDone(ctx, func(context.Context) (err error) {
		keys, err = t.currentKeys()
		return err
	})
	var (
		batch []auditrow.Row
		bytes int
		count int // entries in the batch
	)
	flush := func() {
		if len(batch) == 0 {
			return
		}
		t.untilDone(ctx, func(ctx context.Context) error {
			return auditstore.Insert(ctx, t.db, t.dialect, batch)
		})
		if ctx.Err() == nil {
			t.mu.Lock()
			t.release(count)
			t.mu.Unlock()
		}
		batch, bytes, count = batch[:0], 0, 0
	}
	add := func(r auditrow.Row, entries int) {
		if ctx.Err() != nil {
			return
		}
		t.chain.Append(keys, &r)
		batch = append(batch, r)
		bytes += len(r.Row) + 512
		count += entries
		if len(batch) >= batchRows || bytes >= batchBytes {
			flush()
		}
	}
	if len(links) > 0 {
		for _, r := range auditrow.Lines(auditrow.Texts{Action: string(ActionLink)}, links) {
			add(r, int(r.Rows))
		}
	}
	for _, g := range groups {
		g.each(add)
	}
	flush()
	if ctx.Err() == nil {
		t.mu.Lock()
		t.written = ticket
		t.release(0)
		t.mu.Unlock()
	}
}

// untilDone calls a function until it succeeds or the context ends, with
// growing pauses.
func (t *Trail) untilDone(ctx context.Context, do func(ctx context.Context) error) {
	for pause := firstPause; ctx.Err() == nil; pause = min(2*pause, lastPause) {
		try, cancel := context.WithTimeout(ctx, attempt)
		err := do(try)
		cancel()
		t.mu.Lock()
		if t.err = err; err != nil {
			t.failed++
		}
		t.mu.Unlock()
		if err == nil {
			return
		}
		t.tellError(err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (t *Trail) tellError(err error) {
	if t.cfg.OnError != nil {
		t.cfg.OnError(named(err))
	}
}
