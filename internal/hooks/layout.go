package hooks

import (
	"context"
	"errors"
	"fmt"

	"entgo.io/ent"
	"entgo.io/ent/dialect"

	credent "github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/dberror"
	"github.com/credent-go/credent/internal/entcrypt/record"
)

// ErrLayout means that a statement isn't possible because a Citus cluster
// distributes the tables over its nodes by user_id.
var ErrLayout = errors.New("the layout citus of the database does not allow it")

// explainLayout adds what to do instead to an error of a statement that a
// cluster refuses.
func explainLayout(err error) error {
	if err == nil || errors.Is(err, ErrLayout) {
		return err
	}
	if instead := dberror.Spread(err); instead != "" {
		return fmt.Errorf("credent: %w: %s: %w", ErrLayout, instead, err)
	}
	return err
}

func layoutOfMutations(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		value, err := next.Mutate(ctx, m)
		return value, explainLayout(err)
	})
}

func layoutOfQueries(next ent.Querier) ent.Querier {
	return ent.QuerierFunc(func(ctx context.Context, q ent.Query) (ent.Value, error) {
		value, err := next.Query(ctx, q)
		return value, explainLayout(err)
	})
}

// errKept refuses a change of an account's user_id.
var errKept = fmt.Errorf("credent: %w: an account keeps its user_id, which says where its rows lie: "+
	"create a new account with its credentials, and delete this one", ErrLayout)

// keepsUsers returns an [ErrLayout] if a database's accounts are distributed
// over a Citus cluster. d is the database's dialect.
func keepsUsers(ctx context.Context, client *credent.Client, d string) error {
	if d != dialect.Postgres {
		return nil
	}
	// These run by ExecContext: QueryContext needs a transaction if the context
	// has a user. The second one's table exists only with Citus.
	ctx = record.Silent(ctx) // they only read
	for _, query := range []string{
		"SELECT 1 FROM pg_catalog.pg_extension WHERE extname = 'citus'",
		"SELECT 1 FROM pg_catalog.pg_dist_partition WHERE logicalrelid = to_regclass('user_accounts') AND partmethod " +
			"= 'h'",
	} {
		result, err := client.ExecContext(ctx, query)
		if err != nil {
			return fmt.Errorf("credent: look for the layout: %w", err)
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return err
		}
	}
	return errKept
}
