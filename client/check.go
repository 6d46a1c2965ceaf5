package client

import (
	"context"
	"errors"
	"fmt"

	"entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/canary"
	"github.com/credent-go/credent/internal/principal"
	"github.com/credent-go/credent/internal/replica"
)

// ErrNotChecked means that [Check] could not look, so the key may be right or
// wrong.
var ErrNotChecked = canary.ErrNotChecked

// checkSample is the number of credentials that [Check] opens.
const checkSample = 10

// Check makes sure, when a service starts, that the client's keyring is the one
// that the database needs, so a wrong key is found before the first request. It
// has three answers:
//
//   - nil: there was something to open, and it opened.
//   - An error from opening it, most likely encrypted.ErrUnknownKey.
//   - [ErrNotChecked]: there was nothing to look at. There are no rows, or the
//     role sees none, and no canary either.
//
// The canary is a token of a known text, under the primary key, that members of
// credent_app may read too. `credent migrate apply` stores it, with the key in
// ENCRYPTION_KEY; so do credent.Open with [Config.Migrate], and `credent
// rotate`. Without it a member of credent_app passes the context of a user who
// has credentials, or gets an ErrNotChecked.
//
// Besides the canary, Check opens the secrets of the last credentials by
// primary key, at most ten, the way the client reads them. It fails if none of
// one column opens: a single damaged row isn't enough, and credent doctor finds
// every one. Secrets that are encrypted.ErrShredded say nothing about the
// keyring.
//
// However large the table is, it reads only these rows, by the index of the
// primary key. A role under row-level security gets the canary's answer, and
// only without a canary the rows of the context's user.
func Check(ctx context.Context, client *ent.Client) error {
	if err := check(ctx, client); err != nil {
		return fmt.Errorf("credent: %w", err)
	}
	return nil
}

func check(ctx context.Context, client *ent.Client) error {
	ctx = replica.WithPrimary(ctx)
	of, ok, err := asked(ctx, client)
	switch {
	case err != nil:
		return fmt.Errorf("check: %w: %w", ErrNotChecked, err)
	case !ok:
		return fmt.Errorf("check: %w", encrypted.ErrNoDriver)
	}
	ring, err := of.Policy.Keyring()
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	on := canary.DB{On: of.Next, SQLite: of.SQLite}
	key, hidden, err := on.Rows(ctx, usercredential.APIKeyColumn)
	if err != nil {
		return fmt.Errorf("check: %w: %w", ErrNotChecked, err)
	}
	c, err := canary.NewChecker(on, ring)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	query := client.UserCredential.Query().Limit(checkSample).Order(func(s *sql.Selector) {
		for _, name := range key {
			s.OrderBy(sql.Desc(s.C(name)))
		}
	})
	if hidden {
		// With the policy alone, the database would read other users' rows too,
		// and for a user with many rows it may still follow the primary key.
		err := c.CheckRows(ctx, func(encrypted.Column) (canary.Rows, error) {
			return canary.Rows{Unseen: canary.HiddenRows}, nil
		}, ent.EncryptedColumns()...)
		user, known := principal.User(ctx)
		if !errors.Is(err, ErrNotChecked) || !known {
			return err
		}
		query.Where(usercredential.UserID(user))
	}
	last, err := query.All(ctx)
	var unopened *encrypted.Error // from a client with VerifyOnRead
	switch {
	case errors.As(err, &unopened):
		return fmt.Errorf("check: %w", err)
	case err != nil:
		return fmt.Errorf("check: %w: %w", ErrNotChecked, err)
	}
	secretOf := map[string]func(*ent.UserCredential) encrypted.Secret{
		usercredential.FieldAPIKey:    func(c *ent.UserCredential) encrypted.Secret { return c.APIKey },
		usercredential.FieldSecretKey: func(c *ent.UserCredential) encrypted.Secret { return c.SecretKey },
	}
	return c.CheckRows(ctx, func(column encrypted.Column) (canary.Rows, error) {
		return revealAll(last, secretOf[column.Name]), nil
	}, ent.EncryptedColumns()...)
}

// revealAll reveals one secret of each row.
func revealAll(rows []*ent.UserCredential, secretOf func(*ent.UserCredential) encrypted.Secret) canary.Rows {
	found := canary.Rows{Unseen: "the role sees no credentials, or there are none"}
	var first error
	for _, row := range rows {
		_, err := secretOf(row).Reveal()
		switch {
		case errors.Is(err, encrypted.ErrShredded):
			found.Unseen = fmt.Sprintf("the last %d secrets are of tenants with a destroyed key", len(rows))
		case err == nil:
			found.Opened++
		case first == nil:
			first = err
		}
	}
	switch {
	case found.Opened > 0:
		return canary.Rows{Opened: found.Opened}
	case first != nil:
		return canary.Rows{Err: fmt.Errorf("none of the last %d secrets opens: %w", len(rows), first)}
	}
	return found
}
