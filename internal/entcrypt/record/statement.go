package record

import (
	"context"
	"database/sql"
	"slices"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/entcrypt/pending"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// Statement collects one statement's entries for the client's trail.
type Statement struct {
	trail   Trail
	change  *Change
	looked  *looked
	made    []*New
	columns []string // set by an update's arguments
	raw     []raw    // columns that raw SQL stores secrets in
	told    bool     // it is raw SQL that may change anything
	reads   bool     // the client lacks a trail, so the database must refuse changes
	ids     []string // of the rows returned
}

// raw is a column that raw SQL stores secrets in.
type raw struct {
	of     *column.Column
	tenant string
}

// Of returns the Statement to record for a statement, or nil if there is
// nothing to record. The trail may be nil. A [Refusing] trail refuses changes
// with [ErrNoTrail].
func Of(ctx context.Context, trail Trail, d, query string, args []any, use Use) (*Statement, error) {
	if trail == (Refusing{}) {
		return use.refused(d, query)
	}
	if trail == nil || IsSilent(ctx) {
		return nil, nil
	}
	change := use.Change
	r := &Statement{trail: trail, change: change, told: use.isTold(query)}
	for _, arg := range args {
		if named, ok := arg.(sql.NamedArg); ok {
			arg = named.Value
		}
		if row := newOf(arg); row != nil {
			r.made = append(r.made, row)
			continue
		}
		switch arg, ok := arg.(*column.Arg); {
		case !ok:
		case arg.Raw && !arg.Pinned:
			r.add(raw{arg.Column, arg.Tenant})
		default:
			r.columns = append(r.columns, arg.Column.Name)
		}
	}
	if change == nil && len(r.made) == 0 && len(r.raw) == 0 && !r.told {
		return nil, nil
	}
	return r, nil
}

func (r *Statement) add(one raw) {
	for i := range r.raw {
		if r.raw[i].of.IsSame(*one.of) {
			if r.raw[i].tenant != one.tenant {
				r.raw[i].tenant = ""
			}
			return
		}
	}
	r.raw = append(r.raw, one)
}

// Look looks up the rows that the statement is about to change, or makes the
// transaction read-only if the statement may not change any.
func (r *Statement) Look(ctx context.Context, d string, on dialect.ExecQuerier, query Query) (err error) {
	switch {
	case r.reads:
		return on.Exec(ctx, "SET TRANSACTION READ ONLY", []any{}, nil)
	case r.change != nil:
		r.looked, err = r.change.look(ctx, d, query)
	}
	return err
}

// See notes the primary key of a row that an INSERT returned.
func (r *Statement) See(values []any) {
	if r != nil && len(values) > 0 && len(r.made) > 0 {
		r.ids = append(r.ids, Text(values[0]))
	}
}

// Result is what a statement did.
type Result struct {
	Rows    int64 // affected or returned
	Nothing bool  // it didn't run, since its row doesn't exist
	KeyID   string
}

// Write records the statement in the trail, in the statement's transaction.
func (r *Statement) Write(ctx context.Context, on dialect.ExecQuerier, res Result, p *pending.Entries) error {
	if r == nil || res.Nothing {
		return nil
	}
	var rows []Row
	if r.looked != nil {
		changed, err := r.looked.after(ctx, res.Rows, r.columns, res.KeyID)
		if err != nil {
			return err
		}
		rows = changed
	}
	rows = append(rows, r.created(res.KeyID)...)
	n := res.Rows
	if n == 0 {
		n = -1 // none, or an unknown number, as with TRUNCATE
	}
	for _, one := range r.raw {
		rows = append(rows, Row{
			Action: Update, Table: one.of.TableName(), Column: one.of.Name, Tenant: one.tenant, Rows: n,
			KeyID: res.KeyID, Note: "raw SQL",
		})
	}
	if len(rows) == 0 && r.told {
		rows = append(rows, Row{Action: Update, Rows: n, Note: "raw SQL without a secret"}) // its table is unknown
	}
	if len(rows) > 0 {
		done, err := r.trail.Write(ctx, on, rows)
		if err != nil {
			return err
		}
		p.Add(done)
	}
	if r.change != nil {
		r.change.done = true
	}
	return nil
}

// created returns the rows that an INSERT made, or changed.
func (r *Statement) created(keyID string) (rows []Row) {
	row := func(n *New, action Action, id string) {
		one := Row{Action: action, Table: n.Table, ID: id, Tenant: n.Tenant, KeyID: keyID, Note: n.Fields}
		if n.Upsert {
			one.Note = "upsert: " + one.Note
		}
		rows = append(append(rows, one), n.Moved...)
	}
	if r.ids == nil {
		for _, n := range r.made {
			if !n.Upsert || n.ID == "" {
				row(n, Create, n.ID)
			}
		}
		return rows
	}
	for i, id := range r.ids {
		same := slices.IndexFunc(r.made, func(n *New) bool { return n.ID != "" && n.ID == id })
		switch {
		case same >= 0:
			row(r.made[same], Create, id)
		case len(r.ids) == len(r.made) && !r.made[i].Upsert:
			row(r.made[i], Create, id)
		case len(r.ids) == len(r.made):
			row(r.made[i], Update, id)
		default: // some rows were skipped, so this one can't be identified
			of := *r.made[0]
			of.Tenant, of.Moved = "", nil
			row(&of, Update, id)
		}
	}
	return rows
}
