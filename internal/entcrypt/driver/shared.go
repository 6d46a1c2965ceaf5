package driver

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"entgo.io/ent/dialect"
)

// shared is a transaction with statements that may come from several
// goroutines. Reading the states excludes the others: a connection takes no
// statement while it has rows to read.
type shared struct {
	dialect.ExecQuerier
	reading sync.RWMutex
}

// Exec runs a statement, while nobody reads the states.
func (s *shared) Exec(ctx context.Context, query string, args, v any) error {
	s.reading.RLock()
	defer s.reading.RUnlock()
	return s.ExecQuerier.Exec(ctx, query, args, v)
}

// Query runs a query, while nobody reads the states.
func (s *shared) Query(ctx context.Context, query string, args, v any) error {
	s.reading.RLock()
	defer s.reading.RUnlock()
	return s.ExecQuerier.Query(ctx, query, args, v)
}

// ExecContext is Exec with database/sql's result.
func (s *shared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	next, ok := s.ExecQuerier.(execQuerier)
	if !ok {
		return nil, fmt.Errorf("credent: %T has no ExecContext", s.ExecQuerier)
	}
	s.reading.RLock()
	defer s.reading.RUnlock()
	return next.ExecContext(ctx, query, args...)
}

// QueryContext is Query with database/sql's rows.
func (s *shared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	next, ok := s.ExecQuerier.(execQuerier)
	if !ok {
		return nil, fmt.Errorf("credent: %T has no QueryContext", s.ExecQuerier)
	}
	s.reading.RLock()
	defer s.reading.RUnlock()
	return next.QueryContext(ctx, query, args...) //nolint:sqlclosecheck // the caller closes them
}
