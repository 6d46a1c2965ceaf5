package windows

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// The secrets of a row.
const (
	body = iota
	email
	code
)

var columnNames = [3]string{"body", "email", "code"}

// entry is a row as the database acknowledged it.
type entry struct {
	id     int // 0 if the writer doesn't know it
	title  string
	owner  string
	texts  [3]*string
	stable bool // no writer changes it
}

// part is one writer's rows, which no other writer changes.
type part struct {
	w          *world
	index      int
	random     *rand.Rand
	rows       []*entry
	changing   []*entry // those that aren't stable
	byCode     map[string]*entry
	byEmail    map[string]map[*entry]bool
	freed      []string // codes no longer in use
	stored     []*entry // new stable rows
	serial     int
	operations int
	lookups    int
	refused    int
}

func newPart(w *world, index int) *part {
	return &part{
		w: w, index: index, random: rand.New(rand.NewPCG(uint64(index), uint64(w.size))),
		byCode: make(map[string]*entry), byEmail: make(map[string]map[*entry]bool),
	}
}

func (p *part) any() *entry        { return p.rows[p.random.IntN(len(p.rows))] }
func (p *part) changeable() *entry { return p.changing[p.random.IntN(len(p.changing))] }

// shared returns a row to read: one of the part, or a stable one that any
// writer stored in the last rounds.
func (p *part) shared() *entry {
	if n := len(p.w.shared); n > 0 && p.random.IntN(2) == 0 {
		return p.w.shared[n-1-p.random.IntN(min(n, 40))]
	}
	return p.any()
}

func (p *part) owner() string { return p.w.owners[p.random.IntN(len(p.w.owners))] }

// fresh generates a row. Its code is new or was freed.
func (p *part) fresh() *entry {
	p.serial++
	e := &entry{title: fmt.Sprintf("title %d.%d", p.index, p.serial), owner: p.owner()}
	if p.random.IntN(5) > 0 {
		text := fmt.Sprintf("the body %d of %d: ü", p.serial, p.index)
		e.texts[body] = &text
	}
	if p.random.IntN(8) > 0 {
		text := fmt.Sprintf("Row%d.%d@Example.com", p.random.IntN(1+p.w.size/10), p.index)
		e.texts[email] = &text
	}
	if p.random.IntN(10) > 0 {
		text := fmt.Sprintf("code %d of %d", p.serial, p.index)
		if n := len(p.freed); n > 0 && p.random.IntN(3) == 0 {
			text, p.freed = p.freed[n-1], p.freed[:n-1]
		}
		e.texts[code] = &text
	}
	return e
}

// add records a new row.
func (p *part) add(e *entry) {
	p.rows = append(p.rows, e)
	if !e.stable {
		p.changing = append(p.changing, e)
	}
	p.remember(e)
}

// set records a change of a row.
func (p *part) set(e *entry, owner string, texts [3]*string) {
	if old := e.texts[code]; old != nil {
		delete(p.byCode, *old)
		if !same(old, texts[code]) {
			p.freed = append(p.freed, *old)
		}
	}
	if old := e.texts[email]; old != nil {
		delete(p.byEmail[strings.ToLower(*old)], e)
	}
	e.owner, e.texts = owner, texts
	p.remember(e)
}

func (p *part) remember(e *entry) {
	if text := e.texts[code]; text != nil {
		p.byCode[*text] = e
	}
	if text := e.texts[email]; text != nil {
		lower := strings.ToLower(*text)
		if p.byEmail[lower] == nil {
			p.byEmail[lower] = make(map[*entry]bool)
		}
		p.byEmail[lower][e] = true
	}
}

func same(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
