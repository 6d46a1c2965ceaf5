package credent_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/open/sqlite"
	"github.com/credent-go/credent/rotate"
)

func ExampleConfig_tenantKeys() {
	ring := newKeyring()
	client, url := open(credent.Config{Keyring: ring, TenantKeys: credent.Require})
	defer closeClient(client)
	ctx := context.Background()
	store := func(account *ent.UserAccount) error {
		return client.UserCredential.Create().SetAccount(account).SetUserID(account.UserID).SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("PK-OF-" + account.UserID)).SetSecretKey(credent.NewSecret("made-up")).Exec(ctx)
	}
	for _, user := range []string{"Ada", "Grace"} {
		if err := store(client.UserAccount.Create().SetUserID(user).SetAccountName(user).SaveX(ctx)); err != nil {
			log.Fatal(err)
		}
	}

	// Ada wants to be forgotten.
	db, dialect, err := credent.OpenDB(url, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	done, err := rotate.DestroyTenant(ctx, db, ring, "Ada")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("nobody can read", done.Secrets, "secrets of", done.Tenant)

	// Other processes forget the key within a minute, and a new process never
	// loads it.
	client, err = credent.NewClient(db, dialect, credent.Config{Keyring: ring, TenantKeys: credent.Require})
	if err != nil {
		log.Fatal(err)
	}
	defer closeClient(client)
	for _, user := range []string{"Ada", "Grace"} {
		credential := client.UserCredential.Query().WithAccount().Where(usercredential.UserID(user)).OnlyX(ctx)
		apiKey, err := credential.APIKey.Reveal()
		again := store(credential.Edges.Account)
		fmt.Printf("%s: %q, shredded: %t, takes no other: %t\n",
			user, apiKey, errors.Is(err, credent.ErrShredded), errors.Is(again, credent.ErrShredded))
	}
	// Output:
	// nobody can read 2 secrets of Ada
	// Ada: "", shredded: true, takes no other: true
	// Grace: "PK-OF-Grace", shredded: false, takes no other: false
}
