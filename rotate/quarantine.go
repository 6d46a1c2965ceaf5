package rotate

import (
	"cmp"
	"encoding/json"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
)

// MaxExamples is how many quarantined secrets the report of a table, or the
// count of a column, names. Config.Quarantine gets all of them.
const MaxExamples = 20

// maxTold limits the reported secrets that a run remembers, at most 8 MB. A
// later pass reports further ones again.
const maxTold = 1 << 19

// Quarantined is a secret that could not be opened or rewritten.
type Quarantined struct {
	Table  string
	Column string
	Row    string // primary key; "" for the column's canary
	// Err is ErrNotEncrypted, ErrCorrupt or ErrUnknownKey, one of the errors of
	// storing a plaintext, or [ErrRefused]; from [Verify] also [ErrReadable],
	// or why the plaintext doesn't decode. It doesn't quote the secret.
	Err error
}

// MarshalJSON writes table, column, row and, as reason, the text of the error.
func (q Quarantined) MarshalJSON() ([]byte, error) {
	reason := ""
	if q.Err != nil {
		reason = q.Err.Error()
	}
	return json.Marshal(struct {
		Table  string `json:"table"`
		Column string `json:"column"`
		Row    string `json:"row"`
		Reason string `json:"reason"`
	}{q.Table, q.Column, q.Row, reason})
}

// quarantine counts the values that a pass leaves unchanged, and keeps a few
// examples.
type quarantine struct {
	n        int64
	columns  map[string]int64
	examples []Quarantined
}

func (q *quarantine) add(list ...Quarantined) {
	for _, one := range list {
		if q.n++; q.columns == nil {
			q.columns = make(map[string]int64)
		}
		q.columns[one.Column]++
		q.examples = addExample(q.examples, one)
	}
}

// merge adds another pass's quarantine.
func (q *quarantine) merge(more quarantine) {
	if q.n += more.n; q.columns == nil {
		q.columns = make(map[string]int64)
	}
	for column, n := range more.columns {
		q.columns[column] += n
	}
	for _, one := range more.examples {
		q.examples = addExample(q.examples, one)
	}
}

// addExample keeps the first examples by their rows' keys as text, so that each
// run has the same ones.
func addExample(examples []Quarantined, one Quarantined) []Quarantined {
	i, _ := slices.BinarySearchFunc(examples, one, func(a, b Quarantined) int {
		return cmp.Or(strings.Compare(a.Row, b.Row), strings.Compare(a.Column, b.Column))
	})
	if i == MaxExamples {
		return examples
	}
	examples = slices.Insert(examples, i, one)
	return examples[:min(len(examples), MaxExamples)]
}

// isLeft reports whether any of a column's values were left unchanged.
func (t *TableReport) isLeft(column string) bool { return t.left[column] > 0 }

// leave records a pass's quarantine in the report.
func (t *TableReport) leave(q quarantine) {
	t.Quarantined, t.Examples, t.left = q.n, q.examples, q.columns
}

// leaveMore adds to the report's quarantine.
func (t *TableReport) leaveMore(more quarantine) {
	q := quarantine{t.Quarantined, maps.Clone(t.left), t.Examples}
	q.merge(more)
	t.leave(q)
}

// leaveCanary adds a canary to the report's quarantine.
func (t *TableReport) leaveCanary(one Quarantined) {
	var q quarantine
	q.add(one)
	t.leaveMore(q)
}

// quarantineTeller passes secrets to Config.Quarantine, one call at a time.
type quarantineTeller struct {
	calling sync.Mutex
	told    told
}

// told is the set of reported secrets, by hash: open addressing in a slice that
// is at most half full, in which 0 is free.
type told struct {
	seed   maphash.Seed
	places []uint64
	n      int
}

// add reports whether a secret is new, as far as the set remembers.
func (t *told) add(one Quarantined) bool {
	if t.places == nil {
		t.seed, t.places = maphash.MakeSeed(), make([]uint64, 1<<10)
	}
	key := maphash.String(t.seed, strings.Join([]string{one.Table, one.Column, one.Row, one.Err.Error()}, "\x00")) | 1
	i := t.find(key)
	if t.places[i] == key {
		return false
	}
	if t.n == maxTold {
		return true
	}
	t.places[i] = key
	if t.n++; t.n < maxTold && 2*t.n > len(t.places) {
		before := t.places
		t.places = make([]uint64, 2*len(before))
		for _, key := range before {
			if key != 0 {
				t.places[t.find(key)] = key
			}
		}
	}
	return true
}

// find returns the slot that a key has or would get.
func (t *told) find(key uint64) uint64 {
	last := uint64(len(t.places) - 1) // a power of two minus one
	i := key >> 1 & last
	for t.places[i] != 0 && t.places[i] != key {
		i = (i + 1) & last
	}
	return i
}

// quarantined reports a pass's quarantined secrets, except those that an
// earlier pass reported.
func (r *run) quarantined(list []Quarantined) error {
	if r.cfg.Quarantine == nil || len(list) == 0 {
		return nil
	}
	r.calling.Lock()
	defer r.calling.Unlock()
	if r.cfg.DryRun { // only one pass
		return r.callQuarantine(list)
	}
	var fresh []Quarantined
	for _, one := range list {
		if r.told.add(one) {
			fresh = append(fresh, one)
		}
	}
	return r.callQuarantine(fresh)
}

func (r *run) callQuarantine(list []Quarantined) error {
	if r.cfg.Quarantine == nil || len(list) == 0 {
		return nil
	}
	if err := r.cfg.Quarantine(list); err != nil {
		return &tellError{err}
	}
	return nil
}

// tellError is an error returned by Config.Quarantine.
type tellError struct{ error }

func (e *tellError) Error() string { return "tell about quarantined secrets: " + e.error.Error() }
func (e *tellError) Unwrap() error { return e.error }
