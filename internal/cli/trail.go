package cli

import (
	"context"
	"errors"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/principal"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// trailTimeout is how long a finished command waits to write its last entries.
const trailTimeout = 30 * time.Second

// actorName returns the actor of a command's entries.
func actorName() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return "command:" + name
}

// asOperator returns the context for a command's entries.
func asOperator(ctx context.Context) context.Context { return principal.WithActor(ctx, actorName()) }

// trail opens the audit trail if the database requires one, and returns nil
// otherwise. An entry is stored before the command continues. Closing the
// database closes the trail.
func (db *database) trail(ctx context.Context) (*audit.Trail, error) {
	if db.opened != nil {
		return db.opened, nil
	}
	err := db.try(ctx, func(ctx context.Context) error {
		required, err := rotate.RequiresTrail(ctx, db.DB, db.dialect)
		if err == nil && required {
			_, err = db.openTrail(ctx)
		}
		return err
	})
	return db.opened, err
}

// openTrail opens the trail even if it isn't required.
func (db *database) openTrail(ctx context.Context) (*audit.Trail, error) {
	ring, err := keyring.FromEnv()
	if errors.Is(err, keyring.ErrNoKey) {
		return nil, messagef("the database requires an audit trail, and ENCRYPTION_KEY signs its entries: set it")
	}
	if err != nil {
		return nil, err
	}
	db.opened, err = audit.Open(ctx, db.DB, db.dialect, audit.Config{Keyring: ring, Mode: audit.Sync})
	return db.opened, err
}

// checkSigner refuses to begin a trail whose entries the database's own key
// does not verify.
func (db *database) checkSigner(ctx context.Context) error {
	ring, err := keyring.FromEnv()
	if err != nil {
		return err
	}
	return db.checkKey(ctx, ring)
}

// trailed returns a context with the trail, for package rotate.
func (db *database) trailed(ctx context.Context) (context.Context, error) {
	trail, err := db.trail(ctx)
	if err != nil || trail == nil {
		return ctx, err
	}
	return rotate.WithTrail(ctx, trail), nil
}

// Close closes the trail and the pool.
func (db *database) Close() error {
	var err error
	if db.opened != nil {
		ctx, cancel := context.WithTimeout(context.Background(), trailTimeout)
		defer cancel()
		err = db.opened.Close(ctx)
	}
	return errors.Join(err, db.DB.Close())
}

// tell adds an audit entry, if the database requires a trail.
func (db *database) tell(ctx context.Context, e audit.Entry) error {
	trail, err := db.trail(ctx)
	if err != nil || trail == nil {
		return err
	}
	if e.Actor, _ = principal.Actor(ctx); e.Actor == "" {
		e.Actor = actorName()
	}
	return trail.Add(context.WithoutCancel(ctx), e)
}

// withWriter is withClient for a command that writes, and needs a key only for
// the trail.
func (a *app) withWriter(ctx context.Context, f func(db *database, client *ent.Client) error) error {
	return withDatabase(ctx, func(db *database) error {
		if err := db.checkMigrations(ctx); err != nil {
			return err
		}
		if _, err := db.trail(ctx); err != nil {
			return err
		}
		return a.withClientOn(ctx, db, nil, f)
	})
}

// auditSwitch returns the commands audit on and audit off.
func (a *app) auditSwitch(on bool) *cobra.Command {
	use, short := "off", "Let clients do without an audit trail"
	long := `Let clients work without an audit trail. The entries stay, and this change is the last one certain to be recorded.`
	if on {
		use, short = "on", "Require an audit trail of every client"
		long = `Require an audit trail of every client of the database: of this command, and of services, by Config.Trail. Services follow
within ` + client.StatesLifetime.String() + `; one without a trail then neither reveals nor changes anything, and does not
start. It needs ENCRYPTION_KEY.`
	}
	return a.action(&cobra.Command{
		Use: use, Short: short, Long: long, Example: "  credent audit " + use,
	}, func(ctx context.Context, _ []string) error {
		return withTables(ctx, func(db *database) error {
			if on {
				if err := db.checkSigner(ctx); err != nil {
					return err
				}
			}
			trail, err := db.openTrail(ctx)
			if err != nil {
				return err
			}
			before, err := rotate.SetTrail(rotate.WithTrail(ctx, trail), db.DB, on)
			switch {
			case err != nil:
				return err
			case before == on:
				a.printf("the audit trail is %s already\n", use)
			default:
				a.printf("the audit trail is %s now; every service follows within %s\n", use, client.StatesLifetime)
			}
			return nil
		})
	})
}
