package credent_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/open/sqlite"
)

// Reads may go to a standby, which may lag behind. A request sees its own
// writes.
func ExampleWithReader() {
	primary, primaryURL := open(credent.Config{Keyring: newKeyring()})
	closeClient(primary)
	// "postgres://…?target_session_attrs=prefer-standby"
	standby, standbyURL := open(credent.Config{Keyring: newKeyring()})
	closeClient(standby)

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg := credent.Config{
		Keyring: newKeyring(),
		// Without OnReaderError, the query fails if the standby fails.
		OnReaderError: func(_ context.Context, err error) { log.Print("the primary answers: ", err) },
	}
	client, err := credent.Open(ctx, primaryURL, cfg, credent.WithReader(standbyURL),
		credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	defer closeClient(client)

	request := credent.WithRequest(ctx)
	account := client.UserAccount.Create().SetUserID("user-1").SetAccountName("Ada").SaveX(request)
	fmt.Println("its own request:", client.UserAccount.GetX(request, account.ID).AccountName)
	fmt.Println("another request:", client.UserAccount.Query().CountX(credent.WithRequest(ctx)),
		"accounts, as long as the standby lags")
	// Output:
	// its own request: Ada
	// another request: 0 accounts, as long as the standby lags
}
