package audit

import (
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
)

// FindingKind names a kind of tampering.
type FindingKind string

// The kinds.
const (
	// Removed entries are missing: between others, at the beginning of a chain,
	// behind a signed head, or tied to a chain by a link.
	Removed FindingKind = "removed"
	// Changed entries differ from what was signed.
	Changed FindingKind = "changed"
	// Inserted entries were not made with a key of the keyring.
	Inserted FindingKind = "inserted"
	// Reordered entries have swapped places.
	Reordered FindingKind = "reordered"
	// Copied entries have the signature of another entry.
	Copied FindingKind = "copied"
	// BadCheckpoint is a checkpoint that isn't genuine.
	BadCheckpoint FindingKind = "checkpoint"
	// BadArchive is an archive that is missing, or differs from what was
	// written.
	BadArchive FindingKind = "archive"
)

// Finding is a place where the trail was tampered with.
type Finding struct {
	Kind   FindingKind `json:"kind"`
	Writer uuid.UUID   `json:"writer"` // zero if it isn't about a chain
	Seq    int64       `json:"seq"`    // 0 for an entry of a transaction
	ID     uuid.UUID   `json:"id"`     // of the entry, zero if that is unknown
	Text   string      `json:"text"`   // for people
}

// String returns a line for people.
func (f Finding) String() string { return string(f.Kind) + ": " + f.Text }

// VerifyOptions says what else [Verify] compares the trail with.
type VerifyOptions struct {
	// Checkpoints are heads that were kept outside the database.
	Checkpoints []Checkpoint
	// Archives are files of [Archive], each read to its end. If there is at
	// least one, an archived month without its file is a finding.
	Archives []io.Reader
}

// ArchivedMonth is a month, or a part of one, that [Archive] took out.
type ArchivedMonth struct {
	From    time.Time `json:"from"` // the beginning of the month, UTC
	To      time.Time `json:"to"`   // the beginning of the next
	Entries int64     `json:"entries"`
	SHA256  string    `json:"sha256"` // of its lines in the file, hexadecimal
}

// Report is what [Verify] found. Numbers count rows of the table; a row may
// stand for several reveals.
type Report struct {
	Writers  int   `json:"writers"`
	Entries  int64 `json:"entries"`
	Verified int64 `json:"verified"`
	// Open counts chains without an end: their processes run, or were killed.
	Open int `json:"open"`
	// Unlinked counts genuine entries of transactions that aren't in a chain.
	// Killed processes leave them, and [SignHeads] ties them to a chain. The
	// removal of one would go unnoticed.
	Unlinked     int64           `json:"unlinked"`
	Archived     []ArchivedMonth `json:"archived,omitempty"`
	Findings     []Finding       `json:"findings,omitempty"`
	CouldNotLook []string        `json:"could_not_look,omitempty"`
	// More and MoreCouldNotLook count the ones beyond the first 1,000 of each,
	// which aren't listed.
	More             int64 `json:"more,omitempty"`
	MoreCouldNotLook int64 `json:"more_could_not_look,omitempty"`
}

// Err returns nil if each entry is verified, and otherwise an [ErrTampered]
// with the first finding, or with what Verify could not look at.
func (r *Report) Err() error {
	if err := r.tampered(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

func (r *Report) tampered() error {
	switch {
	case len(r.Findings) > 0:
		return fmt.Errorf("%w: %s (%d findings)", ErrTampered, r.Findings[0], int64(len(r.Findings))+r.More)
	case len(r.CouldNotLook) > 0:
		return fmt.Errorf("%w: %s", ErrTampered, r.CouldNotLook[0])
	}
	return nil
}

const maxFindings = 1000

func (r *Report) found(kind FindingKind, writer uuid.UUID, seq int64, id uuid.UUID, format string, args ...any) {
	if len(r.Findings) == maxFindings {
		r.More++
		return
	}
	r.Findings = append(r.Findings, Finding{kind, writer, seq, id, fmt.Sprintf(format, args...)})
}
