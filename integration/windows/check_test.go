package windows

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/integration/sequence/ent/note"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/rotate"
)

// found is the result of reading all rows.
type found struct{ rows, unreadable, lost int }

// check compares the database, at rest, with the acknowledged rows, in all
// writers' current states.
func (w *world) check(s step, last bool) (f found) {
	w.Helper()
	ctx, db := w.Context(), w.dbs["pgx"]
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := rotate.CheckUnique(ctx, db, w.ring, w.config(s.states)); err != nil {
			w.Errorf("%s: CheckUnique: %v", s.name, err)
		}
		counts, err := rotate.Verify(ctx, db, w.ring, noteColumns...)
		if err != nil {
			w.Errorf("%s: Verify: %v", s.name, err)
			return
		}
		w.checkCounts(s, counts.Under(given(s.states)...))
	})
	f = w.readAll(s)
	wg.Wait()
	w.checkKey(s)
	n := min(2000, w.size/20)
	if last {
		n = 2000
	}
	w.lookUp(s, n)
	var gaps int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM notes WHERE code IS NOT NULL AND code_index IS NULL OR "+
		"email IS NOT NULL AND email_index IS NULL").Scan(&gaps); err != nil || gaps > 0 {
		w.Errorf("%s: %d rows without digests, %v", s.name, gaps, err)
	}
	return f
}

// checkKey runs Check, which opens the last rows and the canary, if any. Check
// knows only the database's states, so they are stored while it runs.
func (w *world) checkKey(s step) {
	w.Helper()
	for _, c := range noteColumns {
		for _, p := range states.Protections {
			w.exec("INSERT INTO credent_states (column_name, protection, state) VALUES ($1, $2, $3)",
				c.String(), p.String(), s.states.Of(p).String())
		}
	}
	if err := encrypted.Check(w.Context(), w.dbs["pgx"], w.ring, noteColumns...); err != nil {
		w.Errorf("%s: Check: %v", s.name, err)
	}
	w.exec("DELETE FROM credent_states")
}

// readAll reads every row with a client.
func (w *world) readAll(s step) (f found) {
	w.Helper()
	want := make(map[int]*entry)
	byTitle := make(map[string]*entry)
	for _, p := range w.parts {
		for _, e := range p.rows {
			if e.id == 0 {
				byTitle[e.title] = e // Python's rows
			} else {
				want[e.id] = e
			}
		}
	}
	total, driver := len(want)+len(byTitle), []string{"postgres", "pgx"}[w.round%2]
	client, codes := w.client(driver, s.states), make(map[string]bool)
	for after := 0; ; {
		notes, err := client.Note.Query().Where(note.IDGT(after)).Order(note.ByID()).Limit(5000).All(w.Context())
		if err != nil {
			w.Fatalf("%s: %v", s.name, err)
		}
		if len(notes) == 0 {
			break
		}
		after = notes[len(notes)-1].ID
		for _, n := range notes {
			f.rows++
			e, ok := want[n.ID]
			if !ok {
				if e, ok = byTitle[n.Title]; !ok {
					w.Errorf("%s: no writer stored row %d", s.name, n.ID)
					continue
				}
				e.id = n.ID
			}
			texts, err := reveal(n)
			switch {
			case err != nil:
				if f.unreadable++; f.unreadable < 5 {
					w.Errorf("%s: row %d: %v", s.name, n.ID, err)
				}
			case n.Title != e.title || n.OwnerID != e.owner || !sameTexts(texts, e.texts):
				if f.lost++; f.lost < 5 {
					w.Errorf("%s: row %d differs from the acknowledged row", s.name, n.ID)
				}
			case texts[code] != nil && codes[*texts[code]]:
				w.Errorf("%s: row %d has the code of another row", s.name, n.ID)
			}
			if texts[code] != nil {
				codes[*texts[code]] = true
			}
		}
	}
	if missing := total - f.rows; missing != 0 {
		f.lost += max(missing, 0)
		w.Errorf("%s: %d rows, want %d", s.name, f.rows, total)
	}
	return f
}

// checkCounts compares Verify's counts with the step.
func (w *world) checkCounts(s step, counts rotate.Counts) {
	w.Helper()
	var rows int64
	var absent [3]int64
	for _, p := range w.parts {
		rows += int64(len(p.rows))
		for _, e := range p.rows {
			for i, text := range e.texts {
				if text == nil {
					absent[i]++
				}
			}
		}
	}
	for i, name := range columnNames {
		for _, c := range counts {
			if c.Table != note.Table || c.Column != name {
				continue
			}
			stored := rows - absent[i]
			if c.Rows != rows || c.Null != absent[i] {
				w.Errorf("%s: %s: %d rows, %d absent, want %d and %d", s.name, name, c.Rows, c.Null, rows, absent[i])
			}
			if bad := c.Shredded + c.Readable + c.UnknownKey + c.Damaged + c.OverLength + c.Undecodable + c.Earlier +
				int64(len(c.Previous)); bad != 0 {
				w.Errorf("%s: %s: Verify finds faults: %+v", s.name, name, c)
			}
			if x := c.Index; x != nil && (x.Wrong != 0 || x.Earlier != 0 || len(x.Previous) != 0 ||
				x.Missing > int64(len(w.python.gaps))) {
				w.Errorf("%s: %s: the index: %+v; Python left %d rows", s.name, name, *x, len(w.python.gaps))
			}
			if err := c.CheckStates(); err != nil {
				w.Errorf("%s: %s: %v", s.name, name, err)
			}
			for what, of := range map[string]struct {
				n    int64
				want share
			}{
				"encrypted": {stored - c.NotEncrypted, s.want.encrypted}, "bound": {c.Bound, s.want.bound},
				"under tenants' keys": {c.Tenant, s.want.tenantKeys},
			} {
				if got := shareOf(of.n, stored); got != of.want {
					w.Errorf("%s: %s: %d of %d are %s", s.name, name, of.n, stored, what)
				}
			}
			absent[i] = -1
		}
		if absent[i] >= 0 {
			w.Errorf("%s: Verify doesn't count %s", s.name, name)
		}
	}
}

func shareOf(n, of int64) share {
	switch n {
	case 0:
		return none
	case of:
		return all
	}
	return some
}

// lookUp looks up random rows, and the ones that Python stored without digests,
// which then get them.
func (w *world) lookUp(s step, n int) {
	w.Helper()
	random := rand.New(rand.NewPCG(uint64(w.round), 0))
	var errs [5]error
	var wg sync.WaitGroup
	for i, p := range w.parts {
		client := w.client([]string{"pgx", "postgres"}[i%2], s.states)
		var rows []*entry
		for range n / len(w.parts) {
			rows = append(rows, p.rows[random.IntN(len(p.rows))])
		}
		if p == w.python.part {
			for e := range w.python.gaps {
				rows = append(rows, e)
			}
		}
		wg.Go(func() {
			for _, e := range rows {
				errs[i] = errors.Join(errs[i], p.lookUpEmail(w.Context(), client, e),
					p.lookUpCode(w.Context(), client, e))
			}
		})
	}
	wg.Wait()
	clear(w.python.gaps)
	if err := errors.Join(errs[:]...); err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		w.Errorf("%s: %s", s.name, first)
	}
}
