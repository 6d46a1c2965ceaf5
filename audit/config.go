package audit

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/credent-go/credent/keyring"
)

// MaxText is the size in bytes that each text of an [Entry] may have.
const MaxText = 1024

// Errors to be tested with errors.Is.
var (
	// ErrFull means that the queue is full and [Refuse] is set: the entry was
	// not taken, so the action it records must not happen.
	ErrFull = errors.New("the audit queue is full")
	// ErrInTransaction means that the trail would wait for a transaction, and
	// the caller for the trail: on SQLite an open transaction keeps the trail
	// from writing. The entry was not taken.
	ErrInTransaction = errors.New("the audit trail can't write before the transaction ends, which keeps SQLite's " +
		"lock: reveal secrets outside of it, or use a trail in Batched mode with a larger queue")
	// ErrClosed means that the trail was closed.
	ErrClosed = errors.New("the audit trail is closed")
	// ErrNotWritten means that entries are not known to be in the database. The
	// error says how many, and has the cause.
	ErrNotWritten = errors.New("audit entries are not written")
	// ErrNoTable means that the database has no table credent_audit: run
	// credent migrate apply or, for a schema of your own, add the file with the
	// table to your migrations; see docs/your-own-schema.md.
	ErrNoTable = errors.New("the database has no table credent_audit")
	// ErrPartialView means that row-level security hides entries from the role,
	// so it can't verify: unset app.user_id.
	ErrPartialView = errors.New("row-level security hides entries")
	// ErrTampered means that entries don't verify, so they aren't archived.
	ErrTampered = errors.New("the audit trail does not verify")
	// ErrCheckpoint means that a text isn't a checkpoint.
	ErrCheckpoint = errors.New("malformed audit checkpoint")
)

// Execer runs a statement: a *sql.Tx, *sql.DB or *sql.Conn, or an ent driver
// that has the method.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Mode says when [Trail.Add] returns.
type Mode int

const (
	// Batched puts entries into a queue, and the trail writes them within
	// [Config.Flush]. A process that is killed loses the entries of its last
	// interval. It is the default.
	Batched Mode = iota
	// Sync returns from Add only after the entries are committed. Goroutines
	// that wait at the same time share a commit. On SQLite it refuses reveals
	// in transactions, with [ErrInTransaction].
	Sync
)

// WhenFull says what [Trail.Add] does while the queue is full. Nothing is ever
// dropped.
type WhenFull int

const (
	// Block waits for room, or for the context's end. It is the default.
	Block WhenFull = iota
	// Refuse returns [ErrFull].
	Refuse
)

// Config says how a [Trail] writes.
type Config struct {
	// Keyring signs the entries, with a subkey of its primary key. It is
	// required.
	Keyring *keyring.Keyring
	// Writer names the writer for people; "" means the host and the process.
	Writer string
	Mode   Mode
	// WhenFull applies to Batched and Sync.
	WhenFull WhenFull
	// Queue is how many entries may wait, including the ones being written; 0
	// means 65,536, which take about 30 MB if all differ.
	Queue int
	// Flush is the longest an entry waits before it is written, unless the
	// database is away; 0 means a second.
	Flush time.Duration
	// OnCheckpoint, if set, gets the signed head of the writer's chain once a
	// minute while it grows, and at Close. Keep the last one of each writer
	// outside the database. It must not call the trail.
	OnCheckpoint func(Checkpoint)
	// OnError, if set, is told why a flush failed. The trail tries it again. It
	// must not call the trail.
	OnError func(error)
}
