package cli

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

func (a *app) encrypt() *cobra.Command {
	w := &rewriting{name: "encrypt", run: rotate.Encrypt, done: "encrypted", todo: "to encrypt"}
	var checkUnique, indexOnly bool
	cmd := a.rewriting(w, &cobra.Command{
		Use:   "encrypt [flags]",
		Short: "Encrypt what is stored as plaintext, in place",
		Long: `Replace every value of the encrypted columns that is still plaintext with a token under ENCRYPTION_KEY. It needs
only the tables, not the migrations, which refuse plaintext.

Services may read and write meanwhile, if all of them read both: their state of encryption is write. A secret that somebody
changes meanwhile is left to them. It can be stopped at any moment and started again. updated_at stays the same. NULL stays
NULL, an empty text is encrypted. Values that begin like a token and do not open, and plaintext that cannot be stored, are left
as they are and listed. At the end it validates a constraint that was added as NOT VALID.

With --check-unique it writes nothing, and lists the rows that have the same secret in a column with a unique blind index, or in
the columns of --column: tokens under every key, and plaintext. Exit code 1 if there are any. Encrypting then refuses to begin.

With --index-only it fills in the digests of blind indexes, for tokens and plaintext, and changes neither: run it before the
first client that reads both starts, and again if a client says that rows have no digest.

Then require encryption: docs/encrypting.md has the order.`,
		Example: `  credent encrypt --dry-run
  credent encrypt --check-unique --column user_credentials.api_key
  credent encrypt --index-only
  credent encrypt --column user_credentials.api_key
  credent verify`,
	}, func() error {
		switch {
		case checkUnique && w.quarantine.path != "":
			return usageError("--check-unique leaves nothing as it is; use it without --quarantine")
		case checkUnique && indexOnly:
			return usageError("give --check-unique or --index-only, not both")
		case checkUnique:
			w.instead = func(ctx context.Context) error { return a.checkUnique(ctx, w) }
		case indexOnly:
			w.name, w.run, w.done, w.todo = "encrypt --index-only", rotate.FillIndexes, "indexed", "to index"
		}
		return nil
	})
	cmd.Flags().BoolVar(&checkUnique, "check-unique", false, "list the rows that have the same secret, and write "+
		"nothing")
	cmd.Flags().BoolVar(&indexOnly, "index-only", false, "fill in the digests of blind indexes, and encrypt nothing")
	return cmd
}

// checkUnique lists duplicates.
func (a *app) checkUnique(ctx context.Context, w *rewriting) error {
	ring, err := keyring.FromEnv()
	if err != nil {
		return err
	}
	return withTables(ctx, func(db *database) error {
		err := rotate.CheckUnique(ctx, db.DB, ring, w.cfg)
		found := &rotate.DuplicatesError{Duplicates: []rotate.Duplicate{}}
		if err != nil && !errors.As(err, &found) {
			return err
		}
		if w.asJSON {
			return errors.Join(a.printJSON(struct {
				Duplicates []rotate.Duplicate `json:"duplicates"`
			}{found.Duplicates}), err)
		}
		for i, d := range found.Duplicates {
			if i == maxShown {
				a.printf("and %d more, which --json lists\n", len(found.Duplicates)-i)
				break
			}
			rows := d.Rows[:min(len(d.Rows), maxShown)]
			for i, row := range rows {
				rows[i] = printable(row)
			}
			a.printf("%s.%s: %s have the same secret: %s\n", d.Table, d.Column, count(len(d.Rows), "row"),
				strings.Join(rows, ", "))
		}
		if err == nil {
			a.printf("no duplicates in %s\n", checkedColumns(w.cfg.Columns))
		}
		return err
	})
}

// checkedColumns names the columns that were checked.
func checkedColumns(named []string) string {
	if len(named) > 0 {
		return strings.Join(named, ", ")
	}
	return "columns with a unique blind index; Credent's own tables have none, so name others with --column"
}

func (a *app) decrypt() *cobra.Command {
	var confirmed bool
	cmd := a.rewriting(&rewriting{
		name: "decrypt", run: rotate.DecryptToPlaintext, done: "decrypted",
		todo: "to decrypt",
	}, &cobra.Command{
		Use:   "decrypt --store-plaintext [flags]",
		Short: "Go back to storing plaintext, in place",
		Long: `Replace every token in the encrypted columns with its plaintext, to undo "credent encrypt". Anyone who reads the
database, its backups or its logs can then read the secrets. To see a secret, use "credent credential show".

Services may read and write meanwhile, if the state of encryption is accept. Tokens that do not open are left as they are and
listed. A constraint that allows only tokens has to be dropped first; the command says which, and prints the statement. SQLite
cannot drop one.`,
		Example: `  credent decrypt --store-plaintext --dry-run`,
	}, func() error {
		if !confirmed {
			return usageError("it makes every secret readable for anyone who reads the database; add " +
				"--store-plaintext if that is meant")
		}
		return nil
	})
	cmd.Flags().BoolVar(&confirmed, "store-plaintext", false, "yes, store the secrets readable for anyone who reads "+
		"the database")
	return cmd
}
