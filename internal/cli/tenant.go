package cli

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

func (a *app) tenant() *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "tenant",
		Short: "List the keys of tenants, and destroy one with all it protects",
		Long: `Services with the state write or require of tenant-keys keep each user's secrets under the user's own key, which
is stored in the database, encrypted under ENCRYPTION_KEY. Once it is destroyed, nobody can read the user's secrets.`,
	}, a.tenantList(), a.tenantDestroy())
}

func (a *app) tenantList() *cobra.Command {
	var destroyed bool
	l := &listing{app: a, head: []string{"TENANT", "CREATED", "KEY"}}
	cmd := a.action(&cobra.Command{
		Use:   "list [flags]",
		Short: "List the tenants that have or had a key of their own",
		Long: `List the tenants that have a key of their own, or a destroyed one. It needs no key, and little memory however
many there are.`,
		Example: `  credent tenant list
  credent tenant list --limit 100 --after u-1
  credent tenant list --destroyed --json   # to destroy them again after a restore`,
	}, func(ctx context.Context, _ []string) error {
		if err := l.check(); err != nil {
			return err
		}
		return withTables(ctx, func(db *database) error { return l.tenants(ctx, db, destroyed) })
	})
	cmd.Flags().BoolVar(&destroyed, "destroyed", false, "only tenants with a destroyed key")
	l.listFlags.add(cmd, "this `ID`")
	return cmd
}

func (l *listing) tenants(ctx context.Context, db *database, destroyed bool) error {
	next, stop := iter.Pull2(rotate.AllTenants(ctx, db.DB, l.after))
	defer stop()
	return list(ctx, l,
		func(_ *rotate.Tenant, n int) (page []rotate.Tenant, err error) {
			for len(page) < n {
				t, err, ok := next()
				if !ok || err != nil {
					return page, err
				}
				if !destroyed || t.DestroyedAt != nil {
					page = append(page, t)
				}
			}
			return page, nil
		},
		func(t rotate.Tenant) ([]string, any) {
			state := "in use"
			if t.DestroyedAt != nil {
				state = "destroyed " + stamp(*t.DestroyedAt)
			}
			return []string{printable(t.ID), stamp(t.CreatedAt), state}, t
		},
		func(t rotate.Tenant) string { return t.ID }, "there are none")
}

func (a *app) tenantDestroy() *cobra.Command {
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "destroy USER [flags]",
		Short: "Destroy the key of a user, so that nobody can read the user's secrets",
		Long: `Destroy the key of a tenant, named by the user's ID, so that nobody can ever read the user's secrets: in the
database, and in every copy that lacks the key. The rows stay. Secrets that are not under the key are overwritten. This can't be
undone.

It asks for the user's ID again, unless --yes is given. Services that use the key lose it within ` +
			client.TenantKeyLifetime.String() + `, and refuse to store secrets of the user from then on. Earlier backups and other copies
still have the key, encrypted under the ENCRYPTION_KEY of their time: delete them, or retire that key.`,
		Example: `  credent tenant destroy u-1
  credent tenant destroy u-1 --yes --json`,
	}
	cmd.Args = arguments(1, "user ID")
	a.action(cmd, func(ctx context.Context, args []string) error {
		ring, err := keyring.FromEnv()
		if err != nil {
			return err
		}
		if !yes {
			err := a.confirm(ctx, "To destroy the key, type the user's ID again: ", "the same ID", args[0])
			if err != nil {
				return err
			}
		}
		return withTables(ctx, func(db *database) error {
			ctx, err := db.trailed(ctx)
			if err != nil {
				return err
			}
			done, err := rotate.DestroyTenant(ctx, db.DB, ring, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(done)
			}
			a.printDestroyed(done)
			return nil
		})
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// confirm makes the user type a name again. It only asks at a terminal.
func (a *app) confirm(ctx context.Context, question, what, name string) error {
	if !isTerminal(a.in) {
		return messagef("there is no way back, and nobody to ask: give --yes")
	}
	a.notef("This can't be undone. %s", question)
	line, err := interruptible(ctx, func() ([]byte, error) { return bufio.NewReader(a.in).ReadBytes('\n') })
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil || strings.TrimRight(string(line), "\r\n") != name:
		return messagef("that is not %s; nothing was done", what)
	}
	return nil
}

func (a *app) printDestroyed(done *rotate.Destroyed) {
	if done.Again {
		a.printf("the key of user %s was destroyed before, %s\n", printable(done.Tenant), stamp(done.At))
	} else {
		a.printf("destroyed the key of user %s\n", printable(done.Tenant))
	}
	a.printf("%s in %s cannot be read any more", count(int(done.Secrets), "secret"), count(int(done.Rows), "row"))
	if done.Overwritten > 0 {
		a.printf("; %d of them were not under the key, and were overwritten", done.Overwritten)
	}
	a.printf("\n")
	if !done.Again {
		a.printf("services that have the key in memory lose it until %s; backups made before still have it\n",
			stamp(done.At.Add(client.TenantKeyLifetime+time.Second)))
		if len(done.Outlives) > 0 {
			a.printf("digests of %s are gone, but were under the keyring: whoever has it and a copy from before can "+
				"try secrets out\n", strings.Join(done.Outlives, ", "))
		}
	}
}

// clientConfig returns the configuration of a client with a keyring. If the
// database's states don't say which keys tokens are under, the client uses
// tenants' keys if there are any.
func (db *database) clientConfig(ctx context.Context, ring *keyring.Keyring) (client.Config, error) {
	cfg := client.Config{Keyring: ring, Trail: db.opened}
	var (
		any   bool
		known states.Table
	)
	err := db.try(ctx, func(ctx context.Context) (err error) {
		if any, err = db.hasTenantKeys(ctx); any && err == nil {
			known, err = db.states(ctx)
		}
		return err
	})
	if err != nil || !any {
		return cfg, err
	}
	for _, c := range encrypted.Columns() {
		if set := known.Given(&c); c.Tenant != "" && set.TenantKeys == states.Unset && set.Encryption == states.Unset {
			cfg.States = append(cfg.States, encrypted.ColumnStates{Column: c, TenantKeys: encrypted.Write})
		}
	}
	return cfg, nil
}

// hasTenantKeys reports whether a tenant has, or had, its own key.
func (db *database) hasTenantKeys(ctx context.Context) (any bool, err error) {
	if err := db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+tenantkey.Table+")").Scan(&any); err != nil {
		return false, fmt.Errorf("keys of tenants: %w", err)
	}
	return any, nil
}
