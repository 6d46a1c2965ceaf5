package credent_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent/usercredential"
)

// In raw SQL, encrypted.At says which column a secret is stored in, and
// encrypted.DigestOf sets the column's blind index.
func Example_rawSQL() {
	ctx := context.Background()
	client, _ := open(credent.Config{Keyring: newKeyring()})
	defer closeClient(client)
	id := store(client).ID

	secret := credent.NewSecret("PK-ANOTHER")
	_, err := client.ExecContext(ctx, "UPDATE user_credentials SET api_key = ?, api_key_index = ? WHERE id = ?",
		encrypted.At(secret, usercredential.APIKeyColumn, nil),
		encrypted.DigestOf(secret, usercredential.APIKeyColumn, nil), id)
	fmt.Println(err)

	// A bare secret is refused, because its location is unknown.
	_, err = client.ExecContext(ctx, "UPDATE user_credentials SET secret_key = ? WHERE id = ?", secret, id)
	fmt.Println(errors.Is(err, encrypted.ErrNoLocation))

	found := client.UserCredential.Query().Where(usercredential.APIKeyIs(secret)).OnlyX(ctx)
	apiKey, err := found.APIKey.Reveal()
	fmt.Println(apiKey, err)
	// Output:
	// <nil>
	// true
	// PK-ANOTHER <nil>
}

// The modifier of an update takes the same arguments.
func Example_modify() {
	ctx := context.Background()
	client, _ := open(credent.Config{Keyring: newKeyring()})
	defer closeClient(client)
	id := store(client).ID

	secret := credent.NewSecret("made-up-too")
	updated, err := client.UserCredential.UpdateOneID(id).Modify(func(u *sql.UpdateBuilder) {
		u.Set(usercredential.FieldSecretKey, encrypted.At(secret, usercredential.SecretKeyColumn, nil))
	}).Save(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(updated.SecretKey.Reveal())
	// Output: made-up-too <nil>
}

// Secrets scanned by database/sql don't know the client's keyring.
func Example_openerOf() {
	ctx := context.Background()
	ring := newKeyring()
	client, _ := open(credent.Config{Keyring: ring})
	defer closeClient(client)
	store(client)

	rows, err := client.QueryContext(ctx, "SELECT user_id, api_key FROM user_credentials")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var user string
		var apiKey credent.Secret
		if err := rows.Scan(&user, &apiKey); err != nil {
			log.Fatal(err)
		}
		_, err := apiKey.Reveal()
		fmt.Println(errors.Is(err, encrypted.ErrNoOpener))
		fmt.Println(apiKey.OpenedBy(encrypted.OpenerOf(ring, usercredential.APIKeyColumn, user)).Reveal())
	}
	if err := rows.Err(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// true
	// PK-MADE-UP <nil>
}
