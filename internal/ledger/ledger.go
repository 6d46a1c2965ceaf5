// Package ledger divides a long job over a table among workers and processes.
//
// A table's keys are divided into parts, and the job goes through them in
// passes. A worker claims a part, processes it, and saves its position now and
// then. If the worker is killed, the part is free again after [Lease], and the
// next worker to claim it continues from the saved position. [Stored] keeps
// this state in the table [Table] of the database, so that processes share one
// pass and a later process continues it. [Memory] keeps it for the workers of
// one process.
//
// The ledger makes no job less thorough: it only says where to continue, and
// the last pass reads every row that isn't known to have been read. Its rows
// can be deleted at any time.
package ledger

import (
	"errors"
	"time"
)

// Table has one row per job and one per part.
const Table = "credent_progress"

const (
	// Lease is how long a worker keeps a part after its last save.
	Lease = 15 * time.Second
	// SaveEvery is how often a worker's position is saved.
	SaveEvery = time.Second
	// keptDays is how long an abandoned job is kept.
	keptDays = 7
)

// ErrLost means that some or all of the job's rows are missing: start over.
var ErrLost = errors.New("rotate: the positions are gone")

// Counts are a pass's results in a part.
type Counts struct {
	Read        int64 // rows
	Found       int64 // rows with something to do
	Skipped     int64 // rows found but left unchanged
	Quarantined int64 // values that can't be processed
}

// Part is a range of keys. Keys are texts encoded by the caller; "" means no
// key.
type Part struct {
	Number int    // from 1, in key order
	After  string // the last key before the part
	UpTo   string // the part's last key
	Pass   int
	At     string // the last key processed in this pass, and the caller's own data
	Counts Counts // up to At
}

// Plan divides a table.
type Plan struct {
	Bounds []string // the last key of each part but the final one
	Began  string   // the caller's data from before the first pass
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

// State is the progress of the current pass.
type State struct {
	Pass   int    // from 1
	Since  string // as passed to Next; "" for the first pass
	Began  string // the caller's data from before the pass
	Left   int    // unfinished parts
	Free   int    // unfinished parts without a worker
	Counts Counts
	Others int64 // rows read by other processes
}
