package migrate

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/recorder"
	"github.com/credent-go/credent/internal/states"
)

// checkTrail fails if the database requires a trail and there is none.
func checkTrail(ctx context.Context, conn *sql.Conn, d string, trail *audit.Trail) error {
	if trail != nil {
		return nil
	}
	stored, _, err := states.Read(ctx, entsql.Conn{ExecQuerier: conn}, d)
	if err == nil && states.RequiresTrail(stored) {
		err = states.ErrTrailRequired
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// beginTrail records in a trail, which may be nil, which files are about to be
// applied.
func (a *applier) beginTrail(ctx context.Context, trail *audit.Trail) error {
	if trail == nil {
		return nil
	}
	revs, err := findRevisions(ctx, a.conn, a.dialect)
	if err != nil {
		return fmt.Errorf("migrate: find the history: %w", err)
	}
	status, err := statusOf(ctx, revs, a.dir)
	if err != nil || len(status.Pending) == 0 {
		return err
	}
	return tell(ctx, trail, "migrate apply begins: "+strings.Join(status.Pending, ", "), nil)
}

// tellTrail records in a trail, which may be nil, which files were applied
// before the end or an error.
func tellTrail(ctx context.Context, trail *audit.Trail, applied []string, failed error) error {
	if trail == nil || len(applied) == 0 {
		return nil
	}
	return tell(context.WithoutCancel(ctx), trail, "migrate apply: "+strings.Join(applied, ", "), failed)
}

func tell(ctx context.Context, trail *audit.Trail, note string, failed error) error {
	err := trail.Add(ctx, audit.Entry{
		Action: audit.ActionState, Actor: recorder.ActorOf(ctx), Outcome: recorder.OutcomeOf(failed),
		Request: audit.RequestID(ctx), Note: note,
	})
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
