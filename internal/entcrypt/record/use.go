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

// Use is what is known of a statement before it runs: that it reads, that it
// writes, or neither.
type Use struct {
	Reads, Writes bool
	Raw           bool    // the caller's own SQL, of the client's two methods
	Standby       bool    // the server takes no change
	Change        *Change // of ent's, or nil
}

// IsQuery reports whether a statement is one of ent's query builder.
func IsQuery(ctx context.Context, query string) bool {
	return ent.QueryFromContext(ctx) != nil && strings.HasPrefix(query, "SELECT ")
}

// isTold reports whether a trail records the statement whatever it is.
func (u Use) isTold(query string) bool {
	return u.Raw && !u.Standby && !u.Reads && (u.Writes || !sqltext.IsQuery(query))
}

// refused refuses a statement of a client without the trail that it needs,
// unless it only reads. If nobody else sees to that, the database has to.
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

// Explain makes an error of a statement an [ErrNoTrail] if the database refused
// a change for want of one.
func (r *Statement) Explain(err error) error {
	const readOnly = "25006"
	if r != nil && r.reads && dberror.State(err) == readOnly {
		return fmt.Errorf("%w: %w", ErrNoTrail, err)
	}
	return err
}
