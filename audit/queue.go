package audit

import (
	"encoding/hex"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/auditrow"
	"github.com/credent-go/credent/internal/fieldcrypt"
)

// waiting is what was taken and is not written yet.
type waiting struct {
	size    int   // entries that take room, also while they are being written
	taken   int64 // all that were ever put into the queue
	written int64 // those that are committed
	turn    int   // groups of an earlier one take no more reveals
	timed   bool  // the turn's end is near
	woken   bool  // the flusher is about to empty the queue
	groups  []*group
	index   map[kind]*group // the last group of a kind
	links   []auditrow.Link
}

// kind is what reveals have in common that are stored as one row.
type kind struct {
	actor, tenant, table, column, keyID, request, note string

	outcome Outcome
	dated   bool // the caller says when it was
}

// group is one row to be, or few. Reveals of one kind within 100 ms share it: a
// list with thousands of secrets costs the database few rows.
type group struct {
	kind
	turn  int
	at    time.Time
	rows  []any  // primary keys, which the flusher writes as text
	entry *Entry // instead of all this, for an entry that stays alone
}

const (
	groupWindow = 100 * time.Millisecond
	groupRows   = 256
)

// put adds an entry for which there is room. The caller has the lock.
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
// remembers it, or to a new one, and returns that. A zero time is now. The
// caller has the lock.
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

// takes reports whether a group is still waiting in the queue, and has room for
// a reveal at a time. It doesn't look at the clock, which takes longer than all
// the rest: a timer ends the turn.
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

// begin makes the group of a kind again. There may be one before, and then this
// one likely gets as many rows.
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

// nextTurn makes later reveals begin groups again.
func (t *Trail) nextTurn() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timed, t.index = false, nil
	t.turn++
}

// take empties the queue. The caller has the lock.
func (t *Trail) take() (groups []*group, links []auditrow.Link, ticket int64) {
	groups, links = t.groups, t.links
	t.groups, t.links, t.index, t.woken = nil, nil, nil, false
	t.turn++
	return groups, links, t.taken
}

// wakes reports whether it is time to wake the flusher, once. The caller has
// the lock.
func (t *Trail) wakes() bool {
	if t.woken || t.size < t.cfg.Queue/2 && t.cfg.Mode != Sync {
		return false
	}
	t.woken = true
	return true
}

// each calls add with the rows of a group, and with how many entries each
// stands for: one row, but for keys that are no lines, or too long together.
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
		if id, ok := key.(uuid.UUID); ok && text.Len()+len(buf) < auditrow.MaxLines { // in half the time
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

// appendUUID appends what id.String returns.
func appendUUID(to []byte, id uuid.UUID) []byte {
	for i, part := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			to = append(to, '-')
		}
		to = hex.AppendEncode(to, part)
	}
	return to
}

// row returns a row of the group, for clean texts of primary keys.
func (g *group) row(keys string) auditrow.Row {
	r := rowOf(&Entry{
		At: g.at, Action: ActionReveal, Actor: g.actor, Tenant: g.tenant, Table: g.table, Column: g.column,
		KeyID: g.keyID, Outcome: g.outcome, Request: g.request, Note: g.note,
	})
	r.Row = keys
	return r
}

// rowOf returns an entry as a row, without ID.
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

// clean cuts the texts to the size that is stored, before they wait.
func (e *Entry) clean() {
	e.Action = Action(auditrow.Clean(string(e.Action), MaxText))
	e.Outcome = Outcome(auditrow.Clean(string(e.Outcome), MaxText))
	for _, text := range []*string{
		&e.Actor, &e.Tenant, &e.Table, &e.Column, &e.Row, &e.KeyID, &e.Request, &e.Note,
	} {
		*text = auditrow.Clean(*text, MaxText)
	}
}
