package otelcredent_test

import (
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/credenttest"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
	"github.com/credent-go/credent/otelcredent"
)

// BenchmarkRead reads 1,000 rows with two secrets each and reveals them, with
// and without metrics.
func BenchmarkRead(b *testing.B) {
	ring := credenttest.Keyring(b)
	db, dialect, err := credent.OpenDB("sqlite:"+b.TempDir()+"/read.db", credent.WithDriver(sqlite.Driver()))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := migrate.Apply(b.Context(), db, migrate.Config{}); err != nil {
		b.Fatal(err)
	}
	metrics, err := otelcredent.New(otelcredent.Config{})
	if err != nil {
		b.Fatal(err)
	}
	filled := false
	for name, cfg := range map[string]credent.Config{
		"metrics=off": {Keyring: ring},
		"metrics=on":  {Keyring: ring, Observer: metrics.Observer()},
	} {
		client, err := credent.NewClient(db, dialect, cfg)
		if err != nil {
			b.Fatal(err)
		}
		if !filled {
			filled = true
			account := client.UserAccount.Create().SetUserID("user-1").SetAccountName("a").SaveX(b.Context())
			for range 1000 {
				client.UserCredential.Create().SetAccount(account).SetUserID("user-1").SetCredentialType("alpaca").
					SetAPIKey(credent.NewSecret("PK-0123456789ABCDEF")).
					SetSecretKey(credent.NewSecret("0123456789abcdef0123456789abcdef")).ExecX(b.Context())
			}
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, row := range client.UserCredential.Query().AllX(b.Context()) {
					for _, secret := range []credent.Secret{row.APIKey, row.SecretKey} {
						if _, err := secret.Reveal(); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
		})
	}
}

var event = encrypted.Event{Table: "user_credentials", Column: "api_key", Tenant: "user-1"}

// BenchmarkOpened measures one event, from all processors.
func BenchmarkOpened(b *testing.B) {
	metrics, err := otelcredent.New(otelcredent.Config{})
	if err != nil {
		b.Fatal(err)
	}
	opened := metrics.Observer().Opened
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			opened(event)
		}
	})
}
