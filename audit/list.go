package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/auditrow"
	"github.com/credent-go/credent/internal/auditstore"
	"github.com/credent-go/credent/internal/nilarg"
)

// Position is a place in the order of commits, to go on from. It means
// something in the database that it comes from, and nothing in a restored copy.
type Position string

// Start is the position before all entries.
const Start Position = "0"

// Filter says which entries [List] returns. A zero field is no condition.
type Filter struct {
	From, To                                       time.Time // From is included, To is not
	Actor, Tenant, Table, Column, Row, Request, ID string
	Action                                         Action // entries about the trail itself only if it names them
	Outcome                                        Outcome
	// After, if set, returns entries in the order of commits, those that were
	// committed after the position. Otherwise they come in the order of At.
	After Position
	// Limit is how many stored rows are read at most, 0 for all. A row may
	// stand for several reveals.
	Limit int
}

// Stored is an entry as it is in the trail.
type Stored struct {
	Entry
	Writer   uuid.UUID `json:"writer"`
	Seq      int64     `json:"seq,omitempty"` // 0 for an entry of a transaction
	Position Position  `json:"position"`
}

// List calls each for each entry of the filter. Reveals that are stored
// together come one by one, with one ID and position. It verifies nothing, and
// notes what no trail writes, such as a time that is none. An error of each
// ends it, and is returned.
//
// On Postgres the role sees what row-level security shows it: a member of
// credent_auditor sees all entries or, with app.user_id, one tenant's. Errors:
// [ErrNoTable], and the database's.
func List(
	ctx context.Context, db *sql.DB, entDialect string, f Filter, each func(Stored) error,
) error {
	if err := checkPool(db, entDialect); err != nil {
		return err
	}
	if err := nilarg.Check("each", each); err != nil {
		return fmt.Errorf("audit: list: %w", err)
	}
	rest, args, err := f.query(entDialect)
	if err != nil {
		return err
	}
	err = auditstore.Select(ctx, db, entDialect, rest, args, func(r *auditrow.Row) error {
		s := Stored{
			Entry: Entry{
				ID: r.ID, At: r.Time(), Action: Action(r.Action), Actor: r.Actor, Tenant: r.Tenant, Table: r.Table,
				Column: r.Column, Row: r.Row, Rows: r.Rows, KeyID: r.KeyID, Outcome: Outcome(r.Outcome),
				Request: r.Request, Note: r.Note,
			},
			Writer: r.Writer, Seq: r.Seq, Position: Position(strconv.FormatInt(r.Place, 10) + " " + r.ID.String()),
		}
		if r.Malformed != "" {
			s.Note = strings.TrimSpace("malformed: " + r.Malformed + "; " + r.Note)
		}
		if !r.Several() {
			return each(s)
		}
		s.Rows = 1
		for row := range strings.SplitSeq(r.Row, "\n") {
			if s.Row = row; f.Row == "" || f.Row == row {
				if err := each(s); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return named(err)
}

// Follow is [List] from a position on, [Start] if f.After is "", that then
// waits for more and asks each interval until the context ends. It returns the
// context's error. On Postgres an entry comes when no transaction that began
// before its own is still open.
func Follow(
	ctx context.Context, db *sql.DB, entDialect string, f Filter, interval time.Duration, each func(Stored) error,
) error {
	if f.After == "" {
		f.After = Start
	}
	for {
		if err := List(ctx, db, entDialect, f, func(s Stored) error {
			f.After = s.Position
			return each(s)
		}); err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return context.Cause(ctx)
			}
			return err
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// query returns the conditions and the order.
func (f *Filter) query(d string) (rest string, args []any, err error) {
	var conditions []string
	where := func(format string, values ...any) {
		numbers := make([]any, len(values))
		for i, value := range values {
			args = append(args, value)
			numbers[i] = "$" + strconv.Itoa(len(args))
		}
		conditions = append(conditions, fmt.Sprintf(format, numbers...))
	}
	if !f.From.IsZero() {
		where("at >= %s", auditstore.Time(d, f.From))
	}
	if !f.To.IsZero() {
		where("at < %s", auditstore.Time(d, f.To))
	}
	for _, equal := range []struct{ column, value string }{
		{"actor", f.Actor},
		{"tenant", f.Tenant},
		{"table_name", f.Table},
		{"column_name", f.Column},
		{"request", f.Request},
		{"action", string(f.Action)},
		{"outcome", string(f.Outcome)},
	} {
		if equal.value != "" {
			where(equal.column+" = %s", equal.value)
		}
	}
	if f.ID != "" {
		id, err := uuid.Parse(f.ID)
		if err != nil {
			return "", nil, fmt.Errorf("audit: list: the ID of an entry is a UUID")
		}
		where("id = %s", id.String())
	}
	if f.Row != "" {
		find := "strpos(%s, %s) > 0"
		if d == dialect.SQLite {
			find = "instr(%s, %s) > 0"
		}
		where(fmt.Sprintf(find, "row_id", "%s"), f.Row)
		where("(row_id = %s OR action = 'reveal')", f.Row)
	}
	if f.Action == "" {
		conditions = append(conditions, "action NOT IN ('open', 'close', 'link', 'checkpoint', 'archive')")
	}
	order := " ORDER BY at, id"
	if f.After != "" {
		order = " ORDER BY place, id"
		number, id, _ := strings.Cut(string(f.After), " ")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return "", nil, fmt.Errorf("audit: list: After is no position of this trail")
		}
		if d == dialect.SQLite {
			where("place > %s", n)
		} else {
			if id == "" {
				id = uuid.Nil.String()
			}
			where("(place >= %s AND (place, id) > (%s, %s))", n, n, id)
			conditions = append(conditions, "place < txid_snapshot_xmin(txid_current_snapshot())")
		}
	}
	if len(conditions) > 0 {
		rest = "WHERE " + strings.Join(conditions, " AND ")
	}
	rest += order
	if f.Limit > 0 {
		rest += " LIMIT " + strconv.Itoa(f.Limit)
	}
	return rest, args, nil
}
