// Package hint passes hooks' hints and questions to a client's driver, in a
// statement's context.
package hint

import (
	"context"
	"slices"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

type movingKey struct{}

// MovingTenants returns a context in which statements may change the column
// that tenants are copied from. The caller re-encrypts the tokens.
func MovingTenants(ctx context.Context) context.Context {
	return context.WithValue(ctx, movingKey{}, true)
}

// IsMoving reports whether a context is from [MovingTenants].
func IsMoving(ctx context.Context) bool { return ctx.Value(movingKey{}) != nil }

// Question is a hook's question to its client's driver. The driver answers it
// with the next statement in the context.
type Question struct {
	Columns []column.Column
	// Unscoped is the answer: no column's keys depend on the tenant.
	Unscoped bool
}

type questionKey struct{}

// Ask returns a context in which the driver answers a question.
func Ask(ctx context.Context, q *Question) context.Context {
	return context.WithValue(ctx, questionKey{}, q)
}

// Answer answers the context's question, if there is one.
func Answer(ctx context.Context, p *seal.Policy) {
	if q, ok := ctx.Value(questionKey{}).(*Question); ok {
		q.Unscoped = !slices.ContainsFunc(q.Columns, func(c column.Column) bool { return p.IsScoped(&c) })
	}
}
