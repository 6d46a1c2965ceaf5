// Package load stores many credentials at once: by COPY if the connection
// supports it, and otherwise by multi-row INSERTs. A row that might be refused
// goes through a Create of an ent client, with its defaults, checks, hooks and
// encryption, up to the statement, which isn't sent. So a row's error is the
// one that Create returns.
package load

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/retry"
	"github.com/credent-go/credent/internal/sqldialect"
	"github.com/credent-go/credent/internal/tenancy"
)

// DefaultBatch is the default number of rows in a transaction.
const DefaultBatch = 5000

// MaxBatch bounds the rows held in memory.
const MaxBatch = 1_000_000

// ErrUncertain means that the outcome of a COMMIT is unknown.
var ErrUncertain = errors.New("the last transaction may be stored, or not")

// Row is one credential to store. Zero fields take the defaults of a Create.
type Row struct {
	// ID is the primary key; a new one is generated if it is zero.
	ID uuid.UUID
	// UserAccountID and UserID identify the account. At least one is needed;
	// the other is looked up.
	UserAccountID uuid.UUID
	UserID        string

	CredentialType string
	// APIKey and SecretKey must be present, and may be empty.
	APIKey    fieldcrypt.Secret
	SecretKey fieldcrypt.Secret
	// ExpiresAt is when the provider starts to refuse the credential; nil for
	// never.
	ExpiresAt *time.Time
	// Inactive stores the credential as disabled.
	Inactive bool
	// CreatedAt and UpdatedAt default to the time of storing.
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Config configures Run. The zero value is ready to use.
type Config struct {
	// Batch is the number of rows in a transaction and in memory. 0 or less
	// means DefaultBatch, and MaxBatch is the maximum.
	Batch int
	// Atomic stores all rows in one transaction, or none. Progress then counts
	// the rows of the open transaction.
	Atomic bool
	// DryRun checks the rows and looks up their accounts, but stores nothing.
	// It misses errors that only the database finds, such as a duplicate
	// primary key.
	DryRun bool
	// RetryFor is how long a batch is retried during a temporary database
	// failure: a fail-over, a lost connection, a deadlock, a lock timeout, or a
	// server out of connections. 0 means five minutes, and a negative value
	// means no retries. Atomic disables retries, because the rows of earlier
	// batches are lost.
	RetryFor time.Duration
	// Waiting, if not nil, is called with the error before each pause between
	// retries.
	Waiting func(err error, pause time.Duration)
	// Progress, if not nil, is called after each batch with the number of rows
	// stored, or checked, so far.
	Progress func(rows int64)
	// Refused is called for each row that the checks refuse or that came with
	// an error. If it returns true, the row is skipped and the others are
	// stored. If Refused is nil, the first such row ends the run. A row that
	// the database refuses always ends it.
	Refused func(*Error) bool
	// Stored, if not nil, is called after each transaction with the stored
	// primary keys. The slice is valid until Stored returns.
	Stored func(ids []uuid.UUID)
}

// Sealing configures how rows are checked and encrypted.
type Sealing struct {
	// Driver is the encryption configuration of the client's driver.
	Driver driver.Config
	// NewClient returns a client, with its hooks, on a driver that encrypts and
	// then records the statement.
	NewClient func(dialect.Driver) *ent.Client
	// Guard returns the check that refuses roles exempt from row-level
	// security, or nil for no check.
	Guard func(entDialect string) (*tenancy.Guard, error)
	// Checked means that the client has hooks that may refuse or process a row,
	// so every row goes through them.
	Checked bool
	// Copier sends rows by COPY; nil if unsupported.
	Copier Copier
	// Record, if not nil, adds a transaction's rows to the audit trail just
	// before the commit. The caller must call done afterwards with the outcome.
	Record func(ctx context.Context, tx *sql.Tx, rows int64) (done func(committed bool), err error)
}

// Copier sends rows by COPY over a driver that supports it.
type Copier interface {
	// Copies reports whether it supports a connection obtained from
	// sql.Conn.Raw.
	Copies(conn any) bool
	// Copy sends the rows and returns the server's error unchanged.
	Copy(ctx context.Context, conn any, table string, columns []string, rows CopySource) error
}

// CopySource iterates over rows.
type CopySource interface {
	Next() bool
	Values() ([]any, error)
	Err() error
}

// Error identifies a row that could not be stored.
type Error struct {
	// Row is the row's position in the sequence, from 1, or 0 if the error
	// isn't about one row.
	Row int64
	// Err is the error that a Create would return, or the sequence's error.
	Err error
}

func (e *Error) Error() string {
	if e.Row == 0 {
		return "credent: copy: " + e.Err.Error()
	}
	return fmt.Sprintf("credent: copy: row %d: %v", e.Row, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// numbered is a row and its position in the sequence.
type numbered struct {
	Row
	number int64
}

// loader is the state of one Run call.
type loader struct {
	cfg     Config
	db      *sql.DB
	sealing Sealing
	conn    *sql.Conn // opened on first use
	dialect string
	guard   *tenancy.Guard
	copier  Copier
	copies  bool // uses COPY
	sealer  *sealer
	tx      *sql.Tx // for one batch, or for all if Atomic
	stored  int64
	sent    int64          // rows in the transaction
	ids     []uuid.UUID    // their IDs
	users   []string       // their users
	left    map[int64]bool // the batch's refused rows that are skipped
}

// Run stores the rows and returns how many it stored: a prefix of the sequence,
// without the skipped rows. See credent.Copy.
func Run(
	ctx context.Context, db *sql.DB, rows iter.Seq2[Row, error], cfg Config, sealing Sealing,
) (stored int64, err error) {
	if cfg.Batch <= 0 {
		cfg.Batch = DefaultBatch
	}
	cfg.Batch = min(cfg.Batch, MaxBatch)
	l := &loader{cfg: cfg, db: db, sealing: sealing, copier: sealing.Copier, left: make(map[int64]bool)}
	defer l.disconnect()
	policy := l.policy()
	policy.Final = []retry.Kind{retry.Standby} // it may never have been the primary
	err = policy.Do(ctx, func() error { return l.connect(ctx) })
	if err == nil {
		err = l.run(ctx, rows)
	}
	if l.tx != nil {
		_ = l.tx.Rollback() // after an error; the server also rolls back when the connection ends
	}
	var of *Error
	if err != nil && !errors.As(err, &of) {
		err = &Error{Err: retry.Explain(err)}
	}
	return l.stored, err
}

func (l *loader) policy() retry.Policy {
	return retry.Policy{Limit: l.cfg.RetryFor, DB: l.db, Notify: func(w retry.Wait) {
		if l.cfg.Waiting != nil {
			l.cfg.Waiting(w.Err, w.Pause)
		}
	}}
}

// connect gets a connection if there is none. It discards the tenant keys'
// state from an earlier connection, because the database may be another copy
// now.
func (l *loader) connect(ctx context.Context) (err error) {
	if l.conn != nil {
		return nil
	}
	if l.conn, err = l.db.Conn(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			l.disconnect()
		}
	}()
	if err := l.inspect(ctx); err != nil {
		return err
	}
	if l.guard, err = l.sealing.Guard(l.dialect); err != nil {
		return err
	}
	l.sealer, err = newSealer(l.dialect, l.sealing)
	return err
}

// disconnect returns the connection to the pool, or discards a broken one. It
// ignores the error of a connection that is already closed.
func (l *loader) disconnect() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}

// inspect finds out the connection's type and whether it supports COPY: the
// driver must, and Postgres refuses COPY to roles under row-level security.
func (l *loader) inspect(ctx context.Context) error {
	err := l.conn.Raw(func(conn any) error {
		l.copies = l.copier != nil && l.copier.Copies(conn)
		return nil
	})
	if err != nil {
		return err
	}
	if l.dialect, err = sqldialect.Of(ctx, l.conn); err != nil {
		return err
	}
	if l.dialect == dialect.Postgres && !l.cfg.DryRun {
		if err := retry.CheckWritable(ctx, l.conn); err != nil {
			return err
		}
	}
	if !l.copies {
		return nil
	}
	var secured bool
	err = l.conn.QueryRowContext(ctx, "SELECT coalesce(row_security_active(to_regclass($1)::oid), true)",
		usercredential.Table).Scan(&secured)
	l.copies = !secured
	return err
}

func (l *loader) run(ctx context.Context, rows iter.Seq2[Row, error]) error {
	var number int64
	batch := make([]numbered, 0, min(l.cfg.Batch, DefaultBatch))
	for row, err := range rows {
		number++
		if err != nil {
			if l.cfg.Refused == nil { // stop here: store the earlier rows first, and report their errors first
				if err := l.store(ctx, batch); err != nil {
					return err
				}
			}
			if failure := l.refuse(number, err); failure != nil {
				return failure
			}
			// Bounds how long a batch waits if many rows are refused.
			if len(batch) == 0 || number-batch[0].number < maxWait*int64(l.cfg.Batch) {
				delete(l.left, number) // not in the batch
				continue
			}
			if err := l.store(ctx, batch); err != nil {
				return err
			}
			clear(batch)
			batch = batch[:0]
			continue
		}
		if row.ID == uuid.Nil { // fixed here so that a retry sends the same ID
			row.ID = usercredential.DefaultID()
		}
		if batch = append(batch, numbered{row, number}); len(batch) == l.cfg.Batch {
			if err := l.store(ctx, batch); err != nil {
				return err
			}
			clear(batch)
			batch = batch[:0]
		}
	}
	if err := l.store(ctx, batch); err != nil {
		return err
	}
	if l.tx == nil {
		return nil
	}
	return l.commit(ctx)
}

// maxWait bounds how many rows, in batches, may come from the sequence before
// an incomplete batch is stored.
const maxWait = 2

// refuse returns nil to skip a row, or the error to stop with.
func (l *loader) refuse(number int64, err error) error {
	failure := &Error{Row: number, Err: err}
	if l.left[number] || l.cfg.Refused != nil && l.cfg.Refused(failure) {
		l.left[number] = true // it may be sealed again, but is reported once
		return nil
	}
	return failure
}
