// Command service is an HTTP service, in a separate module, that stores its
// users' broker keys with Credent:
//
//	export ENCRYPTION_KEY=$(credent key generate)
//	export DATABASE_URL=sqlite:service.db
//	go run .
//	curl -X PUT -H 'X-User: user-1' localhost:8080/credentials/alpaca \
//		-d '{"api_key": "PK…", "secret_key": "…"}'
//
// Prometheus scrapes its metrics at /metrics, for the dashboard
// otelcredent/dashboard/credent.json: docs/metrics.md.
//
// On Postgres it can connect as a member of credent_app: each request then sees
// only its user's rows. OWNER_DATABASE_URL is the URL of the tables' owner, for
// the migrations: docs/row-level-security.md.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/open/sqlite"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("DATABASE_URL"), os.Getenv("OWNER_DATABASE_URL"), "127.0.0.1:8080"); err != nil {
		log.Fatal(err)
	}
}

// connect connects as the owner of the tables, or as a role under row-level
// security if the owner is another one.
func connect(ctx context.Context, databaseURL, ownerURL string, cfg credent.Config) (*ent.Client, error) {
	migrating := cfg
	migrating.Migrate = true
	if ownerURL == "" || ownerURL == databaseURL {
		return credent.Open(ctx, databaseURL, migrating, credent.WithDriver(sqlite.Driver()))
	}
	// This client stores the canaries that Check opens.
	owner, err := credent.Open(ctx, ownerURL, migrating)
	if err != nil {
		return nil, err
	}
	if err := owner.Close(); err != nil {
		return nil, err
	}
	cfg.RequireRowSecurity = true
	return credent.Open(ctx, databaseURL, cfg)
}

// run serves until the context ends.
func run(ctx context.Context, databaseURL, ownerURL, address string) (err error) {
	metrics, scrape, err := newMetrics()
	if err != nil {
		return err
	}
	// Keys in files are reloaded every 30 seconds.
	ring, err := keyring.Watch(ctx, keyring.EnvSource, keyring.WatchConfig{OnLoad: metrics.KeyringLoaded})
	if err != nil {
		return err
	}
	client, err := connect(ctx, databaseURL, ownerURL,
		credent.Config{Keyring: ring, Observer: metrics.Observer()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	// This detects a wrong key here, not at the first request.
	if err := credent.Check(ctx, client); err != nil {
		return err
	}
	serve := handler(&brokerKeys{client})
	if ownerURL != "" && ownerURL != databaseURL {
		serve = forUser(serve)
	} else if err := observeExpiring(metrics, client); err != nil { // a role that sees all users
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", serve)
	mux.Handle("GET /metrics", scrape) // a real service serves it on a separate address
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	log.Printf("listening on http://%s", address)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return server.Shutdown(context.WithoutCancel(ctx))
	}
}
