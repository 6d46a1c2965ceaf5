// Package principal keeps in a context for whom and by whom a statement runs,
// and which row a new one replaces.
package principal

import "context"

type (
	userKey  struct{}
	actorKey struct{}

	replacesKey struct{}
)

// WithUser returns a context for the statements of one user, by user_id.
func WithUser(ctx context.Context, userID string) context.Context {
	return context.WithValue(ctx, userKey{}, userID)
}

// User returns the user of a context.
func User(ctx context.Context) (userID string, ok bool) {
	userID, ok = ctx.Value(userKey{}).(string)
	return userID, ok
}

// WithActor returns a context for the actor's mutations and reads.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// Actor returns the actor of a context.
func Actor(ctx context.Context) (actor string, ok bool) {
	actor, ok = ctx.Value(actorKey{}).(string)
	return actor, ok
}

// WithReplaces returns a context for a row that replaces another, by its ID.
func WithReplaces(ctx context.Context, row string) context.Context {
	return context.WithValue(ctx, replacesKey{}, row)
}

// Replaces returns the row that the context's new one replaces, or "".
func Replaces(ctx context.Context) (row string) {
	row, _ = ctx.Value(replacesKey{}).(string)
	return row
}
