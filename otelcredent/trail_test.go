package otelcredent_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/otelcredent"
)

// TestTrail fills an audit trail's queue while its table is missing for a
// while, and then writes it.
func TestTrail(t *testing.T) {
	t.Parallel()
	e := newEnv(t, otelcredent.Config{})
	if got := points(e.collect(), "credent.audit.queue"); got != nil {
		t.Errorf("without a trail: got %v", got)
	}
	failed := make(chan struct{}, 100)
	trail, err := audit.Open(t.Context(), e.db, e.dialect, audit.Config{
		Keyring: e.ring, Queue: 100, Flush: time.Hour, OnError: func(error) { failed <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	e.ObserveTrail(trail)
	for i := range 3 {
		entry := audit.Entry{Action: audit.ActionReveal, Row: fmt.Sprint("CANARY-", i), Actor: "CANARY"}
		if err := trail.Add(t.Context(), entry); err != nil {
			t.Fatal(err)
		}
	}
	e.check("credent.audit.queue", map[string]float64{"": 100})
	e.check("credent.audit.waiting", map[string]float64{"": 3})
	e.check("credent.audit.written", map[string]float64{"": 0})
	e.check("credent.audit.failures", map[string]float64{"": 0})

	e.exec("ALTER TABLE credent_audit RENAME TO away")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := trail.Flush(ctx); err == nil {
		t.Error("it was written without the table")
	}
	<-failed
	e.exec("ALTER TABLE away RENAME TO credent_audit")
	if err := trail.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.check("credent.audit.waiting", map[string]float64{"": 0})
	e.check("credent.audit.written", map[string]float64{"": 3})
	if got := points(e.collect(), "credent.audit.failures")[""]; got < 1 {
		t.Errorf("%v flushes failed", got)
	}
	e.none("CANARY")
	if err := trail.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestCredentialExpires reads credentials before and after they expire.
func TestCredentialExpires(t *testing.T) {
	t.Parallel()
	e := newEnv(t, otelcredent.Config{})
	client := e.client(credent.Config{OnExpiring: e.CredentialExpires})
	for _, left := range []time.Duration{-time.Hour, time.Hour, 2 * time.Hour, 1000 * time.Hour} {
		row := e.store(client, "CANARY-USER", "PK")
		row.Update().SetExpiresAt(time.Now().UTC().Add(left)).ExecX(t.Context())
	}
	client.UserCredential.Query().AllX(t.Context())
	e.check("credent.credentials.expiring.seen", map[string]float64{
		"credent.expired=true": 1, "credent.expired=false": 2,
	})
	e.none("CANARY")
}
