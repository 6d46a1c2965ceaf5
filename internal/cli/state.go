package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

func (a *app) state() *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "state",
		Short: "Show and set what encrypted columns accept and write",
		Long: `Each encrypted column has one state for each protection: encryption, binding (a token opens only in its user's
rows), and tenant-keys (each user's secrets are under the user's own key). In the order of a rollout:

  off      reads and writes only the old way
  accept   reads both ways, and writes the old one
  write    reads both ways, and writes the new one
  require  reads and writes only the new way

States in the database apply to every service, to this command, and to anyone who changes a user_id with SQL.`,
	}, a.stateList(), a.stateSet())
}

// columnState is a line of state list.
type columnState struct {
	Column     string            `json:"column"`
	Protection states.Protection `json:"protection"`
	State      states.State      `json:"state"`
	Set        bool              `json:"set"`        // stored in the database
	ChangedAt  *time.Time        `json:"changed_at"` // UTC; nil if it isn't set
}

func (a *app) stateList() *cobra.Command {
	var asJSON bool
	cmd := a.action(&cobra.Command{
		Use:   "list [flags]",
		Short: "List the states of every encrypted column",
		Long: `List the states of every encrypted column. One that isn't set in the database is the default, unless a service's
own configuration says otherwise. It needs no key.`,
		Example: `  credent state list --json`,
	}, func(ctx context.Context, _ []string) error {
		return withTables(ctx, func(db *database) error {
			stored, err := rotate.States(ctx, db.DB)
			if err != nil {
				return err
			}
			list := statesOf(stored)
			if asJSON {
				return a.printJSON(list)
			}
			rows := [][]string{{"COLUMN", "PROTECTION", "STATE", "SINCE"}}
			for _, s := range list {
				since := "default"
				if s.Set {
					since = stamp(*s.ChangedAt)
				}
				rows = append(rows, []string{s.Column, s.Protection.String(), s.State.String(), since})
			}
			return a.printTable(rows)
		})
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func statesOf(stored []rotate.StoredState) (list []columnState) {
	for _, c := range encrypted.Columns() {
		for _, p := range states.Protections {
			if p != states.Encryption && c.Tenant == "" {
				continue
			}
			s := columnState{Column: c.String(), Protection: p, State: states.Default(&c).Of(p)}
			for _, in := range stored {
				if in.Column == s.Column && in.Protection == p {
					s.State, s.Set, s.ChangedAt = in.State, true, &in.ChangedAt
				}
			}
			list = append(list, s)
		}
	}
	return list
}

func (a *app) stateSet() *cobra.Command {
	var asJSON, inUse bool
	cmd := &cobra.Command{
		Use:   "set TABLE.COLUMN PROTECTION STATE [flags]",
		Short: "Set a state of an encrypted column",
		Long: `Set a state of an encrypted column in the database. Services follow it within ` + client.StatesLifetime.String() +
			`, without a restart; one with a different configuration does not start.

A state changes one step at a time, and only once all services know the last step. A step to require is refused as long as a
secret is stored the old way, a step to off as long as one is stored the new way: run "credent rotate" first, or for encryption
"credent encrypt" or "credent decrypt --store-plaintext".

The first state is the default or adjacent to it. With --in-use it can be any state that every service already has in its own
configuration.`,
		Example: `  credent state set user_credentials.api_key binding accept
  credent state set user_credentials.api_key binding require --in-use`,
	}
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 3 {
			return usageError("give TABLE.COLUMN, a protection and a state")
		}
		return nil
	}
	a.action(cmd, func(ctx context.Context, args []string) error {
		c, err1 := column.Find(args[0])
		protection, err2 := states.ParseProtection(args[1])
		to, err3 := states.ParseState(args[2])
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		ring, err := keyring.FromEnv()
		if err != nil {
			return err
		}
		return withTables(ctx, func(db *database) error {
			ctx, err := db.trailed(ctx)
			if err != nil {
				return err
			}
			from, err := rotate.SetState(ctx, db.DB, ring, rotate.StateChange{
				Column: c, Protection: protection,
				To: to, InUse: inUse,
			})
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(struct {
					Column     string            `json:"column"`
					Protection states.Protection `json:"protection"`
					From       states.State      `json:"from"`
					State      states.State      `json:"state"`
				}{args[0], protection, from, to})
			}
			if from == to {
				a.printf("%s of %s is %s already\n", protection, args[0], to)
				return nil
			}
			a.printf("%s of %s is %s now, and was %s; every service follows within %s\n", protection, args[0], to, from,
				client.StatesLifetime)
			return nil
		})
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&inUse, "in-use", false, "every service has this state in its own configuration already")
	return cmd
}
