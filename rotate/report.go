package rotate

import "time"

// Progress says how far a pass over a table is.
type Progress struct {
	Table     string
	Pass      int           // from 1; 0 before the first pass and in Verify
	Read      int64         // rows read in this pass
	Total     int64         // rows that the table had when the pass began
	Rewritten int64         // rows rewritten in this run
	Elapsed   time.Duration // since the run began

	// Batch is the number of rows that are currently read and written at once.
	// It is halved when the database takes too long for it, down to one row,
	// and grows back.
	Batch int
	// Waiting is nil while rows are read and written. If the database fails for
	// a while, it says what happened, as a [*DatabaseError], and the run
	// retries after Pause.
	Waiting error
	Pause   time.Duration
}

// Report is what a run did.
type Report struct {
	Tables []TableReport
	DryRun bool
}

// TableReport is what a run did in one table.
type TableReport struct {
	Table   string
	Columns []string
	// Rows is the number of rows that this run read in the last pass over the
	// whole table or, if there was none, in all passes. For a plain table on
	// Postgres it includes the passes after that one, which read the rows
	// written meanwhile.
	Rows int64
	// Others is the number of rows that others read in the same passes: a
	// concurrent run, or an earlier one that was stopped.
	Others int64
	// ChangedSince isn't zero if earlier runs for the same goal had found all
	// older rows as they should be, and this run only read rows written since.
	ChangedSince time.Time
	// Rewritten is the number of rows written, or with DryRun that would be.
	Rewritten int64
	// Indexed is how many of these kept their secrets and only got a digest in
	// a blind index.
	Indexed int64
	// Renamed is how many of these had a bound token or a digest under an
	// earlier name of its column.
	Renamed int64
	// Skipped is the number of writes that found the row changed by another;
	// they were tried again in the next pass.
	Skipped int64
	// Shredded is the number of secrets in the last pass under a destroyed
	// tenant's key.
	Shredded int64
	Passes   int
	// Quarantined is the number of secrets in the same passes that could not be
	// opened or rewritten, and Examples are the first of them by the text of
	// their rows' keys, at most [MaxExamples]. Config.Quarantine gets all.
	Quarantined int64
	Examples    []Quarantined
	// QuarantinedByOthers is the number of secrets that a concurrent run
	// reports.
	QuarantinedByOthers int64
	// Validated names the CHECKs that [Encrypt] has validated.
	Validated []string
	// Unchecked names the columns without a CHECK that keeps plaintext out.
	Unchecked []string
	// Canaries is the number of canaries written or, with DryRun, that would
	// be; see encrypted.KeepCanary.
	Canaries int64

	left       map[string]int64 // quarantined values by column
	validating string           // a CHECK awaiting the database's answer
}

// Rewritten is the number of rows rewritten in all tables.
func (r *Report) Rewritten() int64 {
	var n int64
	for _, t := range r.Tables {
		n += t.Rewritten
	}
	return n
}
