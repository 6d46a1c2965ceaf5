package cli

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
)

func (a *app) credential() *cobra.Command {
	return a.group(&cobra.Command{Use: "credential", Short: "Add, list, show, replace, disable, remove, import " +
		"and export credentials"},
		a.credentialAdd(), a.credentialList(), a.credentialShow(), a.credentialReplace(), a.credentialDisable(),
		a.credentialRemove(), a.credentialImport(), a.credentialExport())
}

func (a *app) credentialAdd() *cobra.Command {
	var user, kind, expires string
	cmd := a.action(&cobra.Command{
		Use:   "add --user ID --type TYPE [flags]",
		Short: "Store a credential encrypted and print its ID",
		Long: `Store a user's credential, with its two secrets encrypted, and print its ID.

It asks for the secrets, without showing them. If standard input is not a terminal it must be the JSON object

  {"api_key": "…", "secret_key": "…"}

A secret has at most 303 bytes, and may be empty.`,
		Example: `  credent credential add --user u-1 --type alpaca
  credent credential add --user u-1 --type alpaca --expires 2027-01-31 < alpaca.json`,
	}, func(ctx context.Context, _ []string) error {
		expiresAt, err := parseExpiry(expires)
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
			return a.addCredential(ctx, client, user, kind, expiresAt)
		})
	})
	cmd.Flags().StringVar(&user, "user", "", "the user's `ID`")
	cmd.Flags().StringVar(&kind, "type", "", "the broker or data `provider`, in lower case: alpaca, polygon, …")
	cmd.Flags().StringVar(&expires, "expires", "",
		"the `time` from which on the provider refuses it: 2027-01-31T16:00:00Z, or a date, from 00:00 UTC")
	return required(cmd, "user", "type")
}

func (a *app) addCredential(ctx context.Context, client *ent.Client, user, kind string, expiresAt *time.Time) error {
	if err := checkText("--user", user, "--type", kind); err != nil {
		return err
	}
	if kind != strings.ToLower(kind) {
		return messagef("--type: types are in lower case; use %q", strings.ToLower(kind))
	}
	// Checked before prompting for secrets, and again when storing them.
	if _, err := accountOf(ctx, client.UserAccount, user); err != nil {
		return err
	}
	apiKey, secretKey, err := a.readSecrets(ctx)
	if err != nil {
		return err
	}
	var id uuid.UUID
	err = inTx(ctx, client, func(tx *ent.Tx) error {
		account, err := accountOf(ctx, tx.UserAccount, user)
		if err != nil {
			return err
		}
		row, err := tx.UserCredential.Create().
			SetAccount(account).SetUserID(account.UserID).SetCredentialType(kind).
			SetAPIKey(apiKey).SetSecretKey(secretKey).SetNillableExpiresAt(expiresAt).
			Save(ctx)
		if ent.IsConstraintError(err) {
			return messagef("the database refused the credential; was the account of user %q removed?", user)
		}
		if err != nil {
			return invalidField(err)
		}
		id = row.ID
		return nil
	})
	if err != nil {
		return err
	}
	a.printf("%s\n", id)
	return nil
}

// parseExpiry parses an RFC 3339 time or a date. An empty text means no expiry.
func parseExpiry(text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	t, ok := parseTime(text)
	if !ok {
		return nil, usageError("--expires: " + wantTime)
	}
	return &t, nil
}

const wantTime = "want a time such as 2027-01-31T16:00:00Z, or a date such as 2027-01-31"

func parseTime(text string) (t time.Time, ok bool) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t, err = time.Parse(time.DateOnly, text)
	}
	// The years that Python's datetime supports and RFC 3339 can express.
	t = t.UTC().Truncate(time.Microsecond)
	return t, err == nil && t.Year() >= 1 && t.Year() <= 9999
}

// jsonCredential is an entry of credential list --json, and show --json without
// the secrets.
type jsonCredential struct {
	ID             uuid.UUID  `json:"id"`
	UserID         string     `json:"user_id"`
	CredentialType string     `json:"credential_type"`
	IsActive       bool       `json:"is_active"`
	ExpiresAt      *time.Time `json:"expires_at"`
	Expired        bool       `json:"expired"` // by this machine's clock
	CreatedAt      time.Time  `json:"created_at"`
	UpdatedAt      time.Time  `json:"updated_at"`
}

func jsonOf(row *ent.UserCredential) jsonCredential {
	return jsonCredential{
		ID: row.ID, UserID: row.UserID, CredentialType: row.CredentialType, IsActive: row.IsActive,
		ExpiresAt: utc(row.ExpiresAt), Expired: row.ExpiresAt != nil && time.Until(*row.ExpiresAt) <= 0,
		CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
	}
}

func (a *app) credentialDisable() *cobra.Command {
	return a.action(&cobra.Command{
		Use:     "disable ID",
		Short:   "Mark a credential as inactive",
		Example: `  credent credential disable 3f0c1f8e-52a8-4c2a-9d3b-0d8a4f1d2b6c`,
		Args:    arguments(1, "credential ID"),
	}, func(ctx context.Context, args []string) error {
		id, err := parseID(args[0])
		if err != nil {
			return err
		}
		return a.withWriter(ctx, func(_ *database, client *ent.Client) error {
			n, err := client.UserCredential.Update().Where(usercredential.ID(id)).SetIsActive(false).Save(ctx)
			if err != nil {
				return err
			}
			return a.done(n, "disabled", id)
		})
	})
}

func (a *app) credentialRemove() *cobra.Command {
	return a.action(&cobra.Command{
		Use:     "remove ID",
		Short:   "Remove a credential",
		Long:    "Remove a credential. This can't be undone; `credent credential disable` keeps it.",
		Example: `  credent credential remove 3f0c1f8e-52a8-4c2a-9d3b-0d8a4f1d2b6c`,
		Args:    arguments(1, "credential ID"),
	}, func(ctx context.Context, args []string) error {
		id, err := parseID(args[0])
		if err != nil {
			return err
		}
		return a.withWriter(ctx, func(_ *database, client *ent.Client) error {
			n, err := client.UserCredential.Delete().Where(usercredential.ID(id)).Exec(ctx)
			if err != nil {
				return err
			}
			return a.done(n, "removed", id)
		})
	})
}

// done reports what was done to a credential, or that it doesn't exist.
func (a *app) done(rows int, what string, id uuid.UUID) error {
	if rows == 0 {
		return unknownID(id)
	}
	a.printf("%s credential %s\n", what, id)
	return nil
}

func parseID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.UUID{}, messagef("%q is not a credential ID; `credent credential list` shows them", text)
	}
	return id, nil
}

func unknownID(id uuid.UUID) error {
	return messagef("there is no credential %s; `credent credential list` shows them", id)
}
