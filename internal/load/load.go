// Package load stores many credentials at once: by COPY where the connection
// can do that, and in INSERTs of many rows otherwise. A row that might be
// refused goes through a Create of an ent client, with its defaults, checks,
// hooks and encryption, up to the statement, which is not sent: so errors are a
// Create's.
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

// DefaultBatch is the number of rows in a transaction.
const DefaultBatch = 5000

// MaxBatch bounds what is held in memory.
const MaxBatch = 1_000_000

// ErrUncertain means that a COMMIT was not answered.
var ErrUncertain = errors.New("the last transaction may be stored, or not")

// Row is one credential to store. It takes the defaults of a Create where a
// field is zero.
type Row struct {
	// ID is the primary key; a new one if zero.
	ID uuid.UUID
	// UserAccountID and UserID name the account, one of them or both. The other
	// is looked up.
	UserAccountID uuid.UUID
	UserID        string

	CredentialType string
	// APIKey and SecretKey must be present, and may be empty.
	APIKey    fieldcrypt.Secret
	SecretKey fieldcrypt.Secret
	// ExpiresAt is the time from which on the provider refuses the credential;
	// nil for never.
	ExpiresAt *time.Time
	// Inactive stores it as disabled.
	Inactive bool
	// CreatedAt and UpdatedAt are the time of storing if zero.
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Config says how rows are stored. The zero value is a good one.
type Config struct {
	// Batch is the number of rows in a transaction, and in memory. 0 and less
	// mean DefaultBatch, and more than MaxBatch means that.
	Batch int
	// Atomic stores all rows in one transaction, or none. Progress then tells
	// what it has in it.
	Atomic bool
	// DryRun checks the rows and looks up their accounts, and stores nothing.
	// What only the database refuses, a primary key that is there already for
	// one, it does not find.
	DryRun bool
	// RetryFor is how long a batch is tried again when the database fails for a
	// while: a fail-over, a lost connection, a deadlock, a lock that others
	// hold, a server without a free connection. 0 means five minutes, and less
	// that the first such error ends it. With Atomic nothing is tried again,
	// since the rows before the batch are gone.
	RetryFor time.Duration
	// Waiting is called before each pause of RetryFor with what happened; nil
	// for none.
	Waiting func(err error, pause time.Duration)
	// Progress is called after each batch with the number of rows stored, or
	// checked, so far; nil for none.
	Progress func(rows int64)
	// Refused is called for each row that the checks refuse, or that came with
	// an error; if it returns true, the row is left out and the others are
	// stored. Nil stops at the first. Rows that the database refuses stop it in
	// any case.
	Refused func(*Error) bool
	// Stored is called after each transaction with the primary keys that it
	// stored, which are valid until it returns; nil for none.
	Stored func(ids []uuid.UUID)
}

// Sealing is how rows are checked and encrypted.
type Sealing struct {
	// Driver is how the client's driver encrypts.
	Driver driver.Config
	// NewClient makes a client, with its hooks, on a driver that encrypts and
	// then records what it is given.
	NewClient func(dialect.Driver) *ent.Client
	// Guard returns what refuses roles that row-level security doesn't hold, or
	// nil for none.
	Guard func(entDialect string) (*tenancy.Guard, error)
	// Checked says that the client has hooks that may refuse a row, or do
	// something with it: each row then goes through them.
	Checked bool
	// Copier sends rows by COPY; nil for none.
	Copier Copier
	// Record tells a trail of the rows of a transaction, which is about to be
	// committed. It returns what to call afterwards, with whether it was. Nil
	// for no trail.
	Record func(ctx context.Context, tx *sql.Tx, rows int64) (done func(committed bool), err error)
}

// Copier sends rows by COPY over a driver that can.
type Copier interface {
	// Copies reports whether it can over a connection as sql.Conn's Raw gives
	// it.
	Copies(conn any) bool
	// Copy sends the rows, and returns the server's error as it is.
	Copy(ctx context.Context, conn any, table string, columns []string, rows CopySource) error
}

// CopySource gives rows, one after the other.
type CopySource interface {
	Next() bool
	Values() ([]any, error)
	Err() error
}

// Error says which row could not be stored.
type Error struct {
	// Row is the place of the row in the sequence, from 1, or 0 if the error is
	// not of one row.
	Row int64
	// Err is what a Create would have returned, or what the sequence did.
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

// numbered is a row and its place in the sequence.
type numbered struct {
	Row
	number int64
}

// loader is one call of Run.
type loader struct {
	cfg     Config
	db      *sql.DB
	sealing Sealing
	conn    *sql.Conn // nil until it is needed
	dialect string
	guard   *tenancy.Guard
	copier  Copier
	copies  bool // by COPY
	sealer  *sealer
	tx      *sql.Tx // of a batch, or with Atomic of all
	stored  int64
	sent    int64          // rows in the transaction
	ids     []uuid.UUID    // of those
	users   []string       // of those
	left    map[int64]bool // numbers of the batch's rows that were refused and left out
}

// Run stores the rows, and returns how many are stored when it ends: those at
// the beginning of the sequence, less the ones left out. See credent.Copy.
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
	policy.Final = []retry.Kind{retry.Standby} // nothing says that it was the primary
	err = policy.Do(ctx, func() error { return l.connect(ctx) })
	if err == nil {
		err = l.run(ctx, rows)
	}
	if l.tx != nil {
		_ = l.tx.Rollback() // after an error; the server does it too when the connection ends
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

// connect gets a connection, if there is none. What another one knew of the
// tenants' keys isn't trusted: the database may be another's copy now.
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

// disconnect gives the connection back. A broken one is thrown away, and that
// it is closed already has nothing to add.
func (l *loader) disconnect() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}

// inspect finds out what the connection is, and whether it can COPY: the driver
// must, and Postgres does not let a role that row-level security applies to.
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
			if l.cfg.Refused == nil { // it ends here: what is before it is stored, and its errors come first
				if err := l.store(ctx, batch); err != nil {
					return err
				}
			}
			if failure := l.refuse(number, err); failure != nil {
				return failure
			}
			// However many are refused in between, a batch doesn't wait longer.
			if len(batch) == 0 || number-batch[0].number < maxWait*int64(l.cfg.Batch) {
				delete(l.left, number) // it isn't in the batch
				continue
			}
			if err := l.store(ctx, batch); err != nil {
				return err
			}
			clear(batch)
			batch = batch[:0]
			continue
		}
		if row.ID == uuid.Nil { // so that it has the same when it is sent again
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

// maxWait is how many times a batch's rows may come in the sequence, with those
// that came with an error, before it is stored.
const maxWait = 2

// refuse returns nil if a row is to be left out, and otherwise the error to
// stop with.
func (l *loader) refuse(number int64, err error) error {
	failure := &Error{Row: number, Err: err}
	if l.left[number] || l.cfg.Refused != nil && l.cfg.Refused(failure) {
		l.left[number] = true // it may be sealed again, and is told once
		return nil
	}
	return failure
}
