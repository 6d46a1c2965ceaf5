package cli

import (
	"context"
	"slices"
	"time"

	entsql "entgo.io/ent/dialect/sql"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/predicate"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/canary"
)

func (a *app) credentialList() *cobra.Command {
	var (
		user     string
		expiring span
		l        = &listing{app: a, head: []string{"ID", "USER", "TYPE", "ACTIVE", "EXPIRES", "CREATED"}}
	)
	cmd := a.action(&cobra.Command{
		Use:   "list [flags]",
		Short: "List the credentials, without their secrets",
		Long: `List the credentials, without their secrets, in the order of their primary key: by ID, or by user and ID if the
table is partitioned by user. It reads page by page and prints each at once, so it needs little memory however many there are.
Credentials stored meanwhile may or may not be in the list.

With --expiring it lists the active ones that expire within a time from now, by this machine's clock, or have expired: LEFT says
how long each is valid, or "expired". docs/expiry.md says how to replace them.`,
		Example: `  credent credential list
  credent credential list --expiring 30d
  credent credential list --user u-1 --json
  credent credential list --limit 100 --after 3f0c1f8e-52a8-4c2a-9d3b-0d8a4f1d2b6c`,
	}, func(ctx context.Context, _ []string) error {
		if err := l.check(); err != nil {
			return err
		}
		return a.withClientOf(ctx, nil, func(db *database, client *ent.Client) error {
			return l.credentials(ctx, db, client, user, expiring)
		})
	})
	cmd.Flags().StringVar(&user, "user", "", "only credentials of the user with this `ID`")
	cmd.Flags().Var(&expiring, "expiring", "only active ones that expire within this `duration`, such as 30d or 12h, "+
		"or have expired")
	l.listFlags.add(cmd, "this `ID`")
	return cmd
}

func (l *listing) credentials(
	ctx context.Context, db *database, client *ent.Client, user string, expiring span,
) error {
	if user != "" {
		if _, err := accountOf(ctx, client.UserAccount, user); err != nil {
			return err
		}
	}
	key, err := db.credentialKey(ctx)
	if err != nil {
		return err
	}
	var begin *ent.UserCredential
	if l.after != "" {
		if begin, err = key.find(ctx, client, l.after); err != nil {
			return err
		}
	}
	none, cells := "there are no credentials; add one with `credent credential add`", credentialCells
	var only []predicate.UserCredential
	if expiring.given {
		only = append(only, credent.ExpiringWithin(expiring.of))
		l.head = []string{"ID", "USER", "TYPE", "EXPIRES", "LEFT", "CREATED"}
		none, cells = "no credential expires within "+expiring.text+", and none has expired", expiringCells
	}
	return list(ctx, l,
		func(last **ent.UserCredential, n int) ([]*ent.UserCredential, error) {
			if last != nil {
				begin = *last
			}
			return key.page(client, user, begin, n).Where(only...).Select(withoutSecrets...).All(ctx)
		},
		func(row *ent.UserCredential) ([]string, any) { return cells(row), jsonOf(row) },
		func(row *ent.UserCredential) string { return row.ID.String() },
		none)
}

func credentialCells(row *ent.UserCredential) []string {
	return []string{
		row.ID.String(), printable(row.UserID), printable(row.CredentialType), yesNo(row.IsActive),
		stampOr(row.ExpiresAt, "never"), stamp(row.CreatedAt),
	}
}

// expiringCells returns the cells of an active row with an expiry.
func expiringCells(row *ent.UserCredential) []string {
	return []string{
		row.ID.String(), printable(row.UserID), printable(row.CredentialType), stamp(*row.ExpiresAt),
		left(time.Until(*row.ExpiresAt)), stamp(row.CreatedAt),
	}
}

var withoutSecrets = []string{
	usercredential.FieldID, usercredential.FieldUserAccountID, usercredential.FieldUserID,
	usercredential.FieldCredentialType, usercredential.FieldIsActive, usercredential.FieldExpiresAt,
	usercredential.FieldCreatedAt, usercredential.FieldUpdatedAt,
}

// credentialKey holds the columns of the credentials' primary key: the ID, and
// the user if the table is partitioned or distributed. Rows are read in this
// order, so that the database finds each page through its index.
type credentialKey []string

func (db *database) credentialKey(ctx context.Context) (credentialKey, error) {
	on, err := canary.Of(ctx, db.DB)
	if err != nil {
		return nil, err
	}
	key, err := on.Key(ctx, usercredential.APIKeyColumn)
	if err != nil {
		return nil, err
	}
	both := []string{usercredential.FieldID, usercredential.FieldUserID}
	if !slices.Equal(slices.Sorted(slices.Values(key)), both) {
		return credentialKey{usercredential.FieldID}, nil
	}
	return key, nil
}

// find returns a row's place in the order.
func (k credentialKey) find(ctx context.Context, client *ent.Client, text string) (*ent.UserCredential, error) {
	id, err := parseID(text)
	if err != nil || len(k) == 1 {
		return &ent.UserCredential{ID: id}, err
	}
	row, err := client.UserCredential.Query().Where(usercredential.ID(id)).
		Select(usercredential.FieldID, usercredential.FieldUserID).Only(ctx)
	if ent.IsNotFound(err) {
		return nil, unknownID(id)
	}
	return row, err
}

// page returns the query for the rows after last; nil for the first page.
func (k credentialKey) page(client *ent.Client, user string, last *ent.UserCredential, n int) *ent.UserCredentialQuery {
	query := client.UserCredential.Query().Limit(n)
	if user != "" {
		query.Where(usercredential.UserID(user))
	}
	if last != nil {
		query.Where(k.after(last.UserID, last.ID))
	}
	return query.Order(func(s *entsql.Selector) {
		for _, name := range k {
			s.OrderBy(s.C(name))
		}
	})
}

func (k credentialKey) after(user string, id uuid.UUID) predicate.UserCredential {
	values := make([]any, len(k))
	for i, name := range k {
		if values[i] = any(id); name == usercredential.FieldUserID {
			values[i] = user
		}
	}
	return func(s *entsql.Selector) { s.Where(after(s, k, values)) }
}
