// Package shared has a transaction for use by several goroutines.
package shared

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"entgo.io/ent/dialect"
)

// Tx is a transaction that runs statements of several goroutines. While the
// states are read, no other statement runs: a connection with unread rows can't
// run one.
type Tx struct {
	dialect.ExecQuerier
	reading sync.RWMutex
}

// Alone calls f with the transaction, while no other statement runs.
func (s *Tx) Alone(f func(dialect.ExecQuerier) error) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	return f(s.ExecQuerier)
}

// Exec runs a statement, but not while the states are read.
func (s *Tx) Exec(ctx context.Context, query string, args, v any) error {
	s.reading.RLock()
	defer s.reading.RUnlock()
	return s.ExecQuerier.Exec(ctx, query, args, v)
}

// Query runs a query, but not while the states are read.
func (s *Tx) Query(ctx context.Context, query string, args, v any) error {
	s.reading.RLock()
	defer s.reading.RUnlock()
	return s.ExecQuerier.Query(ctx, query, args, v)
}

// ExecContext is like Exec, and returns database/sql's result.
func (s *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	next, ok := s.ExecQuerier.(ExecQuerier)
	if !ok {
		return nil, fmt.Errorf("credent: %T has no ExecContext", s.ExecQuerier)
	}
	s.reading.RLock()
	defer s.reading.RUnlock()
	return next.ExecContext(ctx, query, args...)
}

// QueryContext is like Query, and returns database/sql's rows.
func (s *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	next, ok := s.ExecQuerier.(ExecQuerier)
	if !ok {
		return nil, fmt.Errorf("credent: %T has no QueryContext", s.ExecQuerier)
	}
	s.reading.RLock()
	defer s.reading.RUnlock()
	return next.QueryContext(ctx, query, args...) //nolint:sqlclosecheck // the caller closes them
}

// ExecQuerier is implemented by ent's drivers and transactions. The last two
// methods back a client's ExecContext and QueryContext.
type ExecQuerier interface {
	dialect.ExecQuerier
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}
