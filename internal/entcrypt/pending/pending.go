// Package pending holds a transaction's entries for the audit trail until the
// transaction ends, and follows the caller's savepoints.
package pending

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/credent-go/credent/internal/opentx"
)

// Entries are a transaction's entries until it ends. Nil means that there is no
// transaction.
type Entries struct {
	tx     opentx.Tx
	mu     sync.Mutex
	done   []func(committed bool)
	marks  []mark // the caller's savepoints
	failed error  // why the trail lacks a change
	before int    // number of savepoints then
}

// mark is a savepoint and the number of entries at that time.
type mark struct {
	name string
	at   int
}

// In returns a context for work in the transaction.
func (p *Entries) In(ctx context.Context) context.Context {
	if p == nil {
		return ctx
	}
	return opentx.With(ctx, &p.tx)
}

// Add adds a function to call when the transaction ends.
func (p *Entries) Add(done func(committed bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = append(p.done, done)
}

// Fail notes that a change has no entry, so that the transaction must not be
// committed. It returns err, and does nothing if err is nil.
func (p *Entries) Fail(err error) error {
	if p == nil || err == nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed == nil {
		p.failed, p.before = err, len(p.marks)
	}
	return err
}

// Failed returns the error that Fail noted, unless the change was rolled back.
func (p *Entries) Failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// End reports to the trail how the transaction ended.
func (p *Entries) End(committed bool) {
	p.tx.End()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut(0, committed)
}

// cut ends the entries from index at on.
func (p *Entries) cut(at int, committed bool) {
	for _, done := range p.done[at:] {
		done(committed)
	}
	p.done = p.done[:at]
}

// SQL looks for savepoints and rollbacks in the caller's raw SQL, and ends
// entries that are rolled back. If it can't tell which are, none so far counts
// as committed: an entry in the trail is valid without its link.
func (p *Entries) SQL(query string) {
	if p == nil {
		return
	}
	words := strings.Fields(strings.ToUpper(strings.TrimRight(query, "; \t\r\n")))
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case len(words) == 2 && words[0] == "SAVEPOINT":
		p.marks = append(p.marks, mark{words[1], len(p.done)})
	case len(words) > 2 && words[0] == "ROLLBACK":
		for i, m := range slices.Backward(p.marks) {
			if m.name == words[len(words)-1] && m.at <= len(p.done) {
				p.cut(m.at, false)
				if p.marks = p.marks[:i+1]; i < p.before {
					p.failed = nil
				}
				return
			}
		}
		p.cut(0, false)
	case strings.Contains(strings.Join(words, " "), "ROLLBACK"), slices.Contains(words, "ABORT"):
		p.cut(0, false)
	}
}
