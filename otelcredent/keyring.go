package otelcredent

import (
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/credent-go/credent/keyring"
)

// ring holds the result of a keyring's last load.
type ring struct {
	mu     sync.Mutex
	loaded time.Time // last successful load; zero before the first
	keys   int64
}

// KeyringLoaded counts a load of a keyring. It is [keyring.WatchConfig]'s
// OnLoad. If a process watches several keyrings, give each its own Metrics: the
// age is since the last load that worked.
func (m *Metrics) KeyringLoaded(e keyring.Event) {
	m.loads.add(causeKey(cause(e.Err)), 1)
	m.keyring.mu.Lock()
	defer m.keyring.mu.Unlock()
	if e.Err != nil {
		return
	}
	m.keyring.loaded, m.keyring.keys = time.Now(), int64(len(e.After))
	changes := m.changes.find(noKey{}) // starts at 0, so that the first change shows as an increase
	if len(e.Before) > 0 && !slices.Equal(e.Before, e.After) {
		changes.n.Add(1)
	}
}

// observeKeyring reports the keyring's age to a collection.
func (m *Metrics) observeKeyring(o metric.Observer) {
	m.keyring.mu.Lock()
	defer m.keyring.mu.Unlock()
	if m.keyring.loaded.IsZero() {
		return
	}
	o.ObserveFloat64(m.ageGauge, time.Since(m.keyring.loaded).Seconds())
	o.ObserveInt64(m.observables["credent.keyring.keys"], m.keyring.keys)
}
