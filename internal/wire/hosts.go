package wire

import (
	"context"
	"database/sql/driver"
	"errors"
	"math/rand/v2"
	"slices"

	"github.com/credent-go/credent/internal/dberror"
)

// FirstOf makes a connection to the first of several hosts that lets it,
// in any order if random is set. If none of a round does, the next round comes,
// with other wishes. Without a connection all errors are joined.
func FirstOf[T any](
	ctx context.Context, rounds [][]T, random bool, connect func(ctx context.Context, host T) (driver.Conn, error),
) (driver.Conn, error) {
	var errs []error
	for _, round := range rounds {
		if random {
			round = slices.Clone(round)
			rand.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
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

// isFinal reports whether a server has answered what others would answer too:
// a wrong password, no such database, or no right to connect to it.
func isFinal(err error) bool {
	return slices.Contains([]string{"28P01", "3D000", "42501"}, dberror.State(err))
}
