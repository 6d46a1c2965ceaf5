package audit

import (
	"encoding/hex"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/auditrow"
	"github.com/credent-go/credent/internal/fieldcrypt"
)

// waiting holds entries that were accepted but not written yet.
type waiting struct {
	size    int   // entries that occupy room, including those being written
	taken   int64 // entries ever put into the queue
	written int64 // entries committed
	turn    int   // groups of earlier turns accept no more reveals
	timed   bool  // a timer for the turn's end is running
	woken   bool  // the flusher is about to empty the queue
	groups  []*group
	index   map[kind]*group // the last group of each kind
	links   []auditrow.Link
}

// kind holds what reveals stored in one row have in common.
type kind struct {
	actor, tenant, table, column, keyID, request, note string

	outcome Outcome
	dated   bool // the caller gave the time
}

// group becomes one row, or a few. Reveals of one kind within 100 ms share a
// group: a list with thousands of secrets takes only a few rows.
type group struct {
	kind
	turn  int
	at    time.Time
	rows  []any  // primary keys, written as text by the flusher
	entry *Entry // used instead for an entry that stays alone
}

const (
	groupWindow = 100 * time.Millisecond
	groupRows   = 256
)

// put adds an entry for which there is room. The caller holds the lock.
func (t *Trail) put(e *Entry) {
	if e.Action == ActionReveal && e.Row != "" && (e.Rows == 0 || e.Rows == 1) && e.ID == uuid.Nil {
		k := kindOf(e)
		k.dated = !e.At.IsZero()
		t.join(nil, &k, auditrow.Clean(e.Row, MaxText), e.At)
		return
	}
	t.taken++
	entry := *e
	entry.clean()
	if entry.At.IsZero() {
		entry.At = time.Now()
	}
	t.groups = append(t.groups, &group{entry: &entry})
}

func kindOf(of *Entry) kind {
	e := *of
	e.clean()
	return kind{
		actor: e.Actor, tenant: e.Tenant, table: e.Table, column: e.Column, keyID: e.KeyID, request: e.Request,
		note: e.Note, outcome: e.Outcome,
	}
}

// join adds a reveal to the last group of its kind, which is g if the caller
// remembers it, or to a new group, and returns the group. A zero time means
// now. The caller holds the lock.
func (t *Trail) join(g *group, k *kind, row any, at time.Time) *group {
	t.taken++
	if g == nil || !g.takes(t.turn, at) {
		before := t.index[*k]
		if g = before; g == nil || !g.takes(t.turn, at) {
			g = t.begin(k, before, at)
		}
	}
	g.rows = append(g.rows, row)
	return g
}

// takes reports whether a group is still in the queue and can take a reveal of
// the given time. It doesn't read the clock, which would take longer than the
// rest; a timer ends the turn instead.
func (g *group) takes(turn int, at time.Time) bool {
	if g.turn != turn || len(g.rows) >= groupRows {
		return false
	}
	if !g.dated {
		return true
	}
	age := at.Sub(g.at)
	return age >= 0 && age < groupWindow
}

// begin creates the next group of a kind. If there was one before, it likely
// gets as many rows.
func (t *Trail) begin(k *kind, before *group, at time.Time) *group {
	if !t.timed {
		t.timed = true
		time.AfterFunc(groupWindow, t.nextTurn)
	}
	g := &group{kind: *k, turn: t.turn, at: at}
	if before != nil {
		g.rows = make([]any, 0, len(before.rows))
	}
	if at.IsZero() {
		g.at = time.Now()
	}
	if t.index == nil {
		t.index = make(map[kind]*group)
	}
	t.index[*k] = g
	t.groups = append(t.groups, g)
	return g
}

// nextTurn makes later reveals start new groups.
func (t *Trail) nextTurn() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timed, t.index = false, nil
	t.turn++
}

// take empties the queue. The caller holds the lock.
func (t *Trail) take() (groups []*group, links []auditrow.Link, ticket int64) {
	groups, links = t.groups, t.links
	t.groups, t.links, t.index, t.woken = nil, nil, nil, false
	t.turn++
	return groups, links, t.taken
}

// wakes reports, only once, whether the flusher must be woken. The caller holds
// the lock.
func (t *Trail) wakes() bool {
	if t.woken || t.size < t.cfg.Queue/2 && t.cfg.Mode != Sync {
		return false
	}
	t.woken = true
	return true
}

// each calls add with a group's rows and the number of entries in each. A group
// is one row, unless keys can't be written as lines or are too long together.
func (g *group) each(add func(r auditrow.Row, entries int)) {
	if g.entry != nil {
		add(rowOf(g.entry), 1)
		return
	}
	var (
		text strings.Builder
		n    int
	)
	flush := func() {
		if n > 0 {
			r := g.row(text.String())
			r.Rows = int64(n)
			add(r, n)
		}
		text.Reset()
		n = 0
	}
	text.Grow(len(g.rows) * 37)
	var buf [len("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")]byte
	for _, key := range g.rows {
		if id, ok := key.(uuid.UUID); ok && text.Len()+len(buf) < auditrow.MaxLines { // takes half the time
			if n++; n > 1 {
				text.WriteByte('\n')
			}
			text.Write(appendUUID(buf[:0], id))
			continue
		}
		row := auditrow.Clean(fieldcrypt.RowText(key), MaxText)
		if row == "" || strings.IndexByte(row, '\n') >= 0 {
			add(g.row(row), 1)
			continue
		}
		if text.Len()+len(row) >= auditrow.MaxLines {
			flush()
		}
		if n++; n > 1 {
			text.WriteByte('\n')
		}
		text.WriteString(row)
	}
	flush()
}

// appendUUID appends the text of id.String.
func appendUUID(to []byte, id uuid.UUID) []byte {
	for i, part := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			to = append(to, '-')
		}
		to = hex.AppendEncode(to, part)
	}
	return to
}

// row returns a row of the group with the given cleaned primary keys.
func (g *group) row(keys string) auditrow.Row {
	r := rowOf(&Entry{
		At: g.at, Action: ActionReveal, Actor: g.actor, Tenant: g.tenant, Table: g.table, Column: g.column,
		KeyID: g.keyID, Outcome: g.outcome, Request: g.request, Note: g.note,
	})
	r.Row = keys
	return r
}

// rowOf returns an entry as a row without an ID.
func rowOf(of *Entry) auditrow.Row {
	e := *of
	e.clean()
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
	return r
}

// clean truncates texts to the stored size before they wait in the queue.
func (e *Entry) clean() {
	e.Action = Action(auditrow.Clean(string(e.Action), MaxText))
	e.Outcome = Outcome(auditrow.Clean(string(e.Outcome), MaxText))
	for _, text := range []*string{
		&e.Actor, &e.Tenant, &e.Table, &e.Column, &e.Row, &e.KeyID, &e.Request, &e.Note,
	} {
		*text = auditrow.Clean(*text, MaxText)
	}
}
