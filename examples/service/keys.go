package main

import (
	"context"
	"errors"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
)

// brokerKeys is what the rest of the service uses.
type brokerKeys struct{ client *ent.Client }

// store keeps a user's keys with a broker, instead of earlier ones. However
// many calls run at once, the user has one credential with the broker
// afterwards: the last one's.
//
// The tables have no unique index on user and broker, since a user may have
// several credentials of one type. So the calls of one user take turns: each
// locks the user's account until it commits. Python does the same with
// select(UserAccount).where(…).with_for_update().
func (b *brokerKeys) store(ctx context.Context, userID, broker string, apiKey, secretKey credent.Secret) (err error) {
	tx, err := b.client.Tx(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	// One statement makes the account or locks its row, on Postgres and on
	// SQLite. It comes first, so that what follows sees what the call before
	// has committed.
	accountID, err := tx.UserAccount.Create().SetUserID(userID).SetAccountName(userID).
		OnConflictColumns(useraccount.FieldUserID).
		Update(func(u *ent.UserAccountUpsert) { u.UpdateUpdatedAt() }).
		ID(ctx)
	if err != nil {
		return err
	}
	_, err = tx.UserCredential.Delete().
		Where(usercredential.UserAccountID(accountID), usercredential.CredentialType(broker)).
		Exec(ctx)
	if err != nil {
		return err
	}
	err = tx.UserCredential.Create().
		SetAccountID(accountID).
		SetUserID(userID).
		SetCredentialType(broker).
		SetAPIKey(apiKey).
		SetSecretKey(secretKey).
		SetExpiresAt(time.Now().AddDate(1, 0, 0)).
		Exec(ctx)
	if err != nil {
		return err
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
