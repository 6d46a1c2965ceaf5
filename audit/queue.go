package audit

import (
	"strings"
	"time"

	"github.com/credent-go/credent/internal/auditrow"
)

// waiting is what was taken and is not written yet.
type waiting struct {
	size    int   // entries that take room, also while they are being written
	taken   int64 // all that were ever put into the queue
	written int64 // those that are committed
	groups  []*group
	index   map[kind]*group // the last group of a kind
	recent  [4]*group
	links   []auditrow.Link
}

// kind is what reveals have in common that are stored as one row.
type kind struct {
	action                                                      Action
	actor, tenant, table, column, keyID, request, note, outcome string
}

// group is one row to be. Reveals of one kind within 100 ms share it: a list
// with thousands of secrets costs the database few rows.
type group struct {
	kind
	at    time.Time
	rows  []string // primary keys
	bytes int
	entry *Entry // in place of all this, for an entry that stays alone
}

const (
	groupWindow = 100 * time.Millisecond
	groupRows   = 256
)

// put adds an entry for which there is room. The caller has the lock.
func (t *Trail) put(e *Entry) {
	t.taken++
	alone := e.Action != ActionReveal || e.Rows > 1 || e.Rows < 0 || e.Row == "" || len(e.Row) > MaxText ||
		e.ID != [16]byte{} || strings.IndexByte(e.Row, '\n') >= 0
	if alone {
		entry := *e
		entry.At = e.when()
		t.groups = append(t.groups, &group{entry: &entry})
		return
	}
	for _, g := range t.recent {
		if g != nil && g.fits(e) {
			t.join(g, e)
			return
		}
	}
	k := kind{e.Action, e.Actor, e.Tenant, e.Table, e.Column, e.KeyID, e.Request, e.Note, string(e.Outcome)}
	if g := t.index[k]; g != nil {
		t.join(g, e)
		return
	}
	t.begin(k, e, e.when(), 1)
}

// when returns the entry's time, or now.
func (e *Entry) when() time.Time {
	if e.At.IsZero() {
		return time.Now()
	}
	return e.At
}

// fits reports whether an entry is of the group's kind.
func (g *group) fits(e *Entry) bool {
	return g.column == e.Column && g.tenant == e.Tenant && g.actor == e.Actor && g.request == e.Request &&
		g.table == e.Table && g.keyID == e.KeyID && g.outcome == string(e.Outcome) && g.note == e.Note &&
		g.action == e.Action
}

// join adds an entry to a group of its kind, or to a new one.
func (t *Trail) join(g *group, e *Entry) {
	age := time.Since(g.at) // in half the time of time.Now
	if !e.At.IsZero() {
		age = e.At.Sub(g.at)
	}
	if age < 0 || age >= groupWindow || len(g.rows) >= groupRows || g.bytes+len(e.Row) >= auditrow.MaxLines {
		t.begin(g.kind, e, g.at.Add(age), len(g.rows)) // likely as many again
		return
	}
	g.rows = append(g.rows, e.Row)
	g.bytes += len(e.Row) + 1
}

// begin makes the group of a kind anew, with room for a number of rows.
func (t *Trail) begin(k kind, e *Entry, at time.Time, room int) {
	g := &group{kind: k, at: at, rows: append(make([]string, 0, room), e.Row), bytes: len(e.Row) + 1}
	if t.index == nil {
		t.index = make(map[kind]*group)
	}
	for i, old := range t.recent {
		if old == nil || old.kind == k || i == len(t.recent)-1 {
			copy(t.recent[1:i+1], t.recent[:i])
			t.recent[0] = g
			break
		}
	}
	t.index[k] = g
	t.groups = append(t.groups, g)
}

// take empties the queue. The caller has the lock.
func (t *Trail) take() (groups []*group, links []auditrow.Link, ticket int64) {
	groups, links = t.groups, t.links
	t.groups, t.links, t.index, t.recent = nil, nil, nil, [4]*group{}
	return groups, links, t.taken
}

// size returns for how many entries the group stands.
func (g *group) size() int { return max(len(g.rows), 1) }

// row returns the row of a group.
func (g *group) row() auditrow.Row {
	if g.entry != nil {
		return rowOf(g.entry)
	}
	r := rowOf(&Entry{
		At: g.at, Action: g.action, Actor: g.actor, Tenant: g.tenant, Table: g.table, Column: g.column, Row: g.rows[0],
		KeyID: g.keyID, Outcome: Outcome(g.outcome), Request: g.request, Note: g.note,
	})
	if n := len(g.rows); n > 1 {
		for i, row := range g.rows {
			g.rows[i] = auditrow.Clean(row, MaxText)
		}
		r.Row, r.Rows = strings.Join(g.rows, "\n"), int64(n)
	}
	return r
}

// rowOf returns an entry as a row, without ID.
func rowOf(e *Entry) auditrow.Row {
	r := auditrow.Row{
		ID: e.ID, Rows: e.Rows,
		Texts: auditrow.Texts{
			Action: string(e.Action), Actor: e.Actor, Tenant: e.Tenant, Table: e.Table, Column: e.Column, Row: e.Row,
			KeyID: e.KeyID, Outcome: string(e.Outcome), Request: e.Request, Note: e.Note,
		},
	}
	if !e.At.IsZero() {
		r.At = e.At.UnixMicro()
	}
	for _, text := range []*string{
		&r.Action, &r.Actor, &r.Tenant, &r.Table, &r.Column, &r.Row, &r.KeyID, &r.Outcome, &r.Request, &r.Note,
	} {
		*text = auditrow.Clean(*text, MaxText)
	}
	return r
}
