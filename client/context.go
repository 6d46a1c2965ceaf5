package client

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent/ent/predicate"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/expiring"
	"github.com/credent-go/credent/internal/hooks"
	"github.com/credent-go/credent/internal/principal"
)

// Format says what the keys of one credential type look like.
//
//   - Type string: the credential_type, in lower case
//   - APIKey, SecretKey *regexp.Regexp: match a well-formed key as a whole; nil
//     accepts everything
//   - Hint string: what a well-formed key looks like, for the error; not a real
//     one
type Format = hooks.Format

// BrokerFormats returns the formats that Alpaca and Polygon are known to use.
func BrokerFormats() []Format { return hooks.BrokerFormats() }

// Expiring tells [Config.OnExpiring] about a credential that was read shortly
// before it expires, or later.
//
//   - Row uuid.UUID: the primary key of user_credentials
//   - UserID, CredentialType string: "" if the query doesn't select them
//   - ExpiresAt time.Time: in UTC
//   - Left time.Duration: until it expires; 0 or less if it has
type Expiring = expiring.Event

// ExpiringPeriod is how long [Config.OnExpiring] isn't told about the same
// credential again.
const ExpiringPeriod = expiring.Period

// WithUser returns a context for the statements of one user, by user_id. If the
// service connects as a member of the role credent_app, Postgres then shows and
// changes only that user's rows; without WithUser, or with an empty ID, it
// shows none. The setting lasts for the transaction of the statement, or for
// the caller's transaction if there is one, so it is safe with pooled
// connections, even behind PgBouncer in transaction mode. The role that owns
// the tables sees everything, unless the client has
// [Config.RequireRowSecurity]. Errors of statements: [ErrUnsupported] on
// SQLite, [ErrNeedsTx], [ErrRowSecurity].
func WithUser(ctx context.Context, userID string) context.Context {
	return principal.WithUser(ctx, userID)
}

// WithActor returns a context that names the actor of mutations, see
// [Config.Audit], and of reads, see [Config.OnReveal].
func WithActor(ctx context.Context, actor string) context.Context {
	return principal.WithActor(ctx, actor)
}

// WithReplaces returns a context in which a new credential is recorded as the
// successor of another one, by its ID: in [Config.Audit], and in the note of
// the audit trail, as "replaces" and the ID. It's only a record: both
// credentials are valid until the earlier one expires, is disabled or removed.
// docs/expiry.md shows the whole replacement.
func WithReplaces(ctx context.Context, id uuid.UUID) context.Context {
	return principal.WithReplaces(ctx, id.String())
}

// Usable is the predicate for credentials that can be used now: active, and not
// expired.
func Usable() predicate.UserCredential {
	return usercredential.And(
		usercredential.IsActive(true),
		usercredential.Or(usercredential.ExpiresAtIsNil(), usercredential.ExpiresAtGT(time.Now())),
	)
}

// ExpiringWithin is the predicate for credentials that need a successor:
// active, and expired or expiring within a time from now. With 0 it finds the
// expired ones; And([Usable](), ExpiringWithin(d)) leaves them out. Now is the
// client's clock, as for Usable, so a credential that is neither usable nor
// disabled is always among them.
func ExpiringWithin(d time.Duration) predicate.UserCredential {
	return usercredential.And(
		usercredential.IsActive(true),
		usercredential.ExpiresAtLTE(time.Now().Add(d)),
	)
}
