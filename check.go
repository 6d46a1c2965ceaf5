package credent

import (
	"context"
	"errors"
	"fmt"

	"entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
)

// checkSample is how many of the newest rows [Check] opens.
const checkSample = 10

// Check makes sure that the client's keyring can read what is stored: it opens the secrets of the newest credentials and
// fails if none of one column opens, most likely with [ErrUnknownKey]; those that are [ErrShredded] do not count. Call it when a service starts, so that a wrong
// key is found before the first request. A single damaged row is no reason to fail; credent doctor finds every one. An
// empty table passes, and so does one that shows no row to a member of credent_app without [WithUser]: a service that
// connects as one gives the context of a user, or leaves the check to the owner.
func Check(ctx context.Context, client *ent.Client) error {
	newest, err := client.UserCredential.Query().
		Order(usercredential.ByCreatedAt(sql.OrderDesc())).
		Limit(checkSample).
		All(ctx)
	if err != nil {
		return fmt.Errorf("credent: check the keyring: %w", err)
	}
	columns := map[string]func(*ent.UserCredential) Secret{
		usercredential.FieldAPIKey:    func(c *ent.UserCredential) Secret { return c.APIKey },
		usercredential.FieldSecretKey: func(c *ent.UserCredential) Secret { return c.SecretKey },
	}
	for _, secretOf := range columns {
		var failures []error
		looked := 0
		for _, credential := range newest {
			_, err := secretOf(credential).Reveal()
			if errors.Is(err, ErrShredded) {
				continue
			}
			if looked++; err != nil {
				failures = append(failures, err)
			}
		}
		if len(failures) > 0 && len(failures) == looked {
			return fmt.Errorf("credent: check the keyring: none of the newest %d secrets opens: %w", looked, failures[0])
		}
	}
	return nil
}
