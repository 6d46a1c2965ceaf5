package audit

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/auditrow"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/opentx"
)

// Reveals takes reveals that differ in nothing but their row and time, as a
// list has thousands of, in less time than [Trail.Add]. It is safe for
// concurrent use.
type Reveals struct {
	trail *Trail
	kind  kind
	last  *group // guarded by the trail's mu
}

// Reveals returns what takes reveals like the given one, whose ID, At, Action,
// Row and Rows don't matter.
func (t *Trail) Reveals(like Entry) *Reveals { return &Reveals{trail: t, kind: kindOf(&like)} }

// Add takes the reveal of a row, now. The row is its primary key: a uuid.UUID,
// a string, an integer, or a fmt.Stringer, which is "" in the trail if it is
// something else. Errors: [Trail.Add]'s.
func (r *Reveals) Add(ctx context.Context, row any) error {
	switch key := row.(type) {
	case uuid.UUID: // converted to text later, by the flusher
	case string:
		if len(key) > MaxText {
			row = auditrow.Clean(key, MaxText)
		}
	default:
		row = fieldcrypt.RowText(row)
	}
	t := r.trail
	t.mu.Lock()
	if t.size < t.cfg.Queue && !t.closed && t.cfg.Mode == Batched {
		t.size++
	} else if err := t.reserve(ctx, 1, opentx.Is(ctx)); err != nil {
		return err
	}
	r.last = t.join(r.last, &r.kind, row, time.Time{})
	return t.added(ctx)
}
