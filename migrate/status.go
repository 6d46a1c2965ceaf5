package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"ariga.io/atlas/sql/migrate"
)

// Status says how far a database is.
type Status struct {
	// Layout is the database's.
	Layout Layout
	// Applied lists what the history holds, and the files of the layout, in the
	// order of versions.
	Applied []Revision
	// Pending lists the names of the files that [Apply] would run, in order.
	Pending []string
	// Partial is the version of a file that was applied in part, or "". It is
	// pending as well.
	Partial string
	// Unknown lists applied versions above the newest file of this code.
	Unknown []string
}

// Revision is one row of the history.
type Revision struct {
	Version     string
	Description string
	AppliedAt   time.Time // UTC
	Baseline    bool      // marked as applied and not run
	Layout      Layout    // of a layout's file; "" otherwise
}

// Current is the newest applied version, or "" if there is none.
func (s *Status) Current() string {
	if len(s.Applied) == 0 {
		return ""
	}
	return s.Applied[len(s.Applied)-1].Version
}

// Err returns nil if the database is just what this code needs, and otherwise
// [ErrPending], [ErrNewer] or [ErrPartial] with a reason.
func (s *Status) Err() error {
	if err := s.newer(); err != nil {
		return err
	}
	if s.Partial != "" {
		return fmt.Errorf("migrate: %w: %s", ErrPartial, s.Partial)
	}
	if n := len(s.Pending); n > 0 {
		return fmt.Errorf("migrate: %w: %d of %d migrations are pending, first %s",
			ErrPending, n, n+len(s.Applied), s.Pending[0])
	}
	return nil
}

func (s *Status) newer() error {
	if len(s.Unknown) == 0 {
		return nil
	}
	return fmt.Errorf("migrate: %w: it has version %s", ErrNewer, s.Unknown[len(s.Unknown)-1])
}

// ReadStatus compares the database's history with the migration files. It
// changes nothing and needs no more than the right to read the history table. A
// database without one has every file pending. Of the options only [Config.Dir]
// counts.
func ReadStatus(ctx context.Context, db *sql.DB, config Config) (status *Status, err error) {
	cfg, err := config.settings()
	if err != nil {
		return nil, err
	}
	conn, err := connOf(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("migrate: reach the database: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	d, err := dialectOf(ctx, conn)
	if err != nil {
		return nil, err
	}
	dir, err := cfg.directory(d)
	if err != nil {
		return nil, err
	}
	tx, err := beginReadOnly(ctx, conn, d)
	if err != nil {
		return nil, err
	}
	defer tx.rollback()
	revs, err := findRevisions(ctx, conn, d)
	if err != nil {
		return nil, fmt.Errorf("migrate: find the history: %w", err)
	}
	if status, err = statusOf(ctx, revs, dir); err != nil || cfg.dir != nil {
		return status, err
	}
	of, err := readLayout(ctx, conn, d)
	if err != nil {
		return nil, err
	}
	of.addTo(status)
	return status, nil
}

func statusOf(ctx context.Context, revs *revisions, dir migrate.Dir) (*Status, error) {
	applied, err := revs.ReadRevisions(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate: read the history: %w", err)
	}
	all, err := dir.Files()
	if err != nil {
		return nil, fmt.Errorf("migrate: read the migration files: %w", err)
	}
	status := &Status{Layout: Single}
	last := ""
	if len(all) > 0 {
		last = all[len(all)-1].Version()
	}
	for i, rev := range applied {
		status.Applied = append(status.Applied, Revision{
			Version:     rev.Version,
			Description: rev.Description,
			AppliedAt:   rev.ExecutedAt.UTC(),
			Baseline:    rev.Type.Has(migrate.RevisionTypeBaseline),
		})
		// One that was marked as done by hand is so once another follows it, as
		// for the stock command.
		if rev.Applied < rev.Total && (i == len(applied)-1 || !rev.Type.Has(migrate.RevisionTypeResolved)) {
			status.Partial = rev.Version
		}
		if rev.Version > last {
			status.Unknown = append(status.Unknown, rev.Version)
		}
	}
	for _, file := range all {
		// Everything up to the first row of the history counts as applied: it
		// may be a baseline.
		done := len(applied) > 0 && file.Version() <= applied[0].Version ||
			slices.ContainsFunc(applied, func(rev *migrate.Revision) bool { return rev.Version == file.Version() })
		if !done || file.Version() == status.Partial {
			status.Pending = append(status.Pending, file.Name())
		}
	}
	return status, nil
}
