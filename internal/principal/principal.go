// Package principal stores in a context for whom and by whom a statement runs,
// and which row a new row replaces.
package principal

import "context"

type (
	userKey  struct{}
	actorKey struct{}

	replacesKey struct{}
	requestKey  struct{}
)

// WithUser returns a context for one user's statements. The user is given by
// user_id.
func WithUser(ctx context.Context, userID string) context.Context {
	return context.WithValue(ctx, userKey{}, userID)
}

// User returns the context's user.
func User(ctx context.Context) (userID string, ok bool) {
	userID, ok = ctx.Value(userKey{}).(string)
	return userID, ok
}

// WithActor returns a context for the actor's mutations and reads.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// Actor returns the context's actor.
func Actor(ctx context.Context) (actor string, ok bool) {
	actor, ok = ctx.Value(actorKey{}).(string)
	return actor, ok
}

// WithReplaces returns a context for creating a row that replaces the row with
// an ID.
func WithReplaces(ctx context.Context, row string) context.Context {
	return context.WithValue(ctx, replacesKey{}, row)
}

// Replaces returns the ID of the row that the context's new row replaces, or
// "".
func Replaces(ctx context.Context) (row string) {
	row, _ = ctx.Value(replacesKey{}).(string)
	return row
}

// WithRequest returns a context with a request's ID.
func WithRequest(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// Request returns the context's request ID, or "".
func Request(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}
