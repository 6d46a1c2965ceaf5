package wire

import (
	"context"
	"database/sql/driver"
	"errors"
	"math/rand/v2"
	"slices"

	"github.com/credent-go/credent/internal/dberror"
)

// FirstOf connects to the first of several hosts that accepts, in any order if
// random is set. If no host of a round accepts, it tries the next round, which
// has other requirements. If all fail, it joins the errors.
func FirstOf[T any](
	ctx context.Context, rounds [][]T, random bool, connect func(ctx context.Context, host T) (driver.Conn, error),
) (driver.Conn, error) {
	var errs []error
	for _, round := range rounds {
		if random {
			round = slices.Clone(round)
			rand.Shuffle(len(round), func(i, j int) { //nolint:gosec // spreads load, keeps no secret
				round[i], round[j] = round[j], round[i]
			})
		}
		for _, host := range round {
			conn, err := connect(ctx, host)
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
			if ctx.Err() != nil || isFinal(err) {
				return nil, errors.Join(errs...)
			}
		}
	}
	return nil, errors.Join(errs...)
}

// isFinal reports whether other servers would give the same answer: a wrong
// password, no such database, or no right to connect to it.
func isFinal(err error) bool {
	return slices.Contains([]string{"28P01", "3D000", "42501"}, dberror.State(err))
}
