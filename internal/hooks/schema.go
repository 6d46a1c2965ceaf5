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

// ErrNoHooks means that a client was built past package client, and its driver
// asks for an audit log or for checks of formats, which only a client of that
// package has.
var ErrNoHooks = errors.New("this client lacks the audit log or the checks of formats that its driver was configured " +
	"with: build it with client.New or client.FromDriver, and put drivers around its own with Config.Wrap")

// The schemas' hook, which every client has.
var _ = hookpoint.Set(always)

// mutation is what a context says of the mutation that it is for.
type mutation struct {
	of        ent.Mutation
	installed bool // by Install
}

type mutationKey struct{}

// mark notes that the hooks of [Install] run for a mutation. Whatever they and
// the caller's own read is the primary's.
func mark(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		return next.Mutate(context.WithValue(replica.Writing(ctx), mutationKey{}, mutation{m, true}), m)
	})
}

// always applies the rules to the mutations of clients without [Install]'s
// hooks, such as a client of ent.NewClient.
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

// Refuse returns [ErrNoHooks] for a statement of a mutation that ran without
// the hooks of [Install].
func Refuse(ctx context.Context) error {
	if m, ok := ctx.Value(mutationKey{}).(mutation); ok && !m.installed {
		return fmt.Errorf("credent: %w", ErrNoHooks)
	}
	return nil
}
