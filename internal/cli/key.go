package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/keyring"
)

func (a *app) key() *cobra.Command {
	return a.group(&cobra.Command{Use: "key", Short: "Make, list and retire encryption keys"},
		a.keyGenerate(), a.keyList(), a.keyRetire())
}

func (a *app) keyGenerate() *cobra.Command {
	return a.action(&cobra.Command{
		Use:   "generate",
		Short: "Print a new encryption key",
		Long: `Print a new random key: 32 bytes as 44 characters of base64url, which any Fernet library reads.

Anyone with the key can read every secret, and nobody can without it. Keep it in a secret store, apart from the database and its
backups.`,
		Example: `  export ENCRYPTION_KEY=$(credent key generate)`,
	}, func(context.Context, []string) error {
		a.printf("%s\n", keyring.GenerateKey())
		return nil
	})
}
