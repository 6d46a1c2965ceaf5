package rotate

import (
	"context"
	"fmt"
	"slices"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/states"
)

// prepare inspects the database and returns the tables to process. It writes
// nothing.
func (r *run) prepare(ctx context.Context, cfg Config) ([]table, error) {
	tables, store, err := open(ctx, r.db, cfg.In, cfg.Columns)
	if err != nil {
		return nil, err
	}
	if !cfg.DryRun {
		if err := store.checkWritable(ctx); err != nil {
			return nil, fmt.Errorf("rotate: %w", err)
		}
	}
	if err := cfg.resolve(ctx, r.db, store, tables); err != nil {
		return nil, err
	}
	if r.before != nil {
		if err := r.before(ctx, &cfg, store, tables); err != nil {
			return nil, fmt.Errorf("rotate: %w", err)
		}
	}
	canaryDB, err := openCanaries(ctx, r.db)
	if err == nil && r.forCanaries == keepCanaries {
		err = checkCanaries(ctx, canaryDB, r.ring, tables)
	}
	if err != nil {
		return nil, err
	}
	keys, err := openTenants(ctx, r.db, store, r.ring)
	switch {
	case err != nil:
		return nil, err
	case keys == nil && cfg.makesKeys(tables):
		return nil, fmt.Errorf("rotate: %s: %w", tenantkey.Table, ErrNoTable)
	case keys != nil && r.wrapped:
		tables = append(tables, keys.table)
	}
	r.cfg, r.store, r.keys, r.canaryDB = cfg, store, keys, canaryDB
	return tables, nil
}

// prepareVerify inspects the database and returns the tables to verify.
func (r *run) prepareVerify(ctx context.Context, cfg Config) ([]table, error) {
	tables, store, err := open(ctx, r.db, cfg.In, cfg.Columns)
	if err != nil {
		return nil, err
	}
	var known []column.Column
	for _, t := range tables {
		known = append(known, t.columns...)
	}
	stored, err := readStates(ctx, r.db, store, known)
	if err != nil {
		return nil, err
	}
	if err := states.Agree(cfg.States, stored); err != nil {
		return nil, err
	}
	cfg.States = slices.Concat(cfg.States, stored)
	keys, err := openTenants(ctx, r.db, store, r.ring)
	if err != nil {
		return nil, err
	}
	if keys != nil {
		tables = append(tables, keys.table)
	}
	canaries, err := openCanaries(ctx, r.db)
	r.cfg, r.store, r.keys, r.canaryDB = cfg, store, keys, canaries
	return tables, err
}
