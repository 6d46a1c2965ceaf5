package record

import (
	"context"
	"fmt"
	"strings"

	"entgo.io/ent"
	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/entcrypt/sqltext"
)

// Use is what is known about a statement before it runs. Reads and Writes are
// both false if it may do either.
type Use struct {
	Reads, Writes bool
	Raw           bool    // raw SQL, from the client's ExecContext or QueryContext
	Standby       bool    // the server is read-only
	Change        *Change // ent's change, or nil
}

// IsQuery reports whether ent's query builder made the statement.
func IsQuery(ctx context.Context, query string) bool {
	return ent.QueryFromContext(ctx) != nil && strings.HasPrefix(query, "SELECT ")
}

// isTold reports whether the trail records the statement in any case.
func (u Use) isTold(query string) bool {
	return u.Raw && !u.Standby && !u.Reads && (u.Writes || !sqltext.IsQuery(query))
}

// refused refuses a statement of a client that lacks a required trail, unless
// the statement only reads. If only the database can tell, the transaction
// becomes read-only.
func (u Use) refused(d, query string) (*Statement, error) {
	isQuery := sqltext.IsQuery(query)
	switch {
	case u.Reads || u.Standby || !u.Writes && isQuery && d == dialect.SQLite:
		return nil, nil
	case !u.Writes && d == dialect.Postgres && (isQuery || sqltext.IsWith(query)):
		return &Statement{trail: Refusing{}, reads: true}, nil
	}
	return nil, ErrNoTrail
}

// Explain wraps a statement's error in [ErrNoTrail] if the database refused a
// change because the client lacks a trail.
func (r *Statement) Explain(err error) error {
	const readOnly = "25006"
	if r != nil && r.reads && dberror.State(err) == readOnly {
		return fmt.Errorf("%w: %w", ErrNoTrail, err)
	}
	return err
}
