package audit

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent/internal/principal"
)

// Action says what was done.
type Action string

// The actions that Credent records.
const (
	ActionReveal     Action = "reveal"     // a secret was opened for a caller, or did not open
	ActionCreate     Action = "create"     // rows were stored
	ActionUpdate     Action = "update"     // a row was changed
	ActionDelete     Action = "delete"     // rows were removed
	ActionExport     Action = "export"     // secrets left the database as a file
	ActionImport     Action = "import"     // secrets came into the database from a file
	ActionRotate     Action = "rotate"     // rows were re-encrypted
	ActionDestroy    Action = "destroy"    // a tenant's key was destroyed
	ActionMove       Action = "move"       // an account was given to another user
	ActionState      Action = "state"      // the state of a column's protection was changed
	ActionOpen       Action = "open"       // a writer began its chain
	ActionClose      Action = "close"      // a writer ended its chain
	ActionLink       Action = "link"       // entries of committed transactions, tied to the chain
	ActionCheckpoint Action = "checkpoint" // heads of all chains, signed
	ActionArchive    Action = "archive"    // entries were written to a file, and dropped
)

// Outcome says how it ended: [OutcomeOK], or the name of the error.
type Outcome string

// The outcomes.
const (
	OutcomeOK            Outcome = "ok"
	OutcomeUnknownKey    Outcome = "unknown-key"
	OutcomeCorrupt       Outcome = "corrupt"
	OutcomeShredded      Outcome = "shredded"
	OutcomeWrongLocation Outcome = "wrong-location"
	OutcomeRefused       Outcome = "refused"
	OutcomeFailed        Outcome = "failed"
)

// Entry says what was done. It holds no value, no digest and no token.
//
// A text longer than [MaxText] bytes is cut, and ends in "…". Bytes that aren't
// UTF-8, and NUL, become U+FFFD.
type Entry struct {
	// ID is a UUIDv7. The trail makes it if it is zero.
	ID uuid.UUID `json:"id"`
	// At is when it happened, in UTC and in microseconds. The trail sets it if
	// it is zero. Reveals that are stored together share the time of the first,
	// at most some 100 ms earlier.
	At      time.Time `json:"at"`
	Action  Action    `json:"action"`
	Actor   string    `json:"actor,omitempty"`  // set by credent.WithActor, or the user
	Tenant  string    `json:"tenant,omitempty"` // "" if none is known
	Table   string    `json:"table,omitempty"`
	Column  string    `json:"column,omitempty"`  // "" for a row as a whole
	Row     string    `json:"row,omitempty"`     // primary key as text, "" for many rows
	Rows    int64     `json:"rows"`              // how many rows; 0 is stored as 1, and a negative number as 0
	KeyID   string    `json:"key,omitempty"`     // public ID of the key, "" if not known
	Outcome Outcome   `json:"outcome"`           // [OutcomeOK] if ""
	Request string    `json:"request,omitempty"` // set by [WithRequestID]
	Note    string    `json:"note,omitempty"`    // such as the fields of an update; never a value
}

// WithRequestID returns a context that names a request in its entries, so that
// the trail can be joined with a service's own log.
func WithRequestID(ctx context.Context, id string) context.Context {
	return principal.WithRequest(ctx, id)
}

// RequestID returns the request of a context, or "".
func RequestID(ctx context.Context) string {
	return principal.Request(ctx)
}
