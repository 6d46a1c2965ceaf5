// Package hooks has the hooks of an ent client: the rules between accounts and
// credentials, the formats of broker keys, and the audit log. Rules that must
// hold for every writer are in the database as well.
package hooks

import (
	"context"
	"log/slog"
	"time"

	"entgo.io/ent"

	credent "github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/hook"
)

// Config configures the hooks that aren't rules.
type Config struct {
	// Audit, if not nil, gets a record of each mutation of a credential or
	// account.
	Audit *slog.Logger
	// Formats are the formats of broker keys to check.
	Formats []Format
	// FormatWarnings gets a record of each key that doesn't have its format. If
	// nil, such keys are refused.
	FormatWarnings *slog.Logger
	// Expiring, if not nil, sees the credentials that queries return.
	Expiring ent.Interceptor
}

// Install adds the hooks to a client, the audit log outermost. They run before
// the caller's hooks, which see the fields that the rules fill in.
func Install(client *credent.Client, cfg Config) {
	client.Use(mark, layoutOfMutations)
	client.Intercept(ent.InterceptFunc(layoutOfQueries))
	if cfg.Expiring != nil {
		client.UserCredential.Intercept(cfg.Expiring)
	}
	if cfg.Audit != nil {
		a := auditor{cfg.Audit}
		client.UserCredential.Use(a.hook)
		client.UserAccount.Use(a.accountHook)
	}
	client.UserCredential.Use(credentialRules)
	client.UserAccount.Use(accountTimes, deleteOrphans, rebind)
	if len(cfg.Formats) > 0 {
		client.UserCredential.Use(formatChecker{cfg.Formats, cfg.FormatWarnings}.hook)
	}
}

// credentialRules applies the rules of credentials. They are one hook, since a
// bulk nests the hooks of its rows: five hundred of each make a deep stack.
func credentialRules(next ent.Mutator) ent.Mutator {
	return hook.UserCredentialFunc(func(ctx context.Context, m *credent.UserCredentialMutation) (ent.Value, error) {
		utcTimes(m)
		if at, ok := m.ExpiresAt(); ok && at != stored(at) {
			m.SetExpiresAt(stored(at))
		}
		if err := fillTenant(ctx, m); err != nil {
			return nil, err
		}
		value, err := next.Mutate(ctx, m)
		return value, explainConflict(explainTenant(err))
	})
}

func accountTimes(next ent.Mutator) ent.Mutator {
	return hook.UserAccountFunc(func(ctx context.Context, m *credent.UserAccountMutation) (ent.Value, error) {
		utcTimes(m)
		value, err := next.Mutate(ctx, m)
		return value, explainConflict(err)
	})
}

// stored returns a time as Postgres stores it: in UTC, in microseconds.
func stored(at time.Time) time.Time { return at.UTC().Truncate(time.Microsecond) }

// utcTimes converts a mutation's times as Postgres stores them, so that the
// returned entity equals the one read back. It calls each setter by name:
// listing a mutation's fields would cost more than a bulk's encryption.
func utcTimes(m interface {
	CreatedAt() (time.Time, bool)
	SetCreatedAt(time.Time)
	UpdatedAt() (time.Time, bool)
	SetUpdatedAt(time.Time)
},
) {
	if at, ok := m.CreatedAt(); ok && at != stored(at) {
		m.SetCreatedAt(stored(at))
	}
	if at, ok := m.UpdatedAt(); ok && at != stored(at) {
		m.SetUpdatedAt(stored(at))
	}
}
