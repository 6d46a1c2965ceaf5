package credent_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/open/sqlite"
)

// One row was encrypted under a lost key. The others can still be read, but a
// client that verifies on read refuses.
func ExampleConfig_verifyOnRead() {
	client, url := open(credent.Config{Keyring: newKeyring()})
	defer closeClient(client)
	store(client)

	ctx := context.Background()
	cfg := credent.Config{Keyring: newKeyring()}
	lazy, err := credent.Open(ctx, url, cfg, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	defer closeClient(lazy)
	credentials, err := lazy.UserCredential.Query().All(ctx)
	fmt.Println("query:", len(credentials), "row,", err)
	_, err = credentials[0].APIKey.Reveal()
	fmt.Println("reveal:", errors.Is(err, credent.ErrUnknownKey))

	cfg.VerifyOnRead = true
	strict, err := credent.Open(ctx, url, cfg, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	defer closeClient(strict)
	_, err = strict.UserCredential.Query().All(ctx)
	fmt.Println("strict query:", errors.Is(err, credent.ErrUnknownKey))
	// Output:
	// query: 1 row, <nil>
	// reveal: true
	// strict query: true
}
