package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/credent-go/credent/internal/pgserver"
)

// Measures of an audit trail: one list with all secrets revealed, as long as
// its caller waits, and this many lists until all their entries are committed.
const (
	groupTrail     = "read 10k, by turns"
	groupCommitted = "read 10k ten times, and commit the entries"

	trailReads = 10
)

// runTrail measures a client with an audit trail beside the same one without,
// by turns and in many rounds: the difference is small.
func runTrail(ctx context.Context, cfg config, server *pgserver.Server, s series) (err error) {
	template, drop, err := newTemplate(ctx, server)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, drop()) }()
	var measures []measure
	for _, c := range contenders() {
		if c.name != nameCredentPGX && c.name != nameTrail {
			continue
		}
		r, err := c.start(ctx, server, template, cfg.stored)
		if err != nil {
			return fmt.Errorf("start %s: %w", c.name, err)
		}
		defer func() { err = errors.Join(err, r.stop()) }()
		if err := r.settle(ctx); err != nil {
			return err
		}
		read, settle := all(ctx, r.read), func() error { return r.settle(ctx) }
		measures = append(measures, measure{
			group: groupTrail, name: c.name, n: cfg.stored, times: cfg.trailTimes, after: settle,
			run: read,
		}, measure{
			group: groupCommitted, name: c.name, n: trailReads * cfg.stored,
			run: func(n int) error {
				for range trailReads {
					if err := read(n / trailReads); err != nil {
						return err
					}
				}
				return settle()
			},
		})
	}
	if err := warmUp(measures, func(m measure) int { return m.n }); err != nil {
		return err
	}
	return rounds(cfg.rounds, measures, s)
}
