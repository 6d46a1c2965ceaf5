package client

import (
	"context"

	"github.com/credent-go/credent/internal/replica"
)

// WithRequest returns the context of a new request, or the context itself if it
// already has one. [Config.Reader] may answer queries with it, and with
// contexts derived from it, until one of them writes: from then on the primary
// answers, so the request sees what it wrote. Call it where a request begins,
// and not in a helper that reads: earlier writes, without a request or by
// another one, may be missing.
//
// A mutation, raw SQL and a transaction count as a write when they begin, even
// if they fail, except for a read-only transaction with only ent's queries. The
// client's write in a context without a request, such as context.Background(),
// counts for every request that has begun: give background work its own
// requests. A write by another client or process on a request's behalf doesn't
// count: use [WithPrimary] after it.
//
// Without [Config.Reader] it changes nothing, and neither do the functions
// below.
func WithRequest(ctx context.Context) context.Context { return replica.WithRequest(ctx) }

// WithStaleReads returns a context that lets [Config.Reader] answer queries
// even if the request has written, and without a request. Hooks still read from
// the primary for a mutation.
func WithStaleReads(ctx context.Context) context.Context { return replica.WithStaleReads(ctx) }

// WithPrimary returns a context that sends queries to the primary. If a context
// has this and [WithStaleReads], the last one counts.
func WithPrimary(ctx context.Context) context.Context { return replica.WithPrimary(ctx) }

// WithReadOnlySQL returns a context that declares the SQL of the client's
// QueryContext to be read-only: it then doesn't count as a write, and goes
// where ent's queries with this context go. If it writes anyway, a standby
// refuses it, and the primary runs it.
func WithReadOnlySQL(ctx context.Context) context.Context { return replica.WithReadOnlySQL(ctx) }
