// Package hookpoint provides the hooks of package ent's schemas.
//
// The hooks use the generated code, and a schema can't import that without an
// import cycle: code couldn't be generated again. So the schema has [Hook], and
// package hooks sets what it does.
package hookpoint

import (
	"context"
	"sync/atomic"

	"entgo.io/ent"
)

var rules atomic.Pointer[ent.Hook]

// Set sets what [Hook] does, for all clients.
func Set(hook ent.Hook) struct{} {
	rules.Store(&hook)
	return struct{}{}
}

// Hook is the schemas' hook. It does nothing in a process without package
// hooks, which package client links.
func Hook(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		if hook := rules.Load(); hook != nil {
			return (*hook)(next).Mutate(ctx, m)
		}
		return next.Mutate(ctx, m)
	})
}
