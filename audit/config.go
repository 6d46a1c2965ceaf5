package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/credent-go/credent/keyring"
)

// MaxText is the size in bytes that each text of an [Entry] may have.
const MaxText = 1024

// Errors to be tested with errors.Is.
var (
	// ErrFull means that the queue is full and [Refuse] is set: the entry was
	// not taken, so what it stands for must not happen.
	ErrFull = errors.New("the audit queue is full")
	// ErrInTransaction means that the trail would wait for a transaction, and
	// the caller would wait for the trail: on SQLite an open transaction keeps
	// the trail from writing. The entry was not taken.
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
	// so that it can't verify: unset app.user_id.
	ErrPartialView = errors.New("row-level security hides entries")
	// ErrTampered means that entries do not verify, so that they are not
	// archived.
	ErrTampered = errors.New("the audit trail does not verify")
	// ErrCheckpoint means that a text is no checkpoint.
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
	// Batched puts entries into a queue, and the trail writes them after
	// [Config.Flush] at the latest. A process that is killed loses the entries
	// of its last interval. It is the default.
	Batched Mode = iota
	// Sync returns from Add only after the entries are committed. Goroutines
	// that wait at the same time share a commit. On SQLite it refuses reveals
	// in transactions, by [ErrInTransaction].
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

// Config says how a [Trail] writes. [Open] validates it, once, and keeps a
// copy.
type Config struct {
	// Keyring signs the entries, by a subkey of its primary key. It is
	// required: nil, or one without keys, is a keyring.ErrNoKey.
	Keyring *keyring.Keyring
	// Writer names the writer for people. "" means the host and the process.
	Writer string
	// Mode says when Add returns. Zero means [Batched]. An unknown mode is an
	// error of Open.
	Mode Mode
	// WhenFull is for Batched and Sync alike. Zero means [Block]. An unknown
	// value is an error of Open.
	WhenFull WhenFull
	// Queue is how many entries wait at most, those that are being written
	// included. 0 and less mean 65,536, which take about 30 MB if all differ.
	Queue int
	// Flush is how long an entry waits at most before it is written, unless the
	// database is away. 0 and less mean a second.
	Flush time.Duration
	// OnCheckpoint is told the signed head of the writer's chain once a minute
	// while it grows, and at Close. Keep the last one of each writer outside
	// the database. It must not call the trail. Nil means that nobody is told.
	OnCheckpoint func(Checkpoint)
	// OnError is told why a flush failed. The trail tries it again. It must not
	// call the trail. Nil means that nobody is told.
	OnError func(error)
}

// check refuses values that mean nothing.
func (cfg *Config) check() error {
	switch {
	case cfg.Mode != Batched && cfg.Mode != Sync:
		return fmt.Errorf("audit: Mode is %d, which is neither Batched nor Sync", cfg.Mode)
	case cfg.WhenFull != Block && cfg.WhenFull != Refuse:
		return fmt.Errorf("audit: WhenFull is %d, which is neither Block nor Refuse", cfg.WhenFull)
	}
	return nil
}
