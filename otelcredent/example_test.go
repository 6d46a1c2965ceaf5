package otelcredent_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/open/sqlite"
	"github.com/credent-go/credent/otelcredent"
)

// A service counts the secrets that its client seals and opens, and reports the
// age of its keys.
func ExampleNew() {
	reader := sdkmetric.NewManualReader() // an exporter in a service
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	metrics, err := otelcredent.New(otelcredent.Config{MeterProvider: provider})
	if err != nil {
		log.Fatal(err)
	}

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ring, err := keyring.Watch(ctx, func(context.Context) (*keyring.Keyring, error) {
		return keyring.New(keyring.GenerateKey()) // keyring.EnvSource in a service
	}, keyring.WatchConfig{OnLoad: metrics.KeyringLoaded})
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	client, err := credent.Open(ctx, "sqlite:"+filepath.Join(dir, "example.db"),
		credent.Config{Keyring: ring, Migrate: true, Observer: metrics.Observer()}, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()

	account := client.UserAccount.Create().SetUserID("user-1").SetAccountName("Ada").SaveX(ctx)
	row := client.UserCredential.Create().SetAccount(account).SetUserID("user-1").SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("PK-MADE-UP")).SetSecretKey(credent.NewSecret("made-up")).SaveX(ctx)
	_, _ = client.UserCredential.GetX(ctx, row.ID).APIKey.Reveal()

	var all metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &all); err != nil {
		log.Fatal(err)
	}
	for _, m := range all.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok {
			for _, p := range sum.DataPoints {
				column, _ := p.Attributes.Value("credent.column")
				fmt.Println(m.Name, column.AsString(), p.Value)
			}
		}
	}
	// Unordered output:
	// credent.seals user_credentials.api_key 1
	// credent.seals user_credentials.secret_key 1
	// credent.opens user_credentials.api_key 1
	// credent.keyring.loads  1
	// credent.keyring.changes  0
}
