package client

import (
	"context"
	"time"

	"github.com/credent-go/credent/ent/predicate"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/hooks"
	"github.com/credent-go/credent/internal/principal"
)

// Format says what the keys of one credential type look like.
//
//   - Type string: the credential_type, in lower case
//   - APIKey, SecretKey *regexp.Regexp: match a well-formed key as a whole; nil
//     takes everything
//   - Hint string: what a well-formed key looks like, for the error; not a real
//     one
type Format = hooks.Format

// BrokerFormats are the formats that Alpaca and Polygon are known to give out.
func BrokerFormats() []Format { return hooks.BrokerFormats() }

// WithUser returns a context for the statements of one user, by user_id. Where
// the service connects as a member of the role credent_app, Postgres then shows
// and changes that user's rows only; without WithUser, or with an empty ID, it
// shows none. The setting lasts for the transaction of the statement, or for
// the caller's transaction if there is one, so it is safe with pooled
// connections, also with PgBouncer in transaction mode. The role that owns the
// tables sees everything, unless the client has [Config.RequireRowSecurity].
// Errors of statements: [ErrUnsupported] on SQLite, [ErrNeedsTx],
// [ErrRowSecurity].
func WithUser(ctx context.Context, userID string) context.Context {
	return principal.WithUser(ctx, userID)
}

// WithActor returns a context whose mutations are recorded as the actor's, see
// [Config.Audit], and whose reads are told as the actor's, see
// [Config.OnReveal].
func WithActor(ctx context.Context, actor string) context.Context {
	return principal.WithActor(ctx, actor)
}

// Usable is the predicate of the credentials that can be used now: active, and
// not expired.
func Usable() predicate.UserCredential {
	return usercredential.And(
		usercredential.IsActive(true),
		usercredential.Or(usercredential.ExpiresAtIsNil(), usercredential.ExpiresAtGT(time.Now())),
	)
}
