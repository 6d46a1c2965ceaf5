package otelcredent_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/credenttest"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
	"github.com/credent-go/credent/otelcredent"
)

// env holds metrics with a reader, and an SQLite database.
type env struct {
	*otelcredent.Metrics
	t       *testing.T
	reader  *sdkmetric.ManualReader
	db      *sql.DB
	dialect string
	ring    *keyring.Keyring
	users   sync.Map // accounts by user
}

func newMetrics(t *testing.T, cfg otelcredent.Config) *env {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	t.Cleanup(func() { _ = provider.Shutdown(context.WithoutCancel(t.Context())) })
	cfg.MeterProvider = provider
	m, err := otelcredent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &env{Metrics: m, t: t, reader: reader}
}

// newEnv returns metrics and a database with the tables.
func newEnv(t *testing.T, cfg otelcredent.Config) *env {
	t.Helper()
	e := newMetrics(t, cfg)
	e.ring = credenttest.Keyring(t)
	var err error
	e.db, e.dialect, err = credent.OpenDB("sqlite:"+filepath.Join(t.TempDir(), "metrics.db"),
		credent.WithDriver(sqlite.Driver()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.db.Close() })
	if err := migrate.Apply(t.Context(), e.db, migrate.Config{}); err != nil {
		t.Fatal(err)
	}
	return e
}

// client returns a client that reports to the metrics.
func (e *env) client(cfg credent.Config) *ent.Client {
	e.t.Helper()
	cfg.Keyring, cfg.Observer = e.ring, e.Observer()
	client, err := credent.NewClient(e.db, e.dialect, cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	return client
}

// store stores a credential of a user.
func (e *env) store(client *ent.Client, user, apiKey string) *ent.UserCredential {
	e.t.Helper()
	ctx := e.t.Context()
	found, known := e.users.Load(user)
	if !known {
		found = client.UserAccount.Create().SetUserID(user).SetAccountName("a").SaveX(ctx)
		e.users.Store(user, found)
	}
	return client.UserCredential.Create().SetAccount(found.(*ent.UserAccount)).SetUserID(user).
		SetCredentialType("alpaca").SetAPIKey(credent.NewSecret(apiKey)).SetSecretKey(credent.NewSecret("s")).
		SaveX(ctx)
}

// exec changes rows without the client, even to values that a CHECK would
// refuse.
func (e *env) exec(query string, args ...any) {
	e.t.Helper()
	conn, err := e.db.Conn(e.t.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, one := range []struct {
		query string
		args  []any
	}{{"PRAGMA ignore_check_constraints = 1", nil}, {query, args}, {"PRAGMA ignore_check_constraints = 0", nil}} {
		if _, err := conn.ExecContext(e.t.Context(), one.query, one.args...); err != nil {
			e.t.Fatal(err)
		}
	}
}

// collect returns the result of one collection.
func (e *env) collect() metricdata.ResourceMetrics {
	e.t.Helper()
	var all metricdata.ResourceMetrics
	if err := e.reader.Collect(e.t.Context(), &all); err != nil {
		e.t.Fatal(err)
	}
	return all
}

// points returns a metric's values by attributes, and nil if there are none.
// For histograms, it returns the counts.
func points(all metricdata.ResourceMetrics, name string) map[string]float64 {
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				return values(data.DataPoints)
			case metricdata.Gauge[int64]:
				return values(data.DataPoints)
			case metricdata.Gauge[float64]:
				return values(data.DataPoints)
			case metricdata.Histogram[float64]:
				found := make(map[string]float64)
				for _, p := range data.DataPoints {
					found[attributes(p.Attributes)] = float64(p.Count)
				}
				return found
			}
		}
	}
	return nil
}

func values[N int64 | float64](list []metricdata.DataPoint[N]) map[string]float64 {
	found := make(map[string]float64)
	for _, p := range list {
		found[attributes(p.Attributes)] = float64(p.Value)
	}
	return found
}

// attributes returns a set as text, sorted by key.
func attributes(set attribute.Set) string {
	var all []string
	for _, kv := range set.ToSlice() {
		all = append(all, string(kv.Key)+"="+kv.Value.AsString())
	}
	return strings.Join(all, " ")
}

// check compares a metric's values with the wanted ones, keyed by attributes
// such as "credent.column=t.c error.type=corrupt".
func (e *env) check(name string, want map[string]float64) {
	e.t.Helper()
	if diff := cmp.Diff(want, points(e.collect(), name)); diff != "" {
		e.t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// texts returns all texts in a collection.
func texts(all metricdata.ResourceMetrics) string { return fmt.Sprintf("%+v", all) }

// none fails the test if a collection contains one of the texts.
func (e *env) none(secrets ...string) {
	e.t.Helper()
	all := texts(e.collect())
	for _, secret := range secrets {
		if secret == "" || strings.Contains(all, secret) {
			e.t.Errorf("the metrics have %q", secret)
		}
	}
}
