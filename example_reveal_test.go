package credent_test

import (
	"context"
	"fmt"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/open/sqlite"
)

// The observer learns who queried a secret, even if it is revealed later and
// elsewhere.
func ExampleConfig_onReveal() {
	ctx := context.Background()
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		panic(err)
	}
	client, err := credent.Open(ctx, "sqlite::memory:", credent.Config{
		Keyring: ring, Migrate: true,
		OnReveal: func(e credent.Reveal) {
			fmt.Printf("%s read %s.%s, error %v\n", e.Actor, e.Table, e.Column, e.Err)
		},
	}, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Close() }()
	account := client.UserAccount.Create().SetUserID("user-1").SetAccountName("Ada").SaveX(ctx)
	client.UserCredential.Create().SetAccount(account).SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("PK-MADE-UP")).SetSecretKey(credent.NewSecret("made-up")).ExecX(ctx)

	stored := client.UserCredential.Query().OnlyX(credent.WithActor(ctx, "support@example.com"))
	if _, err := stored.APIKey.Reveal(); err != nil {
		panic(err)
	}
	// Output: support@example.com read user_credentials.api_key, error <nil>
}
