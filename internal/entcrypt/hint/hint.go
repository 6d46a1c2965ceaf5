// Package hint is what hooks tell a client's driver, and ask it, in the context
// of a statement.
package hint

import (
	"context"
	"slices"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

type movingKey struct{}

// MovingTenants returns a context in which statements may change the column
// that tenants are copied from: the caller re-encrypts the tokens.
func MovingTenants(ctx context.Context) context.Context {
	return context.WithValue(ctx, movingKey{}, true)
}

// IsMoving reports whether a context is one of [MovingTenants].
func IsMoving(ctx context.Context) bool { return ctx.Value(movingKey{}) != nil }

// Question asks a client's driver something that its hooks need to know. The
// driver answers with the next statement in its context.
type Question struct {
	Columns []column.Column
	// Unscoped is the answer: the keys of none of the columns depend on the
	// tenant.
	Unscoped bool
}

type questionKey struct{}

// Ask returns a context in which statements answer a question.
func Ask(ctx context.Context, q *Question) context.Context {
	return context.WithValue(ctx, questionKey{}, q)
}

// Answer answers the context's question, if it has one.
func Answer(ctx context.Context, p *seal.Policy) {
	if q, ok := ctx.Value(questionKey{}).(*Question); ok {
		q.Unscoped = !slices.ContainsFunc(q.Columns, func(c column.Column) bool { return p.IsScoped(&c) })
	}
}
