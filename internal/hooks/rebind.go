package hooks

import (
	"context"
	"fmt"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/encrypted"
	credent "github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/hook"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/entcrypt/hint"
	"github.com/credent-go/credent/internal/entcrypt/record"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/movetrigger"
)

// rebind re-encrypts the secrets of an account's credentials when its user_id
// changes and their keys depend on it: the database copies the new user_id to
// the credentials, but can't re-encrypt. That takes one transaction; without
// one the hook refuses the change. Nothing else in a credential changes, and no
// hook runs for it.
func rebind(next ent.Mutator) ent.Mutator {
	return hook.UserAccountFunc(func(ctx context.Context, m *credent.UserAccountMutation) (ent.Value, error) {
		user, changes := m.UserID()
		if !changes || !m.Op().Is(ent.OpUpdate|ent.OpUpdateOne) {
			return next.Mutate(ctx, m)
		}
		question := &hint.Question{Columns: encrypted.Columns()}
		ids, err := accountIDs(ctx, m)
		if err != nil {
			return nil, err
		}
		// Any statement of the client gets the answer.
		name := ""
		look := func(s *sql.Selector) { name = s.Dialect() }
		if _, err := m.Client().UserAccount.Query().Where(useraccount.IDIn(ids...), look).
			Exist(hint.Ask(ctx, question)); err != nil {
			return nil, fmt.Errorf("credent: the account: %w", err)
		}
		if err := keepsUsers(ctx, m.Client(), name); err != nil {
			return nil, err
		}
		if question.Unscoped {
			return next.Mutate(ctx, m)
		}
		if _, err := m.Tx(); err != nil {
			return nil, fmt.Errorf("credent: %w: bound tokens depend on the account's user_id: change it in a "+
				"transaction, which re-encrypts them", seal.ErrWrongLocation)
		}
		silent := record.Silent(ctx) // the account's update records its credentials
		credentials, err := lockCredentials(silent, m)
		if err != nil {
			return nil, err
		}
		if err := takeAway(silent, m.Client(), name, credentials); err != nil {
			return nil, err
		}
		value, err := next.Mutate(hint.MovingTenants(ctx), m)
		if err != nil {
			return nil, err
		}
		for _, c := range credentials {
			if err := storeAgain(silent, m.Client(), name, c, user); err != nil {
				return nil, err
			}
		}
		return value, nil
	})
}

// lockCredentials returns the credentials of the updated accounts, with their
// secrets revealed. Until the transaction ends, others can't change them or add
// any to the accounts. Use a silent context, so that the trail doesn't record
// the reveals: nobody sees the plaintext, and on SQLite a trail couldn't commit
// its entries meanwhile.
func lockCredentials(ctx context.Context, m *credent.UserAccountMutation) ([]*credent.UserCredential, error) {
	accounts, err := accountIDs(ctx, m)
	if err != nil {
		return nil, err
	}
	lock := func(s *sql.Selector) {
		if s.Dialect() == dialect.Postgres { // SQLite has one writer
			s.ForUpdate()
		}
	}
	// A writer that adds a credential locks its account, so this query waits
	// for it.
	locked := m.Client().UserAccount.Query().Where(useraccount.IDIn(accounts...)).Unique(false)
	locked.Modify(lock)
	m.Where(useraccount.IDIn(accounts...)) // not accounts that begin to match meanwhile
	if _, err := locked.All(ctx); err != nil {
		return nil, fmt.Errorf("credent: lock the account: %w", err)
	}
	query := m.Client().UserCredential.Query().Where(usercredential.UserAccountIDIn(accounts...)).Unique(false)
	query.Modify(lock)
	credentials, err := query.All(ctx)
	if err != nil {
		return nil, fmt.Errorf("credent: the credentials of the account: %w", err)
	}
	for _, c := range credentials {
		for _, secret := range []*fieldcrypt.Secret{&c.APIKey, &c.SecretKey} {
			plaintext, err := secret.Reveal()
			if err != nil {
				return nil, fmt.Errorf("credent: re-encrypt for another user: %w", err)
			}
			*secret = fieldcrypt.New(plaintext)
		}
	}
	return credentials, nil
}

// takeAway removes the tokens from the rows on SQLite. Its trigger refuses to
// keep a token in a row when the user_id changes, at once rather than at the
// end of the transaction.
func takeAway(ctx context.Context, client *credent.Client, name string, credentials []*credent.UserCredential) error {
	if name != dialect.SQLite {
		return nil
	}
	for _, c := range credentials {
		query, args := sql.Dialect(name).Update(usercredential.Table).
			Set(usercredential.FieldAPIKey, movetrigger.Taken).Set(usercredential.FieldSecretKey, movetrigger.Taken).
			Where(sql.EQ(usercredential.FieldID, c.ID)).Query()
		if _, err := client.ExecContext(ctx, query, args...); err != nil {
			return fmt.Errorf("credent: remove the tokens for another user: %w", err)
		}
	}
	return nil
}

// storeAgain stores a credential's secrets after its row's user has changed. It
// uses raw SQL, since a mutation would change updated_at.
func storeAgain(
	ctx context.Context, client *credent.Client, name string, c *credent.UserCredential, user string,
) error {
	apiKey, secretKey := usercredential.APIKeyColumn, usercredential.SecretKeyColumn
	query, args := sql.Dialect(name).Update(usercredential.Table).
		Set(apiKey.Name, encrypted.At(c.APIKey, apiKey, user)).
		Set(apiKey.Index, encrypted.DigestOf(c.APIKey, apiKey, nil)).
		Set(secretKey.Name, encrypted.At(c.SecretKey, secretKey, user)).
		Where(sql.EQ(usercredential.FieldID, c.ID)).Query()
	if _, err := client.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("credent: re-encrypt for another user: %w", err)
	}
	return nil
}
