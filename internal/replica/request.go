// Package replica sends a client's reads to a standby, except reads that must
// see their own request's writes.
//
// A context says which reads may go to the standby: [WithRequest] begins a
// request, and its queries may until it writes. Without a request, every query
// goes to the primary. A write belongs to its context's request; without one,
// it counts for all requests that have begun. So a lost context costs the
// primary a query, but never hides a write.
//
// [New] returns the driver that chooses. It wraps the client's drivers for the
// primary and the standby. The latter wraps a [Standby], which refuses anything
// but reads.
package replica

import (
	"context"
	"sync/atomic"
	"time"
)

// request is a request's state, shared by all contexts derived from its first.
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

// WithRequest begins a request, unless the context has one already, so that a
// nested call doesn't forget earlier writes.
func WithRequest(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	if s.request != nil {
		return ctx
	}
	s.request = &request{start: time.Now()}
	return s.in(ctx)
}

// WithStaleReads lets the standby answer, even after writes.
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

// Writing is for a mutation's hooks: the context's request counts as writing
// from now on, and the hooks read from the primary.
func Writing(ctx context.Context) context.Context {
	s := scopeOf(ctx)
	if s.request == nil && s.to == byRequest {
		return ctx // it reads from the primary already
	}
	if s.request != nil {
		s.request.wrote.Store(true)
	}
	return WithPrimary(ctx)
}
