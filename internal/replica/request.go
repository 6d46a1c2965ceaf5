// Package replica sends the reads of a client to a standby, and never one that
// has to see what its own request wrote.
//
// A context says which reads may go to the standby: [WithRequest] begins a
// request, and its queries may until it writes. Without a request every query
// goes to the primary. A write counts as its context's request's; a write in a
// context without a request counts as one of all requests that have begun. So a
// context that gets lost costs the primary a query, and nobody a write.
//
// [New] is the driver that chooses, around the client's driver of the primary
// and its driver of the standby. The latter goes around a [Standby], which
// refuses whatever isn't a read.
package replica

import (
	"context"
	"sync/atomic"
	"time"
)

// request is what is known of a request, in all contexts made of its first.
type request struct {
	start time.Time
	wrote atomic.Bool
}

// scope says where a context's reads go.
type scope struct {
	request *request // nil for none
	to      target
	sql     bool // raw SQL only reads
}

type target int

const (
	byRequest target = iota
	primary
	anywhere
)

type scopeKey struct{}

func scopeOf(ctx context.Context) scope {
	s, _ := ctx.Value(scopeKey{}).(scope)
	return s
}

func (s scope) in(ctx context.Context) context.Context { return context.WithValue(ctx, scopeKey{}, s) }

// WithRequest begins a request, unless the context is one's already: what was
// written is not forgotten on the way down.
func WithRequest(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	if s.request != nil {
		return ctx
	}
	s.request = &request{start: time.Now()}
	return s.in(ctx)
}

// WithStaleReads lets the standby answer, whatever was written before.
func WithStaleReads(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	s.to = anywhere
	return s.in(ctx)
}

// WithPrimary makes the primary answer.
func WithPrimary(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	s.to = primary
	return s.in(ctx)
}

// WithReadOnlySQL says that raw SQL with this context only reads.
func WithReadOnlySQL(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	s.sql = true
	return s.in(ctx)
}

// Writing is for the hooks of a mutation: the context's request writes from now
// on, and what the hooks read is the primary's.
func Writing(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	if s.request == nil && s.to == byRequest {
		return ctx // the primary's as it is
	}
	if s.request != nil {
		s.request.wrote.Store(true)
	}
	return WithPrimary(ctx)
}
