package otelcredent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/credenttest"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
	"github.com/credent-go/credent/rotate"
)

// everything returns a collection after calling each hook with and without an
// error.
func everything(t *testing.T) (all metricdata.ResourceMetrics) {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	m, err := New(Config{MeterProvider: provider, Tenants: 1})
	if err != nil {
		t.Fatal(err)
	}
	said := errors.New("said")
	for _, err := range []error{nil, said} {
		e := encrypted.Event{Table: "t", Column: "c", Tenant: "a", Err: err}
		m.Observer().Opened(e)
		m.Observer().Sealed(e)
		m.KeyringLoaded(keyring.Event{Before: []string{"a"}, After: []string{"b"}, Err: err})
		_, run := m.Rotation(t.Context(), "rotate")
		run.End(err)
	}
	m.CredentialExpires(t.Context(), client.Expiring{})
	m.ObserveTrail(newTrail(t))
	m.Observer().TenantKeys(encrypted.TenantKeyLookup{Known: 1, Read: 1, Kept: 1})
	m.ReaderFailed(t.Context(), said)
	_, run := m.Rotation(t.Context(), "rotate")
	run.Progress(rotate.Progress{Table: "t", Pass: 1, Read: 1, Rewritten: 1, Total: 2})
	run.Progress(rotate.Progress{Waiting: said})
	if err := run.Quarantine([]rotate.Quarantined{{Table: "t", Column: "c", Err: said}}); err != nil {
		t.Error(err)
	}
	if err := m.ObserveExpiring(0, func(context.Context, time.Time) (int64, error) { return 1, nil }); err != nil {
		t.Fatal(err)
	}
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// newTrail opens a trail on SQLite.
func newTrail(t *testing.T) *audit.Trail {
	t.Helper()
	db, name, err := credent.OpenDB("sqlite:"+filepath.Join(t.TempDir(), "trail.db"),
		credent.WithDriver(sqlite.Driver()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := migrate.Apply(t.Context(), db, migrate.Config{}); err != nil {
		t.Fatal(err)
	}
	trail, err := audit.Open(t.Context(), db, name, audit.Config{Keyring: credenttest.Keyring(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := trail.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return trail
}

// row formats a metric as a row of docs/metrics.md.
func row(name string, kind kind, unit string, attributes []string, says string) string {
	quoted := make([]string, len(attributes))
	for i, a := range attributes {
		quoted[i] = "`" + a + "`"
	}
	return fmt.Sprintf("| `%s` | %s | `%s` | %s | %s |", name, kind, unit, strings.Join(quoted, ", "), says)
}

// TestTableOfMetrics compares the table in docs/metrics.md with a collection's
// metrics: names, kinds, units, attributes and descriptions.
func TestTableOfMetrics(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile("(?m)^\\| `credent\\.[a-z_.]+` \\| (counter|updowncounter|gauge|histogram) .*$").
		FindAllString(string(text), -1)
	var collected []string
	for _, scope := range everything(t).ScopeMetrics {
		for _, m := range scope.Metrics {
			found := make(map[string]bool)
			kind := describe(m, found)
			var ordered []string
			for _, i := range instruments {
				if i.name == m.Name && i.attributes != "" {
					ordered = strings.Split(i.attributes, ", ")
				}
			}
			for _, name := range ordered {
				if !found[name] {
					t.Errorf("%s: no data has the attribute %s", m.Name, name)
				}
				delete(found, name)
			}
			if len(found) > 0 {
				t.Errorf("%s: the data has attributes that aren't documented: %v", m.Name, found)
			}
			collected = append(collected, row(m.Name, kind, m.Unit, ordered, m.Description))
		}
	}
	slices.Sort(documented)
	slices.Sort(collected)
	if diff := cmp.Diff(documented, collected); diff != "" {
		t.Errorf("docs/metrics.md (-documented +collected):\n%s", diff)
	}
}

// describe returns a metric's kind, and adds the names of its attributes.
func describe(m metricdata.Metrics, names map[string]bool) kind {
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		add(names, data.DataPoints)
		if !data.IsMonotonic {
			return upDownCounter
		}
		return counter
	case metricdata.Gauge[int64]:
		add(names, data.DataPoints)
		return gauge
	case metricdata.Gauge[float64]:
		add(names, data.DataPoints)
		return gauge
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			for _, kv := range p.Attributes.ToSlice() {
				names[string(kv.Key)] = true
			}
		}
		return histogram
	}
	return "unknown"
}

func add[N int64 | float64](names map[string]bool, points []metricdata.DataPoint[N]) {
	for _, p := range points {
		for _, kv := range p.Attributes.ToSlice() {
			names[string(kv.Key)] = true
		}
	}
}

// TestCausesAreDocumented checks that each cause has a unique name, and that
// docs/metrics.md lists exactly the existing causes.
func TestCausesAreDocumented(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	for _, c := range causes {
		if known[c.name] {
			t.Errorf("%s occurs twice", c.name)
		}
		known[c.name] = true
		if got := cause(fmt.Errorf("somewhere: %w", c.err)); got != c.name {
			t.Errorf("%v: got %s, want %s", c.err, got, c.name)
		}
	}
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n## Causes\n")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(table, -1)
	if len(rows) < 9 {
		t.Errorf("%d causes are documented", len(rows))
	}
	for _, row := range rows {
		if !known[row[1]] {
			t.Errorf("no error has the cause %s", row[1])
		}
	}
}
