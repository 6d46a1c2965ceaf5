package client_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/encrypted"
)

// Both credentials work until the older one is disabled.
func ExampleWithReplaces() {
	ctx := context.Background()
	db, ring := newPool()
	c, err := client.New(db, dialect.SQLite, client.Config{Keyring: ring})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	store(ctx, c)
	old := c.UserCredential.Query().OnlyX(ctx)
	c.UserCredential.Create().
		SetUserAccountID(old.UserAccountID).SetUserID(old.UserID).SetCredentialType(old.CredentialType).
		SetAPIKey(encrypted.New("PK-NEW")).SetSecretKey(encrypted.New("new")).
		ExecX(client.WithReplaces(ctx, old.ID))
	fmt.Println(c.UserCredential.Query().Where(client.Usable()).CountX(ctx))
	// Output: 2
}

func ExampleExpiringWithin() {
	ctx := context.Background()
	db, ring := newPool()
	c, err := client.New(db, dialect.SQLite, client.Config{Keyring: ring})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	store(ctx, c)
	c.UserCredential.Update().SetExpiresAt(time.Now().AddDate(0, 0, 20)).ExecX(ctx)
	for _, days := range []time.Duration{30, 10, 0} {
		fmt.Println(c.UserCredential.Query().Where(client.ExpiringWithin(days * 24 * time.Hour)).CountX(ctx))
	}
	// Output:
	// 1
	// 0
	// 0
}
