//go:build linux

package faults

import (
	"slices"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/integration/sequence/ent"
	"github.com/credent-go/credent/integration/sequence/ent/card"
	"github.com/credent-go/credent/rotate"
)

// checkPage is the number of rows read at once.
const checkPage = 1000

// check compares the database, at rest, with the writers' records, using a
// client that has no keys yet. If the last fail-over was asynchronous, it tells
// the writers which writes were undone.
func (w *world) check() {
	w.Helper()
	db := w.pool("pgx", w.url, "suite")
	defer func() { _ = db.Close() }()
	client := w.client(db)
	stored := w.readAll(client)
	for _, r := range w.writers {
		for _, e := range r.rows {
			w.compare(client, e, stored[e.name])
			delete(stored, e.name)
		}
		r.usable = slices.DeleteFunc(r.usable, func(e *entry) bool { return e.acked == 0 || e.doubt })
	}
	for name := range stored {
		w.found(&w.wrong, "%s is nobody's", name)
	}
	w.unsettled.Store(false)
	counts, err := rotate.Verify(w.ctx, db, w.ring, columns...)
	if err == nil {
		err = counts.Err()
	}
	if err != nil {
		w.found(&w.wrong, "verify: %v", err)
	}
}

func (w *world) readAll(client *ent.Client) map[string]*ent.Card {
	w.Helper()
	stored := make(map[string]*ent.Card)
	for last := 0; ; {
		page, err := client.Card.Query().Where(card.IDGT(last)).Order(card.ByID()).Limit(checkPage).All(w.ctx)
		w.must(err)
		for _, row := range page {
			stored[row.Name], last = row, row.ID
		}
		if len(page) < checkPage {
			return stored
		}
	}
}

// compare compares a row with its entry.
func (w *world) compare(client *ent.Client, e *entry, row *ent.Card) {
	w.Helper()
	if row == nil {
		switch {
		case e.acked == 0: // never acknowledged
		case e.epoch < w.epoch.Load() && w.unsettled.Load():
			w.undone.Add(1)
		default:
			w.found(&w.lost, "%s was acknowledged and is missing", e.name)
		}
		e.acked, e.doubt = 0, true // its writer no longer uses it
		return
	}
	w.reads.Add(1)
	serial, err := w.read(row)
	if err != nil {
		w.found(&w.wrong, "%s does not open: %v", e.name, err)
		e.doubt = true
		return
	}
	got, acked := slices.Index(e.tried, serial), slices.Index(e.tried, e.acked)
	switch {
	case got < 0:
		w.found(&w.wrong, "%s has a value that nobody wrote", e.name)
	case got > acked && !e.doubt:
		w.found(&w.wrong, "%s has a value that is newer than the last", e.name)
	case got < acked && e.epoch < w.epoch.Load() && w.unsettled.Load():
		w.undone.Add(1)
		e.acked = serial
	case got < acked:
		w.found(&w.lost, "%s has an earlier value than the one that was acknowledged", e.name)
	}
	if !e.checked {
		w.checkDigests(client, row, serial)
		e.checked = true
	}
}

// checkDigests looks up a row by both of its secrets.
func (w *world) checkDigests(client *ent.Client, row *ent.Card, serial int) {
	w.Helper()
	t := text{row.OwnerID, row.Name, serial}
	for what, where := range map[string]func() ([]int, error){
		"pin": func() ([]int, error) {
			return client.Card.Query().Where(card.PinIs(t.owner, encrypted.New(t.pin()))).IDs(w.ctx)
		},
		"email": func() ([]int, error) {
			return client.Card.Query().Where(card.EmailIs(encrypted.New(t.email()))).IDs(w.ctx)
		},
	} {
		ids, err := where()
		if err != nil {
			w.found(&w.wrong, "look up %s by its %s: %v", row.Name, what, err)
			continue
		}
		w.reads.Add(1)
		if !slices.Equal(ids, []int{row.ID}) {
			w.found(&w.wrong, "a lookup of %s by its %s finds %d rows", row.Name, what, len(ids))
		}
	}
}
