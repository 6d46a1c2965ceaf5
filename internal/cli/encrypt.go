package cli

import (
	"github.com/spf13/cobra"

	"github.com/credent-go/credent/rotate"
)

func (a *app) encrypt() *cobra.Command {
	w := &rewriting{name: "encrypt", run: rotate.Encrypt, done: "encrypted", todo: "to encrypt"}
	cmd := a.rewriting(w, &cobra.Command{
		Use:   "encrypt [flags]",
		Short: "Encrypt what is stored as plaintext, in place",
		Long: `Replace every value of the encrypted columns that is still plaintext by a token under ENCRYPTION_KEY. Only the tables have
to be there, not the migrations, which refuse plaintext.

Services may read and write meanwhile, if all of them read both: credent.AllowPlaintext. A secret that somebody changes is
left to them. It can be stopped at any moment and started again. updated_at stays as it is. NULL stays NULL, an empty
text is encrypted. What begins like a token and does not open, and plaintext that cannot be stored, is left as it is and
listed. At the end a constraint that was added as NOT VALID is validated.

Then close the window: docs/encrypting.md has the order.`,
		Example: `  credent encrypt --dry-run
  credent encrypt --column user_credentials.api_key
  credent verify`,
	}, nil)
	cmd.Flags().StringArrayVar(&w.cfg.Bind, "bind", nil, "bind what is made for this `TABLE.COLUMN`, as docs/binding.md says; may be repeated")
	return cmd
}

func (a *app) decrypt() *cobra.Command {
	var confirmed bool
	cmd := a.rewriting(&rewriting{name: "decrypt", run: rotate.DecryptToPlaintext, done: "decrypted", todo: "to decrypt"}, &cobra.Command{
		Use:   "decrypt --store-plaintext [flags]",
		Short: "Go back to storing plaintext, in place",
		Long: `Replace every token of the encrypted columns by its plaintext: the way back from "credent encrypt". Whoever reads the
database, its backups or its logs can read the secrets from then on. To see a secret, use "credent credential show".

Services may read and write meanwhile, if all of them have credent.AllowPlaintext. They go on to encrypt what they write, so
run it once more when the last of them is gone. Tokens that do not open are left as they are and listed. A constraint that
allows nothing but tokens is to be dropped first; the command says which, and the statement. SQLite cannot drop one.`,
		Example: `  credent decrypt --store-plaintext --dry-run`,
	}, func() error {
		if !confirmed {
			return usageError("it makes every secret readable for whoever reads the database; add --store-plaintext if that is meant")
		}
		return nil
	})
	cmd.Flags().BoolVar(&confirmed, "store-plaintext", false, "yes, store the secrets readable for whoever reads the database")
	return cmd
}
