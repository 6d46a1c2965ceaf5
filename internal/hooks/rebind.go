package hooks

import (
	"context"
	"fmt"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	"entgo.io/ent/dialect/sql"

	credent "github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/hook"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/fieldcrypt"
)

// The triggers of the migrations keep a credential's user_id equal to its account's.
var _ = registerFollow()

func registerFollow() bool {
	fieldcrypt.RegisterFollow(fieldcrypt.Follow{
		Table: usercredential.Table, Via: usercredential.FieldUserAccountID,
		Source: useraccount.Table, SourceColumn: useraccount.FieldUserID,
	})
	return true
}

// rebind encrypts the secrets of an account anew when its user_id changes: bound tokens are bound to it, and the database's
// trigger changes it in the credentials without them. That is one transaction, which must be there: without one the change is
// refused, by this hook or, for statements that pass it by, by the driver. Nothing else of a credential is changed, and no hook is run for it.
func rebind(next ent.Mutator) ent.Mutator {
	return hook.UserAccountFunc(func(ctx context.Context, m *credent.UserAccountMutation) (ent.Value, error) {
		if _, changes := m.UserID(); !changes || !m.Op().Is(ent.OpUpdate|ent.OpUpdateOne) {
			return next.Mutate(ctx, m)
		}
		if _, err := m.Tx(); err != nil {
			return nil, fmt.Errorf("credent: %w: bound tokens depend on the account's user_id: change it in a transaction, in which they are "+
				"encrypted anew", fieldcrypt.ErrContext)
		}
		credentials, err := lockCredentials(ctx, m)
		if err != nil {
			return nil, err
		}
		value, err := next.Mutate(fieldcrypt.MovingTenants(ctx), m)
		if err != nil {
			return nil, err
		}
		for _, c := range credentials {
			if err := storeAgain(ctx, m.Client(), c); err != nil {
				return nil, err
			}
		}
		return value, nil
	})
}

// lockCredentials returns the credentials of the accounts that are updated, with secrets that open. Until the transaction ends
// nobody changes them, nor adds others to the accounts.
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
	// Who adds a credential holds a lock on its account that this one waits for.
	locked := m.Client().UserAccount.Query().Where(useraccount.IDIn(accounts...)).Unique(false)
	locked.Modify(lock)
	m.Where(useraccount.IDIn(accounts...)) // and no other, which begins to match meanwhile
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
				return nil, fmt.Errorf("credent: encrypt anew for another user: %w", err)
			}
			*secret = fieldcrypt.New(plaintext)
		}
	}
	return credentials, nil
}

// storeAgain stores the secrets of a credential without a mutation, which would change updated_at.
func storeAgain(ctx context.Context, client *credent.Client, c *credent.UserCredential) error {
	_, err := client.ExecContext(ctx, fmt.Sprintf(`UPDATE "%s" SET "%s" = $1, "%s" = $2 WHERE "%s" = $3`, usercredential.Table,
		usercredential.FieldAPIKey, usercredential.FieldSecretKey, usercredential.FieldID), c.APIKey, c.SecretKey, c.ID)
	if err != nil {
		return fmt.Errorf("credent: encrypt anew for another user: %w", err)
	}
	return nil
}
