// Package otelcredent measures what Credent does with secrets and keys, for
// OpenTelemetry: seals and opens in each column, failures and their causes,
// loads and the age of the keyring, the tenants' keys in memory, how far a
// rotation is, the queue of the audit trail, and how many credentials expire.
//
//	metrics, err := otelcredent.New(otelcredent.Config{})
//	watch := keyring.WatchConfig{OnLoad: metrics.KeyringLoaded}
//	ring, err := keyring.Watch(ctx, keyring.EnvSource, watch)
//	cfg := credent.Config{Keyring: ring, Observer: metrics.Observer()}
//	client, err := credent.Open(ctx, url, cfg)
//
// The table in docs/metrics.md has every metric with its unit and attributes.
//
// No attribute holds a secret, a token, a key, the ID of a row or an error's
// text. Tenants are attributes only if [Config.Tenants] says so.
//
// Names of metrics and attributes are kept between versions like the API.
package otelcredent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/encrypted"
)

// scope is the instrumentation scope.
const scope = "github.com/credent-go/credent/otelcredent"

// Config says where measurements go. The zero value is ready for use.
type Config struct {
	// MeterProvider takes the metrics. Nil means otel.GetMeterProvider's.
	MeterProvider metric.MeterProvider
	// TracerProvider takes the spans of runs of package rotate. Nil means
	// otel.GetTracerProvider's.
	TracerProvider trace.TracerProvider
	// Tenants makes the tenant an attribute of sealed and opened secrets, for
	// that many tenants; the others share the value "_OTHER", which limits the
	// number of time series. A reader of the metrics learns those tenants'
	// names. Zero or less means no attribute.
	Tenants int
}

// Metrics counts what clients, keyrings and rotations in one process do. It is
// safe for concurrent use. Its hooks cost an addition in memory; the sums are
// read when the provider collects.
type Metrics struct {
	tracer   trace.Tracer
	duration metric.Float64Histogram
	tenants  tenants

	seals, opens    cells[secretKey]
	lookups         cells[resultKey]
	cached          cells[noKey]
	loads           cells[causeKey]
	changes         cells[noKey]
	readerFailures  cells[causeKey]
	read, rewritten cells[tableKey]
	pauses          cells[pauseKey]
	quarantined     cells[secretKey]
	expiring        cells[expiredKey]

	keyring ring

	trailsMu sync.Mutex
	trails   []*audit.Trail

	runsMu sync.Mutex
	runs   map[*Rotation]struct{} // runs that haven't ended

	meter       metric.Meter
	observables map[string]metric.Int64Observable
	ageGauge    metric.Float64Observable
	shareGauge  metric.Float64Observable
	callbacks   registrations
}

// New returns metrics, and registers each of them with the provider. Errors are
// the provider's.
func New(cfg Config) (*Metrics, error) {
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = otel.GetTracerProvider()
	}
	m := &Metrics{
		meter: cfg.MeterProvider.Meter(scope), tracer: cfg.TracerProvider.Tracer(scope),
		tenants: tenants{most: cfg.Tenants}, runs: make(map[*Rotation]struct{}),
		observables: make(map[string]metric.Int64Observable),
	}
	if err := m.register(); err != nil {
		return nil, fmt.Errorf("otelcredent: register the metrics: %w", err)
	}
	return m, nil
}

// Close ends the registration of observed values. Later collections don't have
// them.
func (m *Metrics) Close() error {
	if err := m.callbacks.end(); err != nil {
		return fmt.Errorf("otelcredent: close: %w", err)
	}
	return nil
}

// Observer returns the Config.Observer for packages credent, client and
// encrypted. Several clients may share it.
func (m *Metrics) Observer() encrypted.Observer {
	return encrypted.Observer{
		Sealed: func(e encrypted.Event) { m.seals.add(m.secret(e), 1) },
		Opened: func(e encrypted.Event) { m.opens.add(m.secret(e), 1) },
		TenantKeys: func(l encrypted.TenantKeyLookup) {
			m.lookups.add("hit", int64(l.Known))
			m.lookups.add("miss", int64(l.Read))
			m.cached.add(noKey{}, int64(l.Kept))
		},
	}
}

func (m *Metrics) secret(e encrypted.Event) secretKey {
	k := secretKey{table: e.Table, column: e.Column, cause: cause(e.Err), stored: "token"}
	if e.Plaintext {
		k.stored = "plaintext"
	}
	if m.tenants.most > 0 {
		k.tenant = m.tenants.label(e.Tenant)
	}
	return k
}

// ReaderFailed counts a query that the standby failed to answer. It is
// client.Config's OnReaderError.
func (m *Metrics) ReaderFailed(_ context.Context, err error) {
	m.readerFailures.add(causeKey(cause(err)), 1)
}

// ObserveExpiring measures how many credentials expire within a time from now,
// 0 for the ones that have expired. At each collection it calls count with the
// moment before which they expire, such as
//
//	func(ctx context.Context, before time.Time) (int64, error) {
//		n, err := client.UserCredential.Query().
//			Where(usercredential.ExpiresAtLT(before)).Count(ctx)
//		return int64(n), err
//	}
//
// The client must see the rows of all tenants: under row-level security a
// context without a user counts none. If count fails, the collection lacks the
// value, and OpenTelemetry's error handler gets the error. Errors are the
// provider's, and [ErrWithin] for a negative time.
func (m *Metrics) ObserveExpiring(
	within time.Duration, count func(ctx context.Context, before time.Time) (int64, error),
) error {
	if within < 0 {
		return fmt.Errorf("otelcredent: observe credentials that expire: %w: it is %s", ErrWithin, within)
	}
	attributes := metric.WithAttributes(attribute.String("credent.within", days(within)))
	gauge := m.observables["credent.credentials.expiring"]
	err := m.callbacks.add(m.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		n, err := count(ctx, time.Now().Add(within))
		if err != nil {
			return fmt.Errorf("otelcredent: count credentials that expire within %s: %w", days(within), err)
		}
		o.ObserveInt64(gauge, n, attributes)
		return nil
	}, gauge))
	if err != nil {
		return fmt.Errorf("otelcredent: observe credentials that expire: %w", err)
	}
	return nil
}

// ErrWithin means that a time is negative.
var ErrWithin = errors.New("the time must not be negative")

// days formats a duration in days, such as "30d", or else as Go does.
func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
	return d.String()
}
