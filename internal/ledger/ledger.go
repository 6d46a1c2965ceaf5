// Package ledger divides long work over a table among workers and processes.
//
// A table is divided by its keys into parts, and gone through in passes. A
// worker claims a part for a while, goes through it, and says now and then how
// far it is. If it is killed, the part is free again after [Lease], and whoever
// claims it next goes on from there. [Stored] keeps that in the table [Table]
// of the database, so that processes share one pass and a later one goes on
// with it; [Memory] keeps it for the workers of one process.
//
// Nothing is done less carefully because of it: it says where to go on, and the
// last pass looks at every row that it isn't known of to have been looked at.
// Its rows can be deleted at any time.
package ledger

import (
	"errors"
	"time"
)

// Table has a row for each work and for each of its parts.
const Table = "credent_progress"

const (
	// Lease is how long a part is its worker's since it was last saved.
	Lease = 15 * time.Second
	// SaveEvery is how often a worker's position is saved.
	SaveEvery = time.Second
	// keptDays is for how long a work is remembered that nobody works on.
	keptDays = 7
)

// ErrLost means that the work's rows are gone, or some of them: start over.
var ErrLost = errors.New("rotate: the positions are gone")

// Counts are what a pass found in a part.
type Counts struct {
	Read        int64 // rows
	Found       int64 // of these, with something to do
	Skipped     int64 // of these, that were left as they are
	Quarantined int64 // values that can't be dealt with
}

// Part is a range of keys. Keys are texts that the caller encodes; "" is none.
type Part struct {
	Number int    // from 1, in the order of the keys
	After  string // the key that it begins after
	UpTo   string // its last key
	Pass   int
	At     string // the last key that is done in this pass, and what the caller adds
	Counts Counts // up to At
}

// Plan divides a table.
type Plan struct {
	Bounds []string // each is the last key of one part, and the next begins after it
	Began  string   // what the caller knows of the moment before the first pass
}

func (p Plan) parts() []Part {
	parts := make([]Part, len(p.Bounds)+1)
	for i := range parts {
		parts[i].Number = i + 1
		if i > 0 {
			parts[i].After = p.Bounds[i-1]
		}
		if i < len(p.Bounds) {
			parts[i].UpTo = p.Bounds[i]
		}
	}
	return parts
}

// State is how far the pass under way is.
type State struct {
	Pass   int    // from 1
	Since  string // as given to Next; "" for the first pass
	Began  string // what the caller knew of the moment before the pass
	Left   int    // parts that aren't done
	Free   int    // of these, that nobody has
	Counts Counts
	Others int64 // rows that others have read
}
