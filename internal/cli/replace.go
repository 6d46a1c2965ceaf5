package cli

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
)

func (a *app) credentialReplace() *cobra.Command {
	var expires string
	cmd := a.action(&cobra.Command{
		Use:   "replace ID [flags]",
		Short: "Store the successor of a credential and print its ID; both are valid",
		Long: `Store a new credential for the same user and type as the one with the given ID, and print the new one's ID. The
old one doesn't change, so services can keep using it until all of them use the new one. Then disable it: "credent credential
disable". The audit trail records that the new one replaces the old one. docs/expiry.md shows the whole replacement.

It asks for the secrets, or reads them from standard input, like "credent credential add".`,
		Example: `  credent credential replace 3f0c1f8e-52a8-4c2a-9d3b-0d8a4f1d2b6c --expires 2028-01-31 < alpaca.json`,
		Args:    arguments(1, "credential ID"),
	}, func(ctx context.Context, args []string) error {
		expiresAt, err := parseExpiry(expires)
		if err != nil {
			return err
		}
		id, err := parseID(args[0])
		if err != nil {
			return err
		}
		ring, err := keyring.FromEnv()
		if err != nil {
			return err
		}
		return a.withClientOf(ctx, ring, func(db *database, client *ent.Client) error {
			if err := db.checkKey(ctx, ring); err != nil {
				return err
			}
			return a.replaceCredential(ctx, client, id, expiresAt)
		})
	})
	cmd.Flags().StringVar(&expires, "expires", "",
		"the `time` from which on the provider refuses the new one: 2027-01-31T16:00:00Z, or a date, from 00:00 UTC")
	return cmd
}

func (a *app) replaceCredential(ctx context.Context, client *ent.Client, id uuid.UUID, expiresAt *time.Time) error {
	// Checked before prompting for secrets, and again when storing them.
	if _, err := replaced(ctx, client.UserCredential, id); err != nil {
		return err
	}
	apiKey, secretKey, err := a.readSecrets(ctx)
	if err != nil {
		return err
	}
	var successor *ent.UserCredential
	err = inTx(ctx, client, func(tx *ent.Tx) error {
		old, err := replaced(ctx, tx.UserCredential, id)
		if err != nil {
			return err
		}
		successor, err = tx.UserCredential.Create().
			SetUserAccountID(old.UserAccountID).SetUserID(old.UserID).SetCredentialType(old.CredentialType).
			SetAPIKey(apiKey).SetSecretKey(secretKey).SetNillableExpiresAt(expiresAt).
			Save(credent.WithReplaces(ctx, id))
		if ent.IsConstraintError(err) {
			return messagef("the database refused the credential; was the account of user %q removed?", old.UserID)
		}
		return err
	})
	if err != nil {
		return err
	}
	a.printf("%s\n", successor.ID)
	a.notef("credent: note: both are valid; when all services use the new one, run `credent credential disable %s`\n",
		id)
	return nil
}

// replaced returns the credential to be replaced, without its secrets.
func replaced(
	ctx context.Context, credentials *ent.UserCredentialClient, id uuid.UUID,
) (*ent.UserCredential, error) {
	row, err := credentials.Query().Where(usercredential.ID(id)).Select(withoutSecrets...).Only(ctx)
	if ent.IsNotFound(err) {
		return nil, unknownID(id)
	}
	return row, err
}
