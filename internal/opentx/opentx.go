// Package opentx tells whether a context's transaction is still open, to avoid
// waiting for something that can't happen before it ends.
package opentx

import (
	"context"
	"sync/atomic"
)

// Tx is a transaction. Nil means none.
type Tx struct{ ended atomic.Bool }

// End notes that the transaction was committed or rolled back.
func (t *Tx) End() { t.ended.Store(true) }

type key struct{}

// With returns a context for work in a transaction.
func With(ctx context.Context, t *Tx) context.Context {
	if t == nil {
		return ctx
	}
	return context.WithValue(ctx, key{}, t)
}

// Is reports whether the context is from [With], and its transaction is open.
func Is(ctx context.Context) bool {
	t, _ := ctx.Value(key{}).(*Tx)
	return t != nil && !t.ended.Load()
}
