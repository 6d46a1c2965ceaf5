// Command service is a Go service, in a module of its own, that keeps its users' broker keys in Credent. It reads
// DATABASE_URL and ENCRYPTION_KEY:
//
//	ENCRYPTION_KEY=$(credent key generate) DATABASE_URL=sqlite:service.db go run .
//
// On Postgres it can connect as a member of credent_app, and then works for one user at a time. OWNER_DATABASE_URL is
// the URL of the tables' owner, for the migrations: docs/row-level-security.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/migrate"
)

func main() {
	if err := run(context.Background(), os.Getenv("DATABASE_URL"), os.Getenv("OWNER_DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

// open connects as the owner of the tables, or as a role that row-level security holds if the owner is another one.
func open(ctx context.Context, databaseURL, ownerURL string) (*ent.Client, error) {
	if ownerURL == "" || ownerURL == databaseURL {
		return credent.Open(ctx, databaseURL, credent.WithMigrations())
	}
	owner, _, err := credent.OpenDB(ownerURL)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(migrate.Apply(ctx, owner), owner.Close()); err != nil {
		return nil, err
	}
	return credent.Open(ctx, databaseURL, credent.RequireRowSecurity())
}

func run(ctx context.Context, databaseURL, ownerURL string) (err error) {
	client, err := open(ctx, databaseURL, ownerURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	if ownerURL != "" && ownerURL != databaseURL {
		ctx = credent.WithUser(ctx, "user-1") // a server does so for each request
	}
	// A wrong key is found here, not at the first request.
	if err := credent.Check(ctx, client); err != nil {
		return err
	}
	keys := &brokerKeys{client}
	if err := keys.store(ctx, "user-1", "alpaca", "PKMADEUP0123456789AB", "made-up-secret"); err != nil {
		return err
	}
	apiKey, secretKey, err := keys.load(ctx, "user-1", "alpaca")
	if err != nil {
		return err
	}
	fmt.Printf("a request to the broker would now be signed with %d and %d bytes\n", len(apiKey), len(secretKey))
	return nil
}

// brokerKeys is what the rest of the service uses.
type brokerKeys struct{ client *ent.Client }

// store keeps a user's keys with a broker, in place of earlier ones.
func (b *brokerKeys) store(ctx context.Context, userID, broker, apiKey, secretKey string) error {
	account, err := b.client.UserAccount.Query().Where(useraccount.UserID(userID)).Only(ctx)
	if ent.IsNotFound(err) {
		account, err = b.client.UserAccount.Create().SetUserID(userID).SetAccountName(userID).Save(ctx)
	}
	if err != nil {
		return err
	}
	tx, err := b.client.Tx(ctx)
	if err != nil {
		return err
	}
	_, err = tx.UserCredential.Delete().
		Where(usercredential.UserAccountID(account.ID), usercredential.CredentialType(broker)).
		Exec(ctx)
	if err == nil {
		err = tx.UserCredential.Create().
			SetAccount(account).
			SetUserID(userID).
			SetCredentialType(broker).
			SetAPIKey(credent.NewSecret(apiKey)).
			SetSecretKey(credent.NewSecret(secretKey)).
			SetExpiresAt(time.Now().AddDate(1, 0, 0)).
			Exec(ctx)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// load returns a user's keys with a broker.
func (b *brokerKeys) load(ctx context.Context, userID, broker string) (apiKey, secretKey string, err error) {
	credential, err := b.client.UserCredential.Query().
		Where(usercredential.UserID(userID), usercredential.CredentialType(broker), usercredential.IsActive(true)).
		Only(ctx)
	if err != nil {
		return "", "", err
	}
	if apiKey, err = credential.APIKey.Reveal(); err != nil {
		return "", "", err
	}
	secretKey, err = credential.SecretKey.Reveal()
	return apiKey, secretKey, err
}
