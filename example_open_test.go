package credent_test

import (
	"context"
	"fmt"
	"log"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
)

func ExampleOpen() {
	// A service has both in its environment: DATABASE_URL and ENCRYPTION_KEY.
	databaseURL := newDatabase() // "postgres://…" or "sqlite:FILE"
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	client, err := credent.Open(ctx, databaseURL, credent.Config{Keyring: ring, Migrate: true},
		credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	defer closeClient(client)

	account, err := client.UserAccount.Create().SetUserID("user-1").SetAccountName("Ada").Save(ctx)
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.UserCredential.Create().
		SetAccount(account).
		SetUserID(account.UserID).
		SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("PK-MADE-UP")).
		SetSecretKey(credent.NewSecret("made-up")).
		Save(ctx)
	if err != nil {
		log.Fatal(err)
	}

	credential, err := account.QueryCredentials().Only(ctx)
	if err != nil {
		log.Fatal(err)
	}
	apiKey, err := credential.APIKey.Reveal()
	fmt.Println(credential.CredentialType, credential.APIKey, apiKey, err)
	// Output: alpaca [REDACTED] PK-MADE-UP <nil>
}

func ExampleOpenDB() {
	db, dialect, err := credent.OpenDB(newDatabase(), credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	db.SetMaxOpenConns(4) // the pool is the caller's to tune

	ctx := context.Background()
	if err := migrate.Apply(ctx, db, migrate.Config{}); err != nil {
		log.Fatal(err)
	}
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		log.Fatal(err)
	}
	client, err := credent.NewClient(db, dialect, credent.Config{Keyring: ring})
	if err != nil {
		log.Fatal(err)
	}
	defer closeClient(client) // closes the pool too

	store(client)
	var stored string
	if err := db.QueryRowContext(ctx, "SELECT api_key FROM user_credentials").Scan(&stored); err != nil {
		log.Fatal(err)
	}
	fmt.Println(stored[:5], len(stored), "characters")
	// Output: gAAAA 100 characters
}
