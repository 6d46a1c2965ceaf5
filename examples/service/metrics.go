package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/otelcredent"
)

// newMetrics returns the metrics of secrets and keys, and the handler that
// Prometheus scrapes.
func newMetrics() (*otelcredent.Metrics, http.Handler, error) {
	registry := prometheus.NewRegistry()
	reader, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo(),
		exporter.WithoutTargetInfo())
	if err != nil {
		return nil, nil, err
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	metrics, err := otelcredent.New(otelcredent.Config{MeterProvider: provider})
	return metrics, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), err
}

// observeExpiring measures how many credentials have expired, and how many will
// within a month.
func observeExpiring(metrics *otelcredent.Metrics, client *ent.Client) (err error) {
	for _, within := range []time.Duration{0, 30 * 24 * time.Hour} {
		err = errors.Join(err, metrics.ObserveExpiring(within,
			func(ctx context.Context, before time.Time) (int64, error) {
				n, err := client.UserCredential.Query().
					Where(usercredential.IsActive(true), usercredential.ExpiresAtLT(before)).Count(ctx)
				return int64(n), err
			}))
	}
	return err
}
