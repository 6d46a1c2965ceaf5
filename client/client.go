// Package client makes the client of the two tables from a connection pool or
// an ent driver of the caller's. It links no database driver: package credent
// does, and opens a URL.
//
// [New] and [FromDriver] are the ways to a client. What the client protects,
// and how, is in its [Config].
package client

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/clientconfig"
	"github.com/credent-go/credent/internal/entcrypt/hint"
	"github.com/credent-go/credent/internal/hooks"
	"github.com/credent-go/credent/internal/nilarg"
	"github.com/credent-go/credent/internal/replica"
	"github.com/credent-go/credent/internal/tenancy"
)

// Errors to be tested with errors.Is. Errors about secrets are in package
// encrypted.
var (
	// ErrConfig means that a [Config] contradicts itself.
	ErrConfig = clientconfig.ErrConfig
	// ErrTenantMismatch means that no account has both the ID and the user_id
	// that a credential was given: it's another user's account, or missing.
	ErrTenantMismatch = hooks.ErrTenantMismatch
	// ErrLayout means that the database has the layout citus, in which rows are
	// spread over nodes by user_id, and that a statement needs what only one
	// server can do; the error says what to do instead. See docs/citus.md.
	ErrLayout = hooks.ErrLayout
	// ErrConflictTarget means that an upsert names columns that are no unique
	// key, such as id alone in a database with hash partitions.
	ErrConflictTarget = hooks.ErrConflictTarget
	// ErrFormat means that a key doesn't look like a key of its credential
	// type; see [Config].
	ErrFormat = hooks.ErrFormat
	// ErrNoHooks means that the client was built past this package, around a
	// driver that is configured with an audit log or formats.
	ErrNoHooks = hooks.ErrNoHooks
	// ErrUnsupported means that [WithUser] was used with a database without
	// row-level security.
	ErrUnsupported = tenancy.ErrUnsupported
	// ErrNeedsTx means that the client's QueryContext was called with
	// [WithUser], or with row-level security required, outside of a
	// transaction.
	ErrNeedsTx = tenancy.ErrNeedsTx
	// ErrReader means that [Config.Reader] failed to answer a query. It unwraps
	// to the driver's error.
	ErrReader = replica.ErrReader
	// ErrNoSetUser means that the database has no function credent_set_user,
	// which [WithUser] needs, or that the role may not call it: apply the
	// migrations before services are deployed.
	ErrNoSetUser = tenancy.ErrNoSetUser
)

// New returns a client on a pool of the caller's. The dialect is ent's:
// dialect.Postgres or dialect.SQLite. Closing the client closes the pool. New
// doesn't connect; call [Check] next. The client is safe for concurrent use.
//
// Errors: [ErrConfig], encrypted.ErrDialect, encrypted.ErrNoColumn,
// encrypted.ErrInvalidStates, [ErrRowSecurity].
func New(db *sql.DB, entDialect string, cfg Config) (*ent.Client, error) {
	if err := nilarg.Check("the pool", db); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return FromDriver(entsql.OpenDB(entDialect, db), cfg)
}

// FromDriver returns a client on an ent driver that talks to the database.
// Drivers that go around the client's, such as caches, are in [Config.Wrap].
// The options are ent's, such as ent.Log and ent.Debug. Closing the client
// closes the driver. Errors are [New]'s.
func FromDriver(drv dialect.Driver, cfg Config, opts ...ent.Option) (*ent.Client, error) {
	wrapped, err := wrapDriver(drv, cfg)
	if err != nil {
		return nil, err
	}
	client := ent.NewClient(append(opts[:len(opts):len(opts)], ent.Driver(wrapped))...)
	hooks.Install(client, clientconfig.Config(cfg).Hooks())
	return client, nil
}

// WrapDriver returns the driver of a client that [FromDriver] would return, for
// a generated package of your own in the same database. A client of package ent
// on it keeps the rules between accounts and credentials. With an audit log or
// formats its writes are refused with [ErrNoHooks], since only FromDriver's
// client has these, and [Config.OnExpiring] is an [ErrConfig]. The driver is
// safe for concurrent use. Errors are [New]'s.
func WrapDriver(drv dialect.Driver, cfg Config) (dialect.Driver, error) {
	if cfg.OnExpiring != nil {
		return nil, fmt.Errorf("client: %w: OnExpiring needs a client of New or FromDriver", ErrConfig)
	}
	return wrapDriver(drv, cfg)
}

func wrapDriver(drv dialect.Driver, cfg Config) (dialect.Driver, error) {
	if err := nilarg.Check("the driver", drv); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if cfg.Migrate {
		return nil, fmt.Errorf("client: %w: Migrate needs credent.Open: call migrate.Apply, and leave it out",
			ErrConfig)
	}
	checked := clientconfig.Config(cfg)
	if err := checked.Check(); err != nil {
		return nil, err
	}
	wrapped, err := checked.Around(drv)
	if err != nil {
		return nil, err
	}
	if cfg.Wrap != nil {
		wrapped = cfg.Wrap(wrapped)
		if err := nilarg.Check("the driver that Wrap returns", wrapped); err != nil {
			return nil, fmt.Errorf("client: %w: %w", ErrConfig, err)
		}
	}
	return wrapped, nil
}

// ReadStates makes a client read the database's states, so that a service
// learns when it starts that it disagrees with them, with
// encrypted.ErrStateMismatch, and not with its first statement; or that it
// lacks the trail that the database requires, with encrypted.ErrTrailRequired.
func ReadStates(ctx context.Context, client *ent.Client) error {
	c, _, err := asked(ctx, client)
	if err == nil && c.LacksTrail {
		err = fmt.Errorf("client: %w", encrypted.ErrTrailRequired)
	}
	return err
}

// asked returns what the client's driver knows, and false for a client without
// one.
func asked(ctx context.Context, client *ent.Client) (hint.Client, bool, error) {
	if client == nil || client.UserCredential == nil {
		return hint.Client{}, false, errors.New("the client is nil, or no constructor made it")
	}
	return hint.ClientOf(replica.WithPrimary(ctx), func(ctx context.Context) error {
		_, err := client.UserCredential.Query().Limit(1).IDs(ctx)
		return err
	})
}
