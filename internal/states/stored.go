package states

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// TableName is the database's table of states.
const TableName = "credent_states"

// Lifetime is how long a client uses the database's states before reading them
// again.
const Lifetime = time.Minute

// ErrHidden means that the role may not read the table of states.
var ErrHidden = errors.New("the role may not read the states of encrypted columns: GRANT SELECT ON " + TableName +
	" TO it, or make it a " +
	"member of credent_app")

// Stored is a state in the database.
type Stored struct {
	Column     string     `json:"column"` // as column.Column's String returns it
	Protection Protection `json:"protection"`
	State      State      `json:"state"`
	ChangedAt  time.Time  `json:"changed_at"` // UTC
}

// Read returns the states in the database, sorted. there is false if their
// table is missing. That doesn't fail a surrounding transaction. Errors:
// [ErrHidden], and the database's.
func Read(ctx context.Context, on dialect.ExecQuerier, d string) (list []Stored, there bool, err error) {
	probe := "SELECT CASE WHEN count(*) > 0 THEN 1 ELSE 0 END FROM sqlite_master WHERE type = 'table' AND name = '" +
		TableName + "'"
	if d == dialect.Postgres {
		probe = "SELECT CASE WHEN to_regclass('" + TableName + "') IS NULL THEN 0 " +
			"WHEN has_table_privilege(to_regclass('" + TableName + "'), 'SELECT') THEN 1 ELSE 2 END"
	}
	var found int
	if err := each(ctx, on, probe, func(rows *entsql.Rows) error { return rows.Scan(&found) }); err != nil {
		return nil, false, fmt.Errorf("credent: look for the states: %w", err)
	}
	switch found {
	case 0:
		return nil, false, nil
	case 2:
		return nil, true, fmt.Errorf("credent: %w", ErrHidden)
	}
	query := "SELECT column_name, protection, state, changed_at FROM " + TableName + " ORDER BY column_name, protection"
	err = each(ctx, on, query, func(rows *entsql.Rows) error {
		var name, protection, state string
		var at sql.NullTime
		if err := rows.Scan(&name, &protection, &state, &at); err != nil {
			return err
		}
		s := Stored{Column: name, ChangedAt: at.Time.UTC()}
		var err1, err2 error
		s.Protection, err1 = ParseProtection(protection)
		s.State, err2 = ParseState(state)
		list = append(list, s)
		return errors.Join(err1, err2)
	})
	if err != nil {
		return nil, true, fmt.Errorf("credent: read the states: %w", err)
	}
	return list, true, nil
}

func each(ctx context.Context, on dialect.ExecQuerier, query string, f func(*entsql.Rows) error) (err error) {
	rows := new(entsql.Rows)
	if err := on.Query(ctx, query, []any{}, rows); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Trail is the name in the table, instead of a column's, that makes an audit
// trail required for every client.
const Trail = "credent_audit"

// ErrTrailRequired means that the database requires an audit trail and the
// client has none.
var ErrTrailRequired = errors.New("the database requires an audit trail (`credent audit on`), and this client has " +
	"none: open one with audit.Open, and set Config.Trail")

// RequiresTrail reports whether the stored states require a trail of every
// client.
func RequiresTrail(stored []Stored) bool {
	return slices.ContainsFunc(stored, func(s Stored) bool { return s.Column == Trail && s.State == Require })
}

// TableOf returns the stored states of columns. It omits other columns, since
// several services may share a database. A state stored under a column's
// earlier name counts if there is none under the current name.
func TableOf(stored []Stored, columns []column.Column) (t Table) {
	for _, c := range columns {
		for _, p := range Protections {
			if s, ok := Find(stored, c, p); ok {
				t = append(t, New(p, s.State, c)...)
			}
		}
	}
	return t
}

// Find returns the stored state of a column's protection.
func Find(stored []Stored, c column.Column, p Protection) (Stored, bool) {
	named := func(c column.Column) int {
		i := slices.IndexFunc(stored, func(s Stored) bool { return s.Protection == p && s.Column == c.String() })
		if i < 0 && c.Schema != "" {
			bare := c.InSchema("").String()
			i = slices.IndexFunc(stored, func(s Stored) bool { return s.Protection == p && s.Column == bare })
		}
		return i
	}
	if i := named(c); i >= 0 {
		return stored[i], true
	}
	for earlier := range c.Earlier() {
		if i := named(earlier); i >= 0 {
			return stored[i], true
		}
	}
	return Stored{}, false
}

// Agree returns an [ErrStateMismatch] if a state is set in both tables and
// differs.
func Agree(given, stored Table) error {
	for _, g := range given {
		in := stored.Given(&g.Column)
		for _, s := range stored { // for columns that g covers
			if g.covers(&s.Column) {
				in = in.Over(s.Set())
			}
		}
		for _, p := range Protections {
			a, b := g.Set().Of(p), in.Of(p)
			if a != b && a != Unset && b != Unset {
				return fmt.Errorf("credent: %w: %s of %s is %s in the service, and %s in the database: leave it out "+
					"of the service, or change the database's with `credent state set`", ErrStateMismatch,
					p, g.Column, a, b)
			}
		}
	}
	return nil
}
