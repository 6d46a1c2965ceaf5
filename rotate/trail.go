package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/audit"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/nilarg"
	"github.com/credent-go/credent/internal/recorder"
	"github.com/credent-go/credent/internal/states"
)

// ErrTrailRequired means that the database requires an audit trail, and that
// the context has none; see [WithTrail].
var ErrTrailRequired = states.ErrTrailRequired

type trailKey struct{}

// WithTrail returns a context in which [Run], [Encrypt], [DecryptToPlaintext],
// [FillIndexes], [DestroyTenant], [SetState] and [SetTrail] tell an audit trail
// what they do: what is one transaction in that transaction, and what takes
// longer when it begins and when it ends. If the trail doesn't take the entry,
// nothing is done. Without it they are an [ErrTrailRequired] on a database that
// requires one.
func WithTrail(ctx context.Context, trail *audit.Trail) context.Context {
	return context.WithValue(ctx, trailKey{}, trail)
}

// trailOf returns the context's trail, nil if there is none and need be none.
func trailOf(ctx context.Context, db *sql.DB, s store) (*audit.Trail, error) {
	trail, _ := ctx.Value(trailKey{}).(*audit.Trail)
	if trail != nil {
		return trail, nil
	}
	required, err := RequiresTrail(ctx, db, s.dialect())
	if err == nil && required {
		err = fmt.Errorf("rotate: %w", ErrTrailRequired)
	}
	return nil, err
}

// RequiresTrail reports whether a database requires its clients to have an
// audit trail. The dialect is ent's name.
func RequiresTrail(ctx context.Context, db *sql.DB, entDialect string) (bool, error) {
	if err := nilarg.Check("the pool", db); err != nil {
		return false, fmt.Errorf("rotate: %w", err)
	}
	stored, _, err := states.Read(ctx, entsql.Conn{ExecQuerier: db}, entDialect)
	return states.RequiresTrail(stored), err
}

// SetTrail makes a database require an audit trail of every client, or not any
// more, and reports how it was before. Clients follow within [states.Lifetime];
// one without a trail then neither reveals nor changes anything. Setting what
// is set already does nothing. The context must have the trail that is told,
// see [WithTrail]. Errors: [ErrTrailRequired], [ErrNoTable], and the
// database's.
func SetTrail(ctx context.Context, db *sql.DB, required bool) (before bool, err error) {
	s, err := storeOf(ctx, db)
	if err != nil {
		return false, err
	}
	stored, there, err := states.Read(ctx, entsql.Conn{ExecQuerier: db}, s.dialect())
	switch before = states.RequiresTrail(stored); {
	case err != nil:
		return false, fmt.Errorf("rotate: %w", err)
	case !there:
		return false, fmt.Errorf("rotate: %s: %w", states.TableName, ErrNoTable)
	case before == required:
		return before, nil
	}
	trail, _ := ctx.Value(trailKey{}).(*audit.Trail)
	if trail == nil {
		return before, fmt.Errorf("rotate: %w", ErrTrailRequired)
	}
	to := states.Off
	if required {
		to = states.Require
	}
	now := "timezone('utc', clock_timestamp())"
	if s.dialect() == dialect.SQLite {
		now = "CURRENT_TIMESTAMP"
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return before, fmt.Errorf("rotate: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	_, err = tx.ExecContext(ctx, "INSERT INTO "+states.TableName+" (column_name, protection, state, changed_at) "+
		"VALUES ($1, $2, $3, "+now+") "+
		"ON CONFLICT (column_name, protection) DO UPDATE SET state = excluded.state, changed_at = excluded.changed_at",
		states.Trail, states.Encryption.String(), to.String())
	if err == nil {
		err = commit(ctx, tx, trail, audit.Entry{
			Action: audit.ActionState, Table: states.Trail, Note: "the trail is required: " + onOff(required),
		})
	}
	if err != nil {
		return before, fmt.Errorf("rotate: require the trail: %w", err)
	}
	return before, nil
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// commit commits a transaction with an entry of a trail, which may be nil.
func commit(ctx context.Context, tx *sql.Tx, trail *audit.Trail, e audit.Entry) error {
	if trail == nil {
		return tx.Commit()
	}
	done, err := trail.AddTx(ctx, tx, signed(ctx, e))
	if err != nil {
		return err
	}
	err = tx.Commit()
	done(err == nil)
	return err
}

// signed adds to an entry who did it.
func signed(ctx context.Context, e audit.Entry) audit.Entry {
	e.Actor, e.Request = recorder.ActorOf(ctx), audit.RequestID(ctx)
	return e
}

// telling is a run that a trail is told of.
type telling struct {
	trail *audit.Trail // nil for none
	name  string
	ring  *engine.Ring
}

// begin tells of the beginning, before anything is written.
func (t telling) begin(ctx context.Context, tables []table) error {
	if t.trail == nil {
		return nil
	}
	var names []string
	for _, of := range tables {
		names = append(names, of.label())
	}
	note := t.name + " begins: " + strings.Join(names, ", ")
	if keys := t.ring.Keys(); len(keys) > 1 {
		var ids []string
		for _, key := range keys[1:] {
			ids = append(ids, key.ID())
		}
		note += "; earlier keys: " + strings.Join(ids, ", ")
	}
	err := t.trail.Add(ctx, signed(ctx, audit.Entry{
		Action: audit.ActionRotate, KeyID: t.ring.Primary().ID(), Note: note,
	}))
	if err == nil {
		err = t.trail.Flush(ctx) // a run that is killed has begun all the same
	}
	if err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	return nil
}

// end tells of what was done in each table, also if the context has ended.
func (t telling) end(ctx context.Context, report *Report, failed error) error {
	if t.trail == nil {
		return nil
	}
	outcome := recorder.OutcomeOf(failed)
	if errors.Is(failed, ErrQuarantined) {
		outcome = audit.OutcomeOK // the note says how many
	}
	ctx = context.WithoutCancel(ctx)
	for _, of := range report.Tables {
		e := audit.Entry{
			Action: audit.ActionRotate, Table: of.Table, Rows: of.Rewritten, KeyID: t.ring.Primary().ID(),
			Outcome: outcome, Note: fmt.Sprintf("%s ends: %d rows read, %d rewritten, %d secrets left as they are",
				t.name, of.Rows, of.Rewritten, of.Quarantined),
		}
		if err := t.trail.Add(ctx, signed(ctx, e)); err != nil {
			return fmt.Errorf("rotate: %w", err)
		}
	}
	return nil
}
