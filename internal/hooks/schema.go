package hooks

import (
	"context"
	"errors"
	"fmt"

	"entgo.io/ent"

	credent "github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/hookpoint"
	"github.com/credent-go/credent/internal/replica"
)

// ErrNoHooks means that a client was built without package client, but its
// driver is configured with an audit log or format checks, which need that
// package's hooks.
var ErrNoHooks = errors.New("this client lacks the audit log or the checks of formats that its driver was configured " +
	"with: build it with client.New or client.FromDriver, and put drivers around its own with Config.Wrap")

// Every client has the schemas' hook.
var _ = hookpoint.Set(always)

// mutation is stored in a mutation's context.
type mutation struct {
	of        ent.Mutation
	installed bool // by Install
}

type mutationKey struct{}

// mark notes that [Install]'s hooks run for a mutation. These hooks and the
// caller's read from the primary.
func mark(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		return next.Mutate(context.WithValue(replica.Writing(ctx), mutationKey{}, mutation{m, true}), m)
	})
}

// always applies the rules to mutations of clients without [Install]'s hooks,
// such as a client from ent.NewClient.
func always(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		if known, ok := ctx.Value(mutationKey{}).(mutation); ok && known.of == m {
			return next.Mutate(ctx, m)
		}
		ctx = context.WithValue(replica.Writing(ctx), mutationKey{}, mutation{of: m})
		switch m.(type) {
		case *credent.UserCredentialMutation:
			next = credentialRules(next)
		case *credent.UserAccountMutation:
			next = accountTimes(deleteOrphans(rebind(next)))
		}
		return next.Mutate(ctx, m)
	})
}

// Refuse returns [ErrNoHooks] for a statement of a mutation without [Install]'s
// hooks.
func Refuse(ctx context.Context) error {
	if m, ok := ctx.Value(mutationKey{}).(mutation); ok && !m.installed {
		return fmt.Errorf("credent: %w", ErrNoHooks)
	}
	return nil
}
