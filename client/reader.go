package client

import (
	"context"

	"github.com/credent-go/credent/internal/replica"
)

// WithRequest returns a context of a new request, or the context itself if it
// is a request's already. Queries with it, and with contexts made of it, may be
// answered by [Config.Reader] until one of them writes: from then on the
// primary answers, so that the request sees what it wrote. Call it where a
// request begins, and not in a helper that reads: what was written before it,
// without a request or by another one, may be missing.
//
// A mutation, raw SQL and a transaction count as a write when they begin,
// whatever becomes of them, but for a read-only transaction with nothing but
// queries of ent. A write by the client whose context has no request,
// such as context.Background(), counts for every request that has begun: give
// work in the background requests of its own. A write that another client or
// process does on a request's behalf doesn't count: use [WithPrimary] after it.
//
// Without [Config.Reader] it changes nothing, and neither do the functions
// below.
func WithRequest(ctx context.Context) context.Context { return replica.WithRequest(ctx) }

// WithStaleReads returns a context whose queries [Config.Reader] may answer
// though the request has written, and without a request. What hooks read for a
// mutation stays the primary's.
func WithStaleReads(ctx context.Context) context.Context { return replica.WithStaleReads(ctx) }

// WithPrimary returns a context whose queries the primary answers. Of it and
// [WithStaleReads] the last one counts.
func WithPrimary(ctx context.Context) context.Context { return replica.WithPrimary(ctx) }

// WithReadOnlySQL returns a context that says of the client's QueryContext that
// the SQL only reads: it is no write then, and goes where ent's queries with
// this context go. A standby refuses it if it writes, and the primary runs it.
func WithReadOnlySQL(ctx context.Context) context.Context { return replica.WithReadOnlySQL(ctx) }
