package credent_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/open/sqlite"
)

func ExampleConfig_binding() {
	client, url := open(credent.Config{Keyring: newKeyring(), Binding: credent.Require})
	defer closeClient(client)
	ctx := context.Background()
	for _, user := range []string{"Ada", "Grace"} {
		account := client.UserAccount.Create().SetUserID(user).SetAccountName(user).SaveX(ctx)
		client.UserCredential.Create().SetAccount(account).SetUserID(user).SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("PK-OF-" + user)).SetSecretKey(credent.NewSecret("made-up")).ExecX(ctx)
	}

	// Somebody with write access to the database copies Grace's token into
	// Ada's row.
	db, _, err := credent.OpenDB(url, credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	_, err = db.ExecContext(ctx, `UPDATE user_credentials SET api_key =
		(SELECT api_key FROM user_credentials WHERE user_id = 'Grace') WHERE user_id = 'Ada'`)
	if err := errors.Join(err, db.Close()); err != nil {
		log.Fatal(err)
	}

	for _, user := range []string{"Ada", "Grace"} {
		credential := client.UserCredential.Query().Where(usercredential.UserID(user)).OnlyX(ctx)
		apiKey, err := credential.APIKey.Reveal()
		fmt.Printf("%s: %q, moved: %t\n", user, apiKey, errors.Is(err, credent.ErrWrongLocation))
	}
	// Output:
	// Ada: "", moved: true
	// Grace: "PK-OF-Grace", moved: false
}
