// Package shared has a transaction that several goroutines use.
package shared

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"entgo.io/ent/dialect"
)

// Tx is a transaction with statements that may come from several
// goroutines. Reading the states excludes the others: a connection takes no
// statement while it has rows to read.
type Tx struct {
	dialect.ExecQuerier
	reading sync.RWMutex
}

// Alone calls f with the transaction, while no statement of others runs.
func (s *Tx) Alone(f func(dialect.ExecQuerier) error) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	return f(s.ExecQuerier)
}

// Exec runs a statement, while nobody reads the states.
func (s *Tx) Exec(ctx context.Context, query string, args, v any) error {
	s.reading.RLock()
	defer s.reading.RUnlock()
	return s.ExecQuerier.Exec(ctx, query, args, v)
}

// Query runs a query, while nobody reads the states.
func (s *Tx) Query(ctx context.Context, query string, args, v any) error {
	s.reading.RLock()
	defer s.reading.RUnlock()
	return s.ExecQuerier.Query(ctx, query, args, v)
}

// ExecContext is Exec with database/sql's result.
func (s *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	next, ok := s.ExecQuerier.(ExecQuerier)
	if !ok {
		return nil, fmt.Errorf("credent: %T has no ExecContext", s.ExecQuerier)
	}
	s.reading.RLock()
	defer s.reading.RUnlock()
	return next.ExecContext(ctx, query, args...)
}

// QueryContext is Query with database/sql's rows.
func (s *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	next, ok := s.ExecQuerier.(ExecQuerier)
	if !ok {
		return nil, fmt.Errorf("credent: %T has no QueryContext", s.ExecQuerier)
	}
	s.reading.RLock()
	defer s.reading.RUnlock()
	return next.QueryContext(ctx, query, args...) //nolint:sqlclosecheck // the caller closes them
}

// ExecQuerier is what ent's drivers and transactions have in common. The last
// two methods back a client's ExecContext and QueryContext.
type ExecQuerier interface {
	dialect.ExecQuerier
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}
