package hooks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"entgo.io/ent"
	"github.com/google/uuid"

	credent "github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/hook"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/fieldcrypt"
)

// ErrTenantMismatch means that no account has both the ID and the user_id of a
// credential. The database doesn't distinguish another user's account from a
// missing one.
var ErrTenantMismatch = errors.New("a credential's account must exist and have the same user_id")

// TenantConstraint is the foreign key that the database names in its error.
const TenantConstraint = "user_credentials_user_id_user_account_id_fkey"

// ErrConflictTarget means that an upsert's conflict columns aren't a unique key
// of the table. In layouts other than single, id alone isn't a key.
var ErrConflictTarget = errors.New("an upsert's conflict columns must be a unique key: if the database's layout " +
	"isn't single, the primary key is (user_id, id)")

// invalidColumnReference is Postgres' SQLSTATE for such an upsert.
const invalidColumnReference = "42P10"

// explainConflict makes an error about an upsert's columns an
// [ErrConflictTarget].
func explainConflict(err error) error {
	if dberror.State(err) != invalidColumnReference || errors.Is(err, ErrConflictTarget) {
		return err
	}
	return fmt.Errorf("credent: %w: %w", ErrConflictTarget, err)
}

// sqliteForeignKey is SQLite's error for a foreign key. It doesn't name the
// key, but a credential has only one.
const sqliteForeignKey = "FOREIGN KEY constraint failed"

// fillTenant sets a credential's user_id from its account, when the credential
// is created or moved. If user_id is set, the database compares it, which costs
// no query.
func fillTenant(ctx context.Context, m *credent.UserCredentialMutation) error {
	accountID, moved := m.UserAccountID()
	if _, set := m.UserID(); !moved || set {
		return nil
	}
	account, err := m.Client().UserAccount.Query().
		Where(useraccount.ID(accountID)).
		Select(useraccount.FieldUserID).
		Only(ctx)
	if err != nil {
		return fmt.Errorf("credent: the account of the credential: %w", err)
	}
	m.SetUserID(account.UserID)
	return nil
}

// explainTenant makes the foreign key's error an [ErrTenantMismatch], unless an
// inner hook did.
func explainTenant(err error) error {
	if !credent.IsConstraintError(err) || errors.Is(err, ErrTenantMismatch) {
		return err
	}
	if text := err.Error(); !strings.Contains(text, TenantConstraint) && !strings.Contains(text, sqliteForeignKey) {
		return err
	}
	return fmt.Errorf("credent: %w: %w", ErrTenantMismatch, err)
}

// secretField returns the name of a secret field that the mutation sets, or "".
func secretField(m *credent.UserCredentialMutation) string {
	for _, name := range m.Fields() {
		if value, _ := m.Field(name); isSecret(value) {
			return name
		}
	}
	return ""
}

func isSecret(value any) bool {
	_, ok := value.(fieldcrypt.Secret)
	return ok
}

// deleteOrphans deletes credentials that are removed from their account. ent
// alone would clear their foreign key, which the database refuses. The account
// is updated first: if the deletion then fails, the credentials still belong to
// the account. Both run in the caller's transaction, if there is one.
func deleteOrphans(next ent.Mutator) ent.Mutator {
	return hook.UserAccountFunc(func(ctx context.Context, m *credent.UserAccountMutation) (ent.Value, error) {
		removed, cleared := m.RemovedCredentialsIDs(), m.CredentialsCleared()
		if len(removed) == 0 && !cleared {
			return next.Mutate(ctx, m)
		}
		accounts, err := accountIDs(ctx, m)
		if err != nil {
			return nil, err
		}
		added := m.CredentialsIDs()
		elsewhere, err := notOf(ctx, m, accounts, added)
		if err != nil {
			return nil, err
		}
		m.ResetCredentials()
		m.AddCredentialIDs(elsewhere...)
		value, err := next.Mutate(ctx, m)
		if err != nil {
			return nil, err
		}
		orphans := m.Client().UserCredential.Delete().
			Where(usercredential.UserAccountIDIn(accounts...), usercredential.IDNotIn(added...))
		if !cleared {
			orphans.Where(usercredential.IDIn(removed...))
		}
		if _, err := orphans.Exec(ctx); err != nil {
			return nil, fmt.Errorf("credent: delete the credentials removed from the account: %w", err)
		}
		return value, nil
	})
}

// notOf returns the credentials that don't belong to the updated account, if it
// is one. ent would refuse to add the others, since it expects their foreign
// key to be NULL.
func notOf(ctx context.Context, m *credent.UserAccountMutation, accounts, ids []uuid.UUID) ([]uuid.UUID, error) {
	if len(ids) == 0 || len(accounts) != 1 {
		return ids, nil
	}
	there, err := m.Client().UserCredential.Query().
		Where(usercredential.IDIn(ids...), usercredential.UserAccountID(accounts[0])).
		IDs(ctx)
	if err != nil {
		return nil, fmt.Errorf("credent: the credentials to add to the account: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id uuid.UUID) bool { return slices.Contains(there, id) }), nil
}

func accountIDs(ctx context.Context, m *credent.UserAccountMutation) ([]uuid.UUID, error) {
	if id, ok := m.ID(); ok {
		return []uuid.UUID{id}, nil
	}
	return m.IDs(ctx)
}
