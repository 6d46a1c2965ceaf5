package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/internal/auditrow"
	"github.com/credent-go/credent/internal/auditstore"
	ring "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/nilarg"
	"github.com/credent-go/credent/internal/opentx"
	"github.com/credent-go/credent/keyring"
)

// Trail writes entries. It is one writer, with its own chain. It is safe for
// concurrent use, and ends with [Trail.Close].
type Trail struct {
	db      *sql.DB
	dialect string
	cfg     Config
	chain   *auditrow.Chain // used by the flusher only

	mu      sync.Mutex
	waiting // by mu
	closed  bool
	err     error         // the last flush's error; nil if it succeeded
	failed  int64         // failed flushes
	changed chan struct{} // closed and replaced after each flush

	kick chan struct{}
	stop context.CancelFunc
	done chan struct{} // closed after the flusher has ended

	keysMu sync.Mutex
	keys   *auditrow.Keys
	keysOf *keyring.Key
}

// Open begins the chain of a new writer: it stores an entry with [ActionOpen]
// and the writer's name, so a database that takes no entries is noticed at the
// start. The dialect is ent's name, dialect.Postgres or dialect.SQLite. On
// Postgres the role needs what credent_app has.
//
// The trail takes its own connections from db. A caller that waits for the
// trail while it holds the pool's only connection waits until its context ends,
// and so does one that holds SQLite's lock in its own transaction. Reveals of
// what a client read in its transactions return [ErrInTransaction] instead.
//
// Errors: [keyring.ErrNoKey], [ErrNoTable], and the database's.
func Open(ctx context.Context, db *sql.DB, entDialect string, cfg Config) (*Trail, error) {
	if err := checkPool(db, entDialect); err != nil {
		return nil, err
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Writer == "" {
		host, _ := os.Hostname()
		cfg.Writer = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	const queue = 1 << 16
	if cfg.Queue <= 0 {
		cfg.Queue = queue
	}
	if cfg.Flush <= 0 {
		cfg.Flush = time.Second
	}
	t := &Trail{
		db: db, dialect: entDialect, cfg: cfg, chain: auditrow.NewChain(),
		changed: make(chan struct{}), kick: make(chan struct{}, 1), done: make(chan struct{}),
	}
	keys, err := t.currentKeys()
	if err != nil {
		return nil, err
	}
	first := auditrow.Row{Texts: auditrow.Texts{Action: string(ActionOpen), Actor: auditrow.Clean(cfg.Writer, MaxText)}}
	t.chain.Append(keys, &first)
	auditstore.EnsurePartitions(ctx, db, entDialect)
	if err := auditstore.Insert(ctx, db, entDialect, []auditrow.Row{first}); err != nil {
		return nil, named(err)
	}
	// Flushes continue after Open's context has ended.
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stop = stop
	go t.flusher(base)
	return t, nil
}

// checkPool refuses a nil pool, and a dialect without a trail.
func checkPool(db *sql.DB, entDialect string) error {
	if entDialect != dialect.Postgres && entDialect != dialect.SQLite {
		return fmt.Errorf("audit: there is no trail on %q; it is on Postgres and SQLite", entDialect)
	}
	if err := nilarg.Check("the pool", db); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// named replaces a store error by its public name.
func named(err error) error {
	if errors.Is(err, auditstore.ErrNoTable) {
		return noTableError{err}
	}
	return err
}

// noTableError is a store error that says that the table is missing.
type noTableError struct{ error }

func (e noTableError) Unwrap() []error { return []error{ErrNoTable, e.error} }

// currentKeys returns the keys derived from the current keyring.
func (t *Trail) currentKeys() (*auditrow.Keys, error) {
	primary := t.cfg.Keyring.Primary()
	t.keysMu.Lock()
	defer t.keysMu.Unlock()
	if t.keys != nil && t.keysOf == primary {
		return t.keys, nil
	}
	keys, err := keysOf(t.cfg.Keyring)
	if err != nil {
		return nil, err
	}
	t.keys, t.keysOf = keys, primary
	return keys, nil
}

func keysOf(k *keyring.Keyring) (*auditrow.Keys, error) {
	keys, err := auditrow.NewKeys((*ring.Ring)(k))
	if err != nil {
		return nil, fmt.Errorf("audit: the keyring: %w", err)
	}
	return keys, nil
}

// Add takes entries, all or none. In [Batched] mode it returns when they are in
// the queue, in [Sync] mode when they are committed.
//
// Errors: [ErrFull] if the queue has no room and [Refuse] is set, [ErrClosed],
// [ErrInTransaction], and the context's, joined with [ErrNotWritten], if it
// ended first: queued entries are then still written, though the caller must
// act as if they weren't.
func (t *Trail) Add(ctx context.Context, entries ...Entry) error {
	if len(entries) == 0 {
		return nil
	}
	t.mu.Lock()
	if err := t.reserve(ctx, len(entries), opentx.Is(ctx)); err != nil {
		return err
	}
	for i := range entries {
		t.put(&entries[i])
	}
	return t.added(ctx)
}

// added wakes the flusher, releases the lock, and in Sync mode waits until the
// added entries are committed.
func (t *Trail) added(ctx context.Context) error {
	ticket, wake := t.taken, t.wakes()
	t.mu.Unlock()
	if wake {
		t.wake()
	}
	if t.cfg.Mode == Sync {
		return t.await(ctx, ticket)
	}
	return nil
}

// reserve makes room for n entries. It returns with the lock held unless it
// fails. More entries than the queue can hold are accepted when it is empty.
// inTx means that the caller is in a transaction: on SQLite the flusher can't
// write before it ends, so reserve doesn't wait for the flusher.
func (t *Trail) reserve(ctx context.Context, n int, inTx bool) error {
	inTx = inTx && t.dialect == dialect.SQLite
	for {
		full := t.size+n > t.cfg.Queue && t.size > 0
		switch {
		case t.closed:
			t.mu.Unlock()
			return fmt.Errorf("audit: add: %w", ErrClosed)
		case full && t.cfg.WhenFull == Refuse:
			err := t.err
			t.mu.Unlock()
			t.wake()
			return withCause(fmt.Errorf("audit: add: %w: %d entries wait", ErrFull, t.cfg.Queue), err)
		case inTx && (full || t.cfg.Mode == Sync && n > 0):
			t.mu.Unlock()
			t.wake()
			return fmt.Errorf("audit: add: %w", ErrInTransaction)
		case !full:
			t.size += n
			return nil
		}
		changed := t.changed
		t.mu.Unlock()
		t.wake()
		select {
		case <-changed:
		case <-ctx.Done():
			return t.notWritten(ctx)
		}
		t.mu.Lock()
	}
}

// notWritten returns the error for a context that ended first.
func (t *Trail) notWritten(ctx context.Context) error {
	t.mu.Lock()
	waiting, err := t.size, t.err
	t.mu.Unlock()
	return withCause(fmt.Errorf("audit: %w: %d wait: %w", ErrNotWritten, waiting, context.Cause(ctx)), err)
}

func withCause(err, cause error) error {
	if cause != nil {
		return fmt.Errorf("%w; the last flush: %w", err, cause)
	}
	return err
}

// AddTx writes entries in the caller's transaction, so that they are committed
// with the change or not at all. The caller then calls done with whether the
// transaction was committed. The trail ties committed entries to its chain in
// the next flush. If that isn't known, such as after a lost connection, call
// done with false: an entry without a link isn't a finding, but a link without
// an entry is. Until done is called, the trail keeps a link of 56 bytes for
// each entry, in addition to the queue. On SQLite a full queue is an
// [ErrInTransaction].
//
// Errors: Add's except [ErrNotWritten], [ErrNoTable], and the database's: then
// done is nil, and the transaction can't continue.
func (t *Trail) AddTx(ctx context.Context, tx Execer, entries ...Entry) (done func(committed bool), err error) {
	if len(entries) == 0 {
		return func(bool) {}, nil
	}
	keys, err := t.currentKeys()
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	if err := t.reserve(ctx, 0, true); err != nil {
		return nil, err
	}
	t.mu.Unlock()
	rows, links := make([]auditrow.Row, len(entries)), make([]auditrow.Link, len(entries))
	for i := range entries {
		rows[i] = rowOf(&entries[i])
		rows[i].Writer = t.chain.Writer
		auditrow.Complete(&rows[i])
		links[i] = auditrow.Link{ID: rows[i].ID, At: rows[i].At, Hash: keys.Sign(&rows[i])}
	}
	if err := auditstore.Insert(ctx, tx, t.dialect, rows); err != nil {
		return nil, named(err)
	}
	var once sync.Once
	return func(committed bool) {
		once.Do(func() {
			if committed {
				t.link(links)
			}
		})
	}, nil
}

// link puts links into the queue even if they don't fit; the next caller then
// waits.
func (t *Trail) link(links []auditrow.Link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.links = append(t.links, links...)
		t.size += len(links)
		t.taken += int64(len(links))
	}
}

// release frees room. The caller holds the lock.
func (t *Trail) release(n int) {
	t.size -= n
	close(t.changed)
	t.changed = make(chan struct{})
}

// Flush writes the current queue. Errors: the context's, joined with
// [ErrNotWritten], if it ends first, and [ErrInTransaction].
func (t *Trail) Flush(ctx context.Context) error {
	t.mu.Lock()
	ticket, written := t.taken, t.written
	t.mu.Unlock()
	t.wake()
	if written < ticket && t.dialect == dialect.SQLite && opentx.Is(ctx) {
		return fmt.Errorf("audit: flush: %w", ErrInTransaction)
	}
	return t.await(ctx, ticket)
}

// await waits until the entries up to ticket are committed.
func (t *Trail) await(ctx context.Context, ticket int64) error {
	for {
		t.mu.Lock()
		written, changed := t.written, t.changed
		t.mu.Unlock()
		if written >= ticket {
			return nil
		}
		select {
		case <-changed:
		case <-t.done:
			t.mu.Lock()
			written = t.written
			t.mu.Unlock()
			if written >= ticket {
				return nil
			}
			return fmt.Errorf("audit: flush: %w: %w", ErrNotWritten, ErrClosed)
		case <-ctx.Done():
			return t.notWritten(ctx)
		}
	}
}

// Stats is a trail's state.
type Stats struct {
	Queue    int   // how many entries may wait
	Waiting  int   // entries that wait, including the ones being written
	Written  int64 // entries that are committed, since Open
	Failures int64 // flushes that failed and are retried, since Open
}

// Stats returns the trail's state.
func (t *Trail) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Stats{Queue: t.cfg.Queue, Waiting: t.size, Written: t.written, Failures: t.failed}
}

func (t *Trail) wake() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// Close writes the queue and ends the chain. It waits for the database until
// the context ends. Then the error is the context's, joined with
// [ErrNotWritten], and says how many entries are lost. From the call on,
// [Trail.Add] returns [ErrClosed], and a later Close does nothing.
func (t *Trail) Close(ctx context.Context) error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.size++
	t.put(&Entry{Action: ActionClose})
	ticket := t.taken
	t.mu.Unlock()
	t.wake()
	err := t.await(ctx, ticket)
	t.stop()
	<-t.done
	return err
}
