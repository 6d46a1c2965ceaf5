package otelcredent

import (
	"context"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/client"
)

// ObserveTrail measures an audit trail at each collection: its queue, what it
// has written, and flushes that failed. Several trails are added up.
func (m *Metrics) ObserveTrail(trail *audit.Trail) {
	m.trailsMu.Lock()
	defer m.trailsMu.Unlock()
	m.trails = append(m.trails, trail)
}

// observeTrails reports the audit trails to a collection.
func (m *Metrics) observeTrails(o metric.Observer) {
	m.trailsMu.Lock()
	defer m.trailsMu.Unlock()
	if len(m.trails) == 0 {
		return
	}
	var sum audit.Stats
	for _, trail := range m.trails {
		s := trail.Stats()
		sum.Queue, sum.Waiting = sum.Queue+s.Queue, sum.Waiting+s.Waiting
		sum.Written, sum.Failures = sum.Written+s.Written, sum.Failures+s.Failures
	}
	to := m.observables
	o.ObserveInt64(to["credent.audit.queue"], int64(sum.Queue))
	o.ObserveInt64(to["credent.audit.waiting"], int64(sum.Waiting))
	o.ObserveInt64(to["credent.audit.written"], sum.Written)
	o.ObserveInt64(to["credent.audit.failures"], sum.Failures)
}

// CredentialExpires counts a credential that was read shortly before it
// expires, or later. It is client.Config's OnExpiring.
func (m *Metrics) CredentialExpires(_ context.Context, e client.Expiring) {
	m.expiring.add(expiredKey(e.Left <= 0), 1)
}

// expiredKey says whether a credential has expired.
type expiredKey bool

func (k expiredKey) attributes() []attribute.KeyValue {
	return present("credent.expired", strconv.FormatBool(bool(k)))
}
