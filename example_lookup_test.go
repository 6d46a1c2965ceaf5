package credent_test

import (
	"context"
	"fmt"
	"log"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent/usercredential"
)

// A key entered in a form is looked up before it is stored. The query uses the
// index, and doesn't contain the key.
func Example_lookup() {
	ctx := context.Background()
	client, _ := open(credent.Config{Keyring: newKeyring()})
	defer closeClient(client)
	store(client) // the API key PK-MADE-UP

	for _, apiKey := range []string{"PK-MADE-UP", "PK-ANOTHER"} {
		registered, err := client.UserCredential.Query().
			Where(usercredential.APIKeyIs(credent.NewSecret(apiKey))).
			Exist(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(apiKey, registered)
	}
	// Output:
	// PK-MADE-UP true
	// PK-ANOTHER false
}
