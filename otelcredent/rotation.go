package otelcredent

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/credent-go/credent/rotate"
)

// Rotation measures one run of package rotate. Its methods may be called by
// several goroutines.
type Rotation struct {
	m         *Metrics
	operation string
	start     time.Time

	ctx  context.Context //nolint:containedctx // the run's, for the spans of its passes
	span trace.Span

	mu    sync.Mutex
	last  map[string]rotate.Progress // by table
	table string                     // table of the current pass; "" for none
	pass  trace.Span                 // nil if there is none
	ended bool
}

// Rotation begins to measure a run, and its span. The operation names it in
// attributes: "rotate", "verify", "encrypt" or "decrypt". Pass the context to
// the run, so that its statements are below the span:
//
//	ctx, run := metrics.Rotation(ctx, "rotate")
//	cfg := rotate.Config{Progress: run.Progress, Quarantine: run.Quarantine}
//	report, err := rotate.Run(ctx, db, ring, cfg)
//	run.End(err)
//
// The span has one below it for each pass over a table. Pages have none: there
// may be a thousand per second.
func (m *Metrics) Rotation(ctx context.Context, operation string) (context.Context, *Rotation) {
	ctx, span := m.tracer.Start(ctx, "credent "+operation,
		trace.WithAttributes(attribute.String("credent.operation", operation)))
	r := &Rotation{
		m: m, operation: operation, start: time.Now(), ctx: ctx, span: span,
		last: make(map[string]rotate.Progress),
	}
	m.runsMu.Lock()
	m.runs[r] = struct{}{}
	m.runsMu.Unlock()
	return ctx, r
}

// Progress is [rotate.Config]'s.
func (r *Rotation) Progress(p rotate.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	if p.Waiting != nil {
		r.m.pauses.add(pauseKey{r.operation, cause(p.Waiting)}, 1)
		r.span.AddEvent("credent.pause", trace.WithAttributes(attribute.String("error.type", cause(p.Waiting)),
			attribute.Float64("credent.pause", p.Pause.Seconds())))
		return
	}
	before, known := r.last[p.Table]
	if !known || r.table != p.Table || before.Pass != p.Pass {
		r.endPass()
		r.table = p.Table
		_, r.pass = r.m.tracer.Start(r.ctx, "credent "+r.operation+" pass", trace.WithAttributes(
			attribute.String("credent.operation", r.operation), attribute.String("credent.table", p.Table),
			attribute.Int("credent.pass", p.Pass)))
	}
	if before.Pass != p.Pass {
		before.Read = 0
	}
	k := tableKey{r.operation, p.Table}
	r.m.read.add(k, max(0, p.Read-before.Read))
	r.m.rewritten.add(k, max(0, p.Rewritten-before.Rewritten))
	r.last[p.Table] = p
}

// Quarantine is [rotate.Config]'s, for a run that has no other. It counts the
// secrets that the run leaves, and returns nil.
func (r *Rotation) Quarantine(list []rotate.Quarantined) error {
	for _, q := range list {
		r.m.quarantined.add(secretKey{table: q.Table, column: q.Column, cause: cause(q.Err)}, 1)
	}
	return nil
}

// End ends the measurement and its spans, with the run's error. A second call
// does nothing.
func (r *Rotation) End(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.ended = true
	r.endPass()
	of := present("credent.operation", r.operation, "error.type", cause(err))
	if err != nil {
		r.span.SetStatus(codes.Error, cause(err)) // omits the text, which may name rows
		r.span.SetAttributes(of...)
	}
	r.span.End()
	r.m.duration.Record(r.ctx, time.Since(r.start).Seconds(), metric.WithAttributes(of...))
	r.m.runsMu.Lock()
	delete(r.m.runs, r)
	r.m.runsMu.Unlock()
}

// endPass ends the current pass's span.
func (r *Rotation) endPass() {
	if r.pass == nil {
		return
	}
	p := r.last[r.table]
	r.pass.SetAttributes(attribute.Int64("credent.rows.read", p.Read), attribute.Int64("credent.rows.total", p.Total))
	r.pass.End()
	r.pass = nil
}

// observeRuns reports the progress of unfinished runs to a collection.
func (m *Metrics) observeRuns(o metric.Observer) {
	m.runsMu.Lock()
	runs := slices.Collect(maps.Keys(m.runs))
	m.runsMu.Unlock()
	for _, r := range runs {
		r.observe(o)
	}
}

func (r *Rotation) observe(o metric.Observer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	for table, p := range r.last {
		of := metric.WithAttributes(tableKey{r.operation, table}.attributes()...)
		if p.Total > 0 {
			o.ObserveFloat64(r.m.shareGauge, float64(p.Read)/float64(p.Total), of)
		}
		o.ObserveInt64(r.m.observables["credent.rotate.pass"], int64(p.Pass), of)
		o.ObserveInt64(r.m.observables["credent.rotate.batch"], int64(p.Batch), of)
	}
}
