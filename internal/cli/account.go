package cli

import (
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
)

func (a *app) account() *cobra.Command {
	return a.group(&cobra.Command{Use: "account", Short: "Add, list, move and remove user accounts"},
		a.accountAdd(), a.accountList(), a.accountMove(), a.accountRemove())
}

func (a *app) accountAdd() *cobra.Command {
	var user, name string
	cmd := a.action(&cobra.Command{
		Use:     "add --user ID --name NAME",
		Short:   "Add a user account and print its row ID",
		Example: `  credent account add --user u-1 --name "Ada Lovelace"`,
	}, func(ctx context.Context, _ []string) error {
		return a.withWriter(ctx, func(_ *database, client *ent.Client) error {
			if err := checkText("--user", user, "--name", name); err != nil {
				return err
			}
			row, err := client.UserAccount.Create().SetUserID(user).SetAccountName(name).Save(ctx)
			if err != nil {
				return accountError(user, err)
			}
			a.printf("%s\n", row.ID)
			return nil
		})
	})
	cmd.Flags().StringVar(&user, "user", "", "the user's `ID` in the system that signs users in")
	cmd.Flags().StringVar(&name, "name", "", "a `name` for people")
	return required(cmd, "user", "name")
}

// accountError explains why an account could not get a user's ID.
func accountError(user string, err error) error {
	if ent.IsConstraintError(err) {
		return messagef("there is an account of user %q already; `credent account list` shows them", user)
	}
	return invalidField(err)
}

// jsonAccount is one entry of account list --json.
type jsonAccount struct {
	ID          uuid.UUID `json:"id"`
	UserID      string    `json:"user_id"`
	AccountName string    `json:"account_name"`
	IsActive    bool      `json:"is_active"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

func (a *app) accountList() *cobra.Command {
	l := &listing{app: a, head: []string{"USER", "NAME", "ACTIVE", "CREATED"}}
	cmd := a.action(&cobra.Command{
		Use:   "list [flags]",
		Short: "List the user accounts",
		Long: `List the user accounts by the user's ID. It reads page by page and prints each at once, so it needs little memory
however many there are. Accounts stored meanwhile may or may not be in the list.`,
		Example: `  credent account list
  credent account list --limit 100 --after u-1
  credent account list --json | jq -r .[].user_id`,
	}, func(ctx context.Context, _ []string) error {
		if err := l.check(); err != nil {
			return err
		}
		return a.withClient(ctx, nil, func(client *ent.Client) error { return l.accounts(ctx, client) })
	})
	l.listFlags.add(cmd, "this user `ID`")
	return cmd
}

func (l *listing) accounts(ctx context.Context, client *ent.Client) error {
	return list(ctx, l,
		func(last **ent.UserAccount, n int) ([]*ent.UserAccount, error) {
			query := client.UserAccount.Query().Order(useraccount.ByUserID()).Limit(n)
			switch {
			case last != nil:
				query.Where(useraccount.UserIDGT((*last).UserID))
			case l.after != "":
				query.Where(useraccount.UserIDGT(l.after))
			}
			return query.All(ctx)
		},
		func(row *ent.UserAccount) ([]string, any) {
			cells := []string{
				printable(row.UserID), printable(row.AccountName), yesNo(row.IsActive), stamp(row.CreatedAt),
			}
			return cells, jsonAccount{
				ID: row.ID, UserID: row.UserID, AccountName: row.AccountName, IsActive: row.IsActive,
				CreatedAt: row.CreatedAt.UTC(), UpdatedAt: row.UpdatedAt.UTC(),
			}
		},
		func(row *ent.UserAccount) string { return row.UserID },
		"there are no accounts; add one with `credent account add`")
}

func (a *app) accountMove() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "move USER --user NEW-ID",
		Short: "Move a user account with all its credentials to another user ID",
		Long: `Give the account of a user, named by the user's ID, another user ID. Its credentials follow; they are neither
decrypted nor rewritten, except for secrets that are bound to the user or under the user's key ("credent state list"), which are
re-encrypted.`,
		Example: `  credent account move u-1 --user u-2`,
	}
	cmd.Args = arguments(1, "user ID")
	a.action(cmd, func(ctx context.Context, args []string) error {
		return a.withWriter(ctx, func(db *database, client *ent.Client) error {
			if err := checkText("--user", user); err != nil {
				return err
			}
			if err := db.checkMovable(ctx, args[0]); err != nil {
				return err
			}
			moved := 0
			err := inTx(ctx, client, func(tx *ent.Tx) error {
				account, err := accountOf(ctx, tx.UserAccount, args[0])
				if err != nil {
					return err
				}
				if err := tx.UserAccount.UpdateOne(account).SetUserID(user).Exec(ctx); err != nil {
					return accountError(user, err)
				}
				moved, err = tx.UserCredential.Query().Where(usercredential.UserAccountID(account.ID)).Count(ctx)
				return err
			})
			if err != nil {
				return err
			}
			a.printf("moved the account of user %s and %s to user %s\n", printable(args[0]), count(moved, "credential"),
				printable(user))
			return nil
		})
	})
	cmd.Flags().StringVar(&user, "user", "", "its new `ID` in the system that signs users in")
	return required(cmd, "user")
}

func (a *app) accountRemove() *cobra.Command {
	return a.action(&cobra.Command{
		Use:   "remove USER",
		Short: "Remove a user account with all its credentials",
		Long: "Remove the account of a user, given by the user's ID, with all its credentials. This can't be " +
			"undone.",
		Example: `  credent account remove u-1`,
		Args:    arguments(1, "user ID"),
	}, func(ctx context.Context, args []string) error {
		user, removed := args[0], 0
		return a.withWriter(ctx, func(_ *database, client *ent.Client) error {
			err := inTx(ctx, client, func(tx *ent.Tx) error {
				account, err := accountOf(ctx, tx.UserAccount, user)
				if err != nil {
					return err
				}
				// The database would delete them too, but not report their
				// number.
				removed, err = tx.UserCredential.Delete().Where(usercredential.UserAccountID(account.ID)).Exec(ctx)
				if err != nil {
					return err
				}
				return tx.UserAccount.DeleteOne(account).Exec(ctx)
			})
			if err != nil {
				return err
			}
			a.printf("removed the account of user %s and %s\n", printable(user), count(removed, "credential"))
			return nil
		})
	})
}

// accountOf returns a user's account.
func accountOf(ctx context.Context, accounts *ent.UserAccountClient, user string) (*ent.UserAccount, error) {
	account, err := accounts.Query().Where(useraccount.UserID(user)).Only(ctx)
	if ent.IsNotFound(err) {
		return nil, messagef("there is no account of user %q; `credent account list` shows them, "+
			"`credent account add` adds one", user)
	}
	return account, err
}

// checkText refuses flags that are not UTF-8, because SQLite would store them
// but Postgres and JSON would not. It takes the flags' names and values
// alternately.
func checkText(flags ...string) error {
	for i := 0; i+1 < len(flags); i += 2 {
		if !utf8.ValidString(flags[i+1]) {
			return messagef("%s is not UTF-8 text", flags[i])
		}
	}
	return nil
}

// textFields lists the flags for fields that package ent checks, and their
// sizes in characters.
var textFields = map[string]struct {
	flag string
	size int
}{
	useraccount.FieldUserID:            {"--user", 255},
	useraccount.FieldAccountName:       {"--name", 255},
	usercredential.FieldCredentialType: {"--type", 50},
}

// invalidField rewords an error of package ent's validators for the command
// line.
func invalidField(err error) error {
	var invalid *ent.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	if field, ok := textFields[invalid.Name]; ok {
		return messagef("%s must have 1 to %d characters", field.flag, field.size)
	}
	return err
}
