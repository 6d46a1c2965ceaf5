package otelcredent_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/otelcredent"
	"github.com/credent-go/credent/rotate"
)

// newTraced returns an environment, and a recorder of ended spans.
func newTraced(t *testing.T) (*env, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	t.Cleanup(func() { _ = provider.Shutdown(context.WithoutCancel(t.Context())) })
	return newEnv(t, otelcredent.Config{TracerProvider: provider}), spans
}

// TestRotation rotates 25 rows, one of them damaged: the metrics are updated
// with each page, and there are spans for the run and its passes.
func TestRotation(t *testing.T) {
	t.Parallel()
	e, spans := newTraced(t)
	old := keyring.GenerateKey()
	var err error
	if e.ring, err = keyring.New(old); err != nil {
		t.Fatal(err)
	}
	client := e.client(credent.Config{})
	for range 25 {
		e.store(client, "user-1", "PK-1")
	}
	e.exec("UPDATE user_credentials SET api_key = 'gAAAAbroken' WHERE id = (SELECT min(id) FROM user_credentials)")
	next, err := keyring.New(keyring.GenerateKey(), old)
	if err != nil {
		t.Fatal(err)
	}
	const table = "credent.operation=rotate credent.table=user_credentials"
	ctx, run := e.Rotation(t.Context(), "rotate")
	if !trace.SpanContextFromContext(ctx).IsValid() {
		t.Error("the run's context has no span")
	}
	var shares []float64
	report, err := rotate.Run(ctx, e.db, next, rotate.Config{
		In: ent.EncryptedColumns(), Batch: 10, Workers: 1, Quarantine: run.Quarantine,
		Progress: func(p rotate.Progress) {
			run.Progress(p)
			if share, of := points(e.collect(), "credent.rotate.progress")[table]; of && p.Table == "user_credentials" {
				shares = append(shares, share)
			}
		},
	})
	run.End(err)
	run.End(nil) // has no effect
	if !errors.Is(err, rotate.ErrQuarantined) {
		t.Fatal(err)
	}
	if len(shares) < 3 || shares[0] <= 0 || shares[0] >= 1 || shares[len(shares)-1] != 1 {
		t.Errorf("progress: %v", shares)
	}
	got := points(e.collect(), "credent.rotate.rows.rewritten")[table]
	if got != float64(report.Rewritten()) || got != 25 {
		t.Errorf("rewritten: %v, and the report says %d", got, report.Rewritten())
	}
	if got := points(e.collect(), "credent.rotate.rows.read")[table]; got < 25 {
		t.Errorf("read: %v", got)
	}
	e.check("credent.rotate.quarantined", map[string]float64{apiKey + " error.type=corrupt": 1})
	e.check("credent.rotate.duration", map[string]float64{"credent.operation=rotate error.type=quarantined": 1})
	for _, name := range []string{"credent.rotate.progress", "credent.rotate.pass", "credent.rotate.batch"} {
		e.check(name, nil) // the run has ended
	}

	ended := spans.Ended()
	root := ended[len(ended)-1]
	if s := root.Status(); root.Name() != "credent rotate" || s.Code != codes.Error || s.Description != "quarantined" {
		t.Errorf("the run's span is %s, %v", root.Name(), s)
	}
	passes := 0
	for _, span := range ended[:len(ended)-1] {
		if span.Name() != "credent rotate pass" || span.Parent().SpanID() != root.SpanContext().SpanID() {
			t.Errorf("span %s below %s", span.Name(), span.Parent().SpanID())
		}
		for _, kv := range span.Attributes() {
			if kv.Key == "credent.table" && kv.Value.AsString() == "user_credentials" {
				passes++
			}
		}
	}
	if passes < 1 || passes > 5 {
		t.Errorf("%d spans of passes", passes)
	}
}

// TestPauses counts a run's pauses, and adds them to the span.
func TestPauses(t *testing.T) {
	t.Parallel()
	e, spans := newTraced(t)
	_, run := e.Rotation(t.Context(), "verify")
	run.Progress(rotate.Progress{Table: "t", Read: 10, Total: 100, Batch: 10})
	run.Progress(rotate.Progress{
		Waiting: fmt.Errorf("it is down: %w", rotate.ErrServerDown), Pause: 2 * time.Second,
	})
	run.Progress(rotate.Progress{Table: "t", Read: 20, Total: 100, Batch: 5})
	const of = "credent.operation=verify"
	e.check("credent.rotate.pauses", map[string]float64{of + " error.type=server-down": 1})
	e.check("credent.rotate.rows.read", map[string]float64{of + " credent.table=t": 20})
	e.check("credent.rotate.progress", map[string]float64{of + " credent.table=t": 0.2})
	e.check("credent.rotate.pass", map[string]float64{of + " credent.table=t": 0})
	e.check("credent.rotate.batch", map[string]float64{of + " credent.table=t": 5})
	run.End(nil)
	e.check("credent.rotate.duration", map[string]float64{of: 1})
	ended := spans.Ended()
	if len(ended) != 2 || len(ended[1].Events()) != 1 || ended[1].Events()[0].Name != "credent.pause" ||
		ended[1].Status().Code != codes.Unset {
		t.Errorf("spans: %v", ended)
	}
}

// TestPassesAreApart counts the rows of each pass and table once.
func TestPassesAreApart(t *testing.T) {
	t.Parallel()
	e := newMetrics(t, otelcredent.Config{})
	_, run := e.Rotation(t.Context(), "rotate")
	for _, p := range []rotate.Progress{
		{Table: "a", Pass: 1, Read: 10, Total: 20, Rewritten: 5},
		{Table: "a", Pass: 1, Read: 20, Total: 20, Rewritten: 15},
		{Table: "a", Pass: 2, Read: 20, Total: 20, Rewritten: 15},
		{Table: "b", Pass: 1, Read: 3, Total: 3, Rewritten: 3},
	} {
		run.Progress(p)
	}
	const of = "credent.operation=rotate credent.table="
	e.check("credent.rotate.rows.read", map[string]float64{of + "a": 40, of + "b": 3})
	e.check("credent.rotate.rows.rewritten", map[string]float64{of + "a": 15, of + "b": 3})
	run.End(nil)
	run.Progress(rotate.Progress{Table: "b", Pass: 2, Read: 3}) // too late
	if diff := cmp.Diff(map[string]float64{of + "a": 40, of + "b": 3},
		points(e.collect(), "credent.rotate.rows.read")); diff != "" {
		t.Error(diff)
	}
}

// TestExpiring counts the expiring credentials at each collection.
func TestExpiring(t *testing.T) {
	t.Parallel()
	e := newEnv(t, otelcredent.Config{})
	client := e.client(credent.Config{})
	now := time.Now().UTC()
	for _, after := range []time.Duration{-time.Hour, time.Hour, 20 * 24 * time.Hour, 90 * 24 * time.Hour} {
		row := e.store(client, "user-1", "PK-1")
		client.UserCredential.UpdateOne(row).SetExpiresAt(now.Add(after)).ExecX(t.Context())
	}
	e.store(client, "user-1", "PK-1") // never expires
	count := func(ctx context.Context, before time.Time) (int64, error) {
		n, err := client.UserCredential.Query().Where(usercredential.ExpiresAtLT(before)).Count(ctx)
		return int64(n), err
	}
	for _, within := range []time.Duration{0, 7 * 24 * time.Hour, 30 * 24 * time.Hour, 36 * time.Hour} {
		if err := e.ObserveExpiring(within, count); err != nil {
			t.Fatal(err)
		}
	}
	e.check("credent.credentials.expiring", map[string]float64{
		"credent.within=0d": 1, "credent.within=7d": 2, "credent.within=30d": 3, "credent.within=36h0m0s": 2,
	})
	if err := e.ObserveExpiring(-time.Hour, count); !errors.Is(err, otelcredent.ErrWithin) {
		t.Errorf("a negative time: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e.check("credent.credentials.expiring", nil)
	e.check("credent.seals", nil)
}
