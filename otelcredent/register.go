package otelcredent

import (
	"context"
	"errors"
	"sync"

	"go.opentelemetry.io/otel/metric"
)

// kind is an instrument's kind in OpenTelemetry's terms.
type kind string

const (
	counter       kind = "counter"
	upDownCounter kind = "updowncounter"
	gauge         kind = "gauge"
	histogram     kind = "histogram"
)

// instrument describes a metric. docs/metrics.md has the same table.
type instrument struct {
	name       string
	kind       kind
	unit       string
	attributes string // separated by commas
	says       string
}

// instruments are all metrics.
var instruments = []instrument{
	{
		"credent.seals", counter, "{secret}", "credent.column, credent.stored, error.type, credent.tenant",
		"secrets encrypted for a statement, or refused",
	},
	{
		"credent.opens", counter, "{secret}", "credent.column, credent.stored, error.type, credent.tenant",
		"stored secrets decrypted, or failing to open",
	},
	{
		"credent.tenant_keys.lookups", counter, "{lookup}", "credent.result",
		"tenants' keys found in memory (hit) or read from the database (miss)",
	},
	{"credent.tenant_keys.cached", upDownCounter, "{key}", "", "tenants' keys in memory"},
	{"credent.keyring.loads", counter, "{load}", "error.type", "loads of the keyring"},
	{"credent.keyring.changes", counter, "{change}", "", "loads that changed the keys"},
	{"credent.keyring.age", gauge, "s", "", "time since the last successful load of the keyring"},
	{"credent.keyring.keys", gauge, "{key}", "", "keys in the keyring"},
	{"credent.reader.failures", counter, "{query}", "error.type", "queries that the standby failed to answer"},
	{
		"credent.rotate.rows.read", counter, "{row}", "credent.operation, credent.table",
		"rows read by runs, and by other runs that share the work",
	},
	{"credent.rotate.rows.rewritten", counter, "{row}", "credent.operation, credent.table", "rows rewritten by runs"},
	{
		"credent.rotate.progress", gauge, "1", "credent.operation, credent.table",
		"share of the table's rows that the pass of a run has read",
	},
	{"credent.rotate.pass", gauge, "{pass}", "credent.operation, credent.table", "pass of a run over the table"},
	{
		"credent.rotate.batch", gauge, "{row}", "credent.operation, credent.table",
		"rows that a run writes per statement",
	},
	{
		"credent.rotate.pauses", counter, "{pause}", "credent.operation, error.type",
		"pauses of runs while the database fails",
	},
	{
		"credent.rotate.quarantined", counter, "{secret}", "credent.column, error.type",
		"secrets that runs left as they are",
	},
	{"credent.rotate.duration", histogram, "s", "credent.operation, error.type", "duration of runs that ended"},
	{
		"credent.credentials.expiring", gauge, "{credential}", "credent.within",
		"credentials that expire within a time, or have expired",
	},
	{
		"credent.credentials.expiring.seen", counter, "{credential}", "credent.expired",
		"credentials read shortly before they expire, or later",
	},
	{"credent.audit.queue", gauge, "{entry}", "", "entries of the audit trail that may wait at most"},
	{"credent.audit.waiting", gauge, "{entry}", "", "entries of the audit trail that wait to be written"},
	{"credent.audit.written", counter, "{entry}", "", "entries of the audit trail that were committed"},
	{"credent.audit.failures", counter, "{flush}", "", "flushes of the audit trail that failed and were tried again"},
}

// register registers the instruments and the callback for collections.
func (m *Metrics) register() (err error) {
	var all []metric.Observable
	for _, i := range instruments {
		unit, says := metric.WithUnit(i.unit), metric.WithDescription(i.says)
		var made metric.Observable
		switch {
		case i.kind == histogram:
			// From a tenth of a second to a day.
			m.duration, err = m.meter.Float64Histogram(i.name, unit, says,
				metric.WithExplicitBucketBoundaries(0.1, 1, 10, 60, 300, 900, 3600, 4*3600, 12*3600, 24*3600))
			if err != nil {
				return err
			}
			continue
		case i.name == "credent.keyring.age":
			m.ageGauge, err = m.meter.Float64ObservableGauge(i.name, unit, says)
			made = m.ageGauge
		case i.name == "credent.rotate.progress":
			m.shareGauge, err = m.meter.Float64ObservableGauge(i.name, unit, says)
			made = m.shareGauge
		case i.kind == counter:
			m.observables[i.name], err = m.meter.Int64ObservableCounter(i.name, unit, says)
			made = m.observables[i.name]
		case i.kind == upDownCounter:
			m.observables[i.name], err = m.meter.Int64ObservableUpDownCounter(i.name, unit, says)
			made = m.observables[i.name]
		default:
			m.observables[i.name], err = m.meter.Int64ObservableGauge(i.name, unit, says)
			made = m.observables[i.name]
		}
		if err != nil {
			return err
		}
		all = append(all, made)
	}
	return m.callbacks.add(m.meter.RegisterCallback(m.collect, all...))
}

// registrations are undone by Close.
type registrations struct {
	mu   sync.Mutex
	list []metric.Registration
}

func (r *registrations) add(one metric.Registration, err error) error {
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, one)
	return nil
}

func (r *registrations) end() (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.list {
		err = errors.Join(err, one.Unregister())
	}
	r.list = nil
	return err
}

// collect reports everything to one collection.
func (m *Metrics) collect(_ context.Context, o metric.Observer) error {
	to := m.observables
	m.seals.observe(o, to["credent.seals"])
	m.opens.observe(o, to["credent.opens"])
	m.lookups.observe(o, to["credent.tenant_keys.lookups"])
	m.cached.observe(o, to["credent.tenant_keys.cached"])
	m.loads.observe(o, to["credent.keyring.loads"])
	m.changes.observe(o, to["credent.keyring.changes"])
	m.readerFailures.observe(o, to["credent.reader.failures"])
	m.read.observe(o, to["credent.rotate.rows.read"])
	m.rewritten.observe(o, to["credent.rotate.rows.rewritten"])
	m.pauses.observe(o, to["credent.rotate.pauses"])
	m.quarantined.observe(o, to["credent.rotate.quarantined"])
	m.expiring.observe(o, to["credent.credentials.expiring.seen"])
	m.observeKeyring(o)
	m.observeTrails(o)
	m.observeRuns(o)
	return nil
}
