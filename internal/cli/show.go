package cli

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
)

func (a *app) credentialShow() *cobra.Command {
	var reveal, asJSON bool
	cmd := a.action(&cobra.Command{
		Use:   "show ID [flags]",
		Short: "Show a credential; its secrets only with --reveal",
		Long: `Show one credential. Its secrets print as [REDACTED], and need no key, unless --reveal is given.

A text with invisible characters is printed in quotes and with escapes; --json has it exactly.`,
		Example: `  credent credential show 3f0c1f8e-52a8-4c2a-9d3b-0d8a4f1d2b6c
  credent credential show 3f0c1f8e-52a8-4c2a-9d3b-0d8a4f1d2b6c --reveal --json`,
		Args: arguments(1, "credential ID"),
	}, func(ctx context.Context, args []string) error {
		id, err := parseID(args[0])
		if err != nil {
			return err
		}
		var ring *keyring.Keyring
		if reveal {
			if ring, err = keyring.FromEnv(); err != nil {
				return err
			}
		}
		return a.withClient(ctx, ring, func(client *ent.Client) error {
			row, err := client.UserCredential.Query().Where(usercredential.ID(id)).Only(ctx)
			if ent.IsNotFound(err) {
				return unknownID(id)
			}
			if err != nil {
				return err
			}
			apiKey, secretKey := row.APIKey.String(), row.SecretKey.String()
			if reveal {
				if apiKey, secretKey, err = revealed(row); err != nil {
					return err
				}
			}
			if asJSON {
				return a.printCredentialJSON(row, apiKey, secretKey)
			}
			return a.printCredential(row, apiKey, secretKey)
		})
	})
	cmd.Flags().BoolVar(&reveal, "reveal", false, "decrypt the secrets and print them")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// revealed opens both secrets, or neither.
func revealed(row *ent.UserCredential) (apiKey, secretKey string, err error) {
	if apiKey, err = row.APIKey.Reveal(); err != nil {
		return "", "", err
	}
	if secretKey, err = row.SecretKey.Reveal(); err != nil {
		return "", "", err
	}
	return apiKey, secretKey, nil
}

func (a *app) printCredential(row *ent.UserCredential, apiKey, secretKey string) error {
	for _, line := range [][2]string{
		{"ID", row.ID.String()},
		{"User", printable(row.UserID)},
		{"Type", printable(row.CredentialType)},
		{"Active", yesNo(row.IsActive)},
		{"Expires", stampOr(row.ExpiresAt, "never")},
		{"Created", stamp(row.CreatedAt)},
		{"Updated", stamp(row.UpdatedAt)},
		{"API key", printable(apiKey)},
		{"Secret key", printable(secretKey)},
	} {
		a.printf("%-12s%s\n", line[0], line[1])
	}
	return nil
}

func (a *app) printCredentialJSON(row *ent.UserCredential, apiKey, secretKey string) error {
	for _, secret := range []struct{ column, plaintext string }{
		{usercredential.FieldAPIKey, apiKey},
		{usercredential.FieldSecretKey, secretKey},
	} {
		if !utf8.ValidString(secret.plaintext) {
			return fmt.Errorf("%s of %s is not UTF-8 text, which JSON must be; show it without --json",
				secret.column, row.ID)
		}
	}
	return a.printJSON(struct {
		jsonCredential
		APIKey    string `json:"api_key"`
		SecretKey string `json:"secret_key"`
	}{jsonOf(row), apiKey, secretKey})
}
