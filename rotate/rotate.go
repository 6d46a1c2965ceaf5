// Package rotate rewrites what encrypted columns hold, while services read and
// write the same rows. [Run] re-encrypts every token that is not under the
// keyring's primary key, so that an old key can be retired; [Verify] counts
// which keys the stored tokens need; [Encrypt] turns a column of plaintext into
// an encrypted one, and [DecryptToPlaintext] is the way back.
//
// A key is replaced in this order: all readers get the new key as an additional
// one; then all writers get it as the primary; then Run, until Verify finds
// nothing but the primary key; then the old key is removed.
package rotate

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/credent-go/credent/internal/canary"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/keyring"
)

// Errors to be tested with errors.Is.
var (
	// ErrQuarantined means that some secrets could not be opened or rewritten.
	// They were left as they are; the report counts them, and Config.Quarantine
	// got them.
	ErrQuarantined = errors.New("some secrets could not be opened and were left as they are")

	// ErrNotDone means that after all passes there is still something to
	// rewrite, since others keep writing it.
	ErrNotDone = errors.New("others keep writing what is to be rewritten")
)

// Limits and defaults.
const (
	// DefaultBatch is the number of rows in a page, which is read and written
	// at once.
	DefaultBatch = 1000
	// maxPasses bounds how often the whole table is gone through. Each pass
	// takes what concurrent writers made the one before skip; the last finds
	// nothing.
	maxPasses = 20
)

// DefaultWorkers returns the number of workers unless Config.Workers says
// otherwise: one for each processor of this machine, but at least 4, since they
// wait for the database most of the time, and at most 16.
func DefaultWorkers() int { return min(max(runtime.GOMAXPROCS(0), 4), 16) }

// Config says how [Run], [Encrypt] and [DecryptToPlaintext] go about it. Zero
// values mean the defaults.
type Config struct {
	// In are the columns to choose from; none means every column of the
	// process. A generated package's EncryptedColumns gives its own, and
	// Column.InSchema a table in a schema that is chosen at run time.
	In []column.Column
	// Columns are the names of the columns to look at, as TABLE.COLUMN or
	// SCHEMA.TABLE.COLUMN; none means all of In.
	Columns []string
	// States are the states of columns beside those that the database's table
	// credent_states has, which come first; a difference is an
	// [states.ErrStateMismatch]. Tokens are brought to what the states say.
	// What neither says stays as it is.
	States states.Table
	// Batch is the number of rows in a page. 0 and less mean [DefaultBatch].
	Batch int
	// Workers is the number of parts of a table that are worked on at the same
	// time, each with a connection that reads and one that writes; 0 or less
	// means [DefaultWorkers]. On SQLite one writes in any case. Let the pool
	// keep twice as many idle connections, by its SetMaxIdleConns. By default
	// it keeps two, and the workers make several new ones a second.
	Workers int
	// FromStart begins with every row, and takes no notice of how far earlier
	// runs came.
	FromStart bool
	// RowsPerSecond limits how many rows are read in a second. 0 and less mean
	// no limit.
	RowsPerSecond int
	// DryRun counts what would be rewritten and writes nothing.
	DryRun bool
	// RetryFor is how long the same is tried again when the database fails for
	// a while: a fail-over, a lost connection, a deadlock, a lock that others
	// hold, a server without a free connection. It is counted anew after each
	// success. 0 means [DefaultRetryFor], and less that the first such error
	// ends the run.
	RetryFor time.Duration
	// Progress is called after each page and before each pause of RetryFor,
	// from one goroutine at a time; nil for none.
	Progress func(Progress)
	// Quarantine is called with the secrets that can't be opened or rewritten,
	// a page's at once, as soon as they are found, from one goroutine at a
	// time; nil for none. Each secret is told once for each reason, unless
	// there are more than half a million and others are rewritten: each pass
	// then tells the rest again. An error ends the run, and rows that are
	// rewritten stay so.
	Quarantine func([]Quarantined) error
}

// find returns a column to choose from by name.
func (cfg Config) find(name string) (column.Column, error) {
	if len(cfg.In) == 0 {
		return column.Find(name)
	}
	known := make([]string, len(cfg.In))
	for i, c := range cfg.In {
		if known[i] = c.String(); known[i] == name {
			return c, nil
		}
	}
	return column.Column{}, fmt.Errorf("rotate: %w: %q; there are %s", column.ErrNoColumn, name,
		strings.Join(known, ", "))
}

// resolve adds the database's states to the given ones.
func (cfg *Config) resolve(ctx context.Context, db *sql.DB, s store, tables []table) error {
	if err := cfg.States.Check(); err != nil {
		return err
	}
	var columns []column.Column
	for _, t := range tables {
		columns = append(columns, t.columns...)
	}
	stored, err := readStates(ctx, db, s, columns)
	if err == nil {
		err = states.Agree(cfg.States, stored)
	}
	if err != nil {
		return err
	}
	cfg.States = slices.Concat(cfg.States, stored)
	for _, t := range tables {
		for _, c := range t.columns {
			if err := cfg.States.Of(&c).Check(c); err != nil {
				return err
			}
			if t.tenant == "" && cfg.States.Given(&c).Binding >= states.Write {
				return fmt.Errorf("rotate: %s: %w", t.label(), missing([]string{c.Tenant}))
			}
		}
	}
	return nil
}

// rebinding says what becomes of the tokens of a column.
func (cfg *Config) rebinding(c *column.Column) seal.Rebinding {
	switch cfg.States.Given(c).Binding {
	case states.Off, states.Accept:
		return seal.Unbind
	case states.Write, states.Require:
		return seal.Bind
	case states.Unset:
	}
	return seal.Keep
}

// Run rewrites every token that is not under the primary key of the keyring, or
// not as the column's states say, and every digest of a blind index that is
// not, or is missing, or is of something else. What was made under an earlier
// name of its column gets the present one. Each write replaces the very token
// that was read: a row that another changed in between is left alone and looked
// at again. Nothing else of a row is changed, no hook is run, and updated_at
// stays. The role must own the tables, or not be bound by their row-level
// security.
//
// Off and accept bring a column's tokens to the old way: unbound, under the
// rings. Write brings them to the new way: bound, under the tenant's key, which
// is made if there is none. Require leaves a token of the old way as it is, and
// quarantines it: nothing wrote it since the column came to require, so
// somebody may have planted it. A column whose state is set nowhere keeps its
// tokens as they are in this respect. Plaintext is an error of the row, unless
// the state of encryption is set and reads it; [Encrypt] turns it into tokens.
//
// A run can be stopped at any moment, by the context or by force, and started
// again. Where the database has the table credent_progress, it goes on where
// the last one with the same keys, states and columns stopped, and several at
// the same time share the work on Postgres; what a run had that was killed is
// done by others after fifteen seconds. Rows of the table may be deleted at any
// time: a token that is under the primary key already costs a read. A run ends
// when a pass has found nothing that began after the run did. On Postgres such
// a pass may leave out rows that an earlier one has seen and nobody has written
// since; see TableReport.ChangedSince and Config.FromStart. A plain table there
// is gone through in the order of its blocks, so that a change of another
// column may move a row behind a pass. The last pass over it is a snapshot of
// what was written since, which has each row once.
//
// When the context ends, the report has what was done until then. If the
// database fails for a while, it goes on where it was; see Config.RetryFor.
// Errors: [ErrQuarantined], with examples in the report, [ErrNotDone], a
// [*DatabaseError], such as [ErrStandby], and the database's own.
//
// The canary of each column follows its rows; see encrypted.KeepCanary. A
// missing one is made, and one that doesn't open is quarantined, unless the
// keyring opens all rows of the column.
//
// Where tenants have data keys of their own, these are wrapped under the
// primary key. Secrets of tenants whose key was destroyed are counted and left;
// one of them that the keyring opens all the same, as when a client without
// tenant keys stored it, is overwritten, for it is to be unreadable.
func Run(ctx context.Context, db *sql.DB, keyRing *keyring.Keyring, cfg Config) (*Report, error) {
	ring := (*engine.Ring)(keyRing)
	locate := new(seal.Locator)
	return start(ctx, db, ring, cfg, operation{
		name: "rotate",
		rewrite: func(cfg *Config, ring *engine.Ring, stored original, p seal.Place) (rewritten, error) {
			given := cfg.States.Given(&p.Column)
			if stored.apart {
				return rewritten{}, fernet.ErrNotEncrypted
			}
			if e := given.Encryption; e != states.Unset && e < states.Require && !fernet.IsToken(stored.text) {
				return rewritten{value: stored.text}, nil
			}
			if given.Binding == states.Require {
				if o, err := locate.OpenAt(ring, p, stored.text); err == nil && !o.Bound {
					return rewritten{}, ErrUnbound
				}
			}
			token, changed, bound, err := locate.Reencrypt(ring, p, stored.text, cfg.rebinding(&p.Column))
			return rewritten{token, changed, bound}, err
		},
		index:   indexer(ring),
		advice:  "make the new key their primary one first",
		wrapped: true,
	})
}

// operation is what is done with each stored value.
type operation struct {
	name string
	// rewrite returns what is to replace a stored value, and whether that is
	// another. The keyring is the one of the place.
	rewrite func(cfg *Config, ring *engine.Ring, stored original, p seal.Place) (rewritten, error)
	// index returns the digest, in hexadecimal, that the blind index of a
	// column is to have for what is stored in it, which the keyring of the
	// place opens.
	index func(opens *engine.Ring, stored sql.NullString, p seal.Place) (sql.NullString, error)
	// before looks at all tables before anything is written; nil for nothing.
	before func(ctx context.Context, cfg *Config, s store, tables []table) error
	// after is called for a table that has nothing more to rewrite; nil for
	// nothing.
	after func(ctx context.Context, s store, t table, result *TableReport) error
	// plain says what the operation does with plaintext, and wrapped that the
	// keys of tenants are rewritten too.
	plain   plainOp
	wrapped bool
	// forCanaries says what becomes of the canaries.
	forCanaries canaries
	// advice says what others have to do so that it can end.
	advice string
}

// indexer returns the index of an operation.
func indexer(ring *engine.Ring) func(*engine.Ring, sql.NullString, seal.Place) (sql.NullString, error) {
	var (
		locate  seal.Locator
		digests blindindex.Digester
	)
	return func(opens *engine.Ring, token sql.NullString, p seal.Place) (sql.NullString, error) {
		if !token.Valid {
			return sql.NullString{}, nil
		}
		plaintext := token.String
		if fernet.IsToken(plaintext) {
			o, err := locate.OpenAt(opens, p, token.String)
			if err != nil {
				return sql.NullString{}, err
			}
			plaintext = o.Plaintext
		}
		digest, err := digests.Primary(digestRing(ring, opens, p.Column), p.Column, plaintext)
		return sql.NullString{String: hex.EncodeToString(digest), Valid: true}, err
	}
}

// digestRing returns the keyring whose primary key a digest is under. A digest
// that is found by its tenant is under the same key as its token.
func digestRing(ring, opens *engine.Ring, c column.Column) *engine.Ring {
	if c.IsIndexedByTenant() {
		return opens
	}
	return ring
}

// rewritten is what is to replace a stored value.
type rewritten struct {
	value   string
	changed bool // it is another
	bound   bool // it opens only as long as the row is the tenant's
}

// complete fills in the defaults, and returns the limit of rows in a second.
func (cfg *Config) complete() *rate.Limiter {
	if cfg.Batch <= 0 {
		cfg.Batch = DefaultBatch
	}
	if cfg.Workers <= 0 {
		cfg.Workers = DefaultWorkers()
	}
	if cfg.RowsPerSecond <= 0 {
		return rate.NewLimiter(rate.Inf, cfg.Batch)
	}
	cfg.Batch = min(cfg.Batch, cfg.RowsPerSecond)
	limit := rate.NewLimiter(rate.Limit(cfg.RowsPerSecond), cfg.Batch)
	limit.AllowN(time.Now(), cfg.Batch) // the first page is paid for like the others
	return limit
}

func start(ctx context.Context, db *sql.DB, ring *engine.Ring, cfg Config, op operation) (*Report, error) {
	if ring.Primary() == nil {
		return nil, fmt.Errorf("rotate: %w", engine.ErrNoKey)
	}
	limit := cfg.complete()
	r := &run{
		operation: op, cfg: cfg, ring: ring, db: db, start: time.Now(), limit: limit,
		pace: &pace{most: cfg.Batch},
	}
	var tables []table
	told := telling{name: op.name, ring: ring}
	err := r.retrySetup(ctx, func() (err error) {
		if tables, err = r.prepare(ctx, cfg); err == nil && !cfg.DryRun {
			told.trail, err = trailOf(ctx, db, r.store)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := told.begin(ctx, tables); err != nil {
		return nil, err
	}
	report := &Report{DryRun: cfg.DryRun}
	var errs []error
	for _, t := range tables {
		result, err := r.table(ctx, t)
		if err == nil && op.after != nil && !cfg.DryRun {
			err = r.retryTable(ctx, t, func() error { return op.after(ctx, r.store, t, result) })
		}
		if err == nil && !t.isOfKeys() {
			err = r.keepCanaries(ctx, t, result)
		}
		if n := result.Quarantined + result.QuarantinedByOthers; err == nil && n > 0 {
			err = fmt.Errorf("%w: %d", ErrQuarantined, n)
		}
		if !t.isOfKeys() || result.Rows+result.Others > 0 || err != nil {
			report.Tables = append(report.Tables, *result)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("rotate: %s: %w", t.label(), err))
		}
		var untold *tellError
		if ctx.Err() != nil || errors.As(err, &untold) {
			break
		}
	}
	failed := errors.Join(errs...)
	if err := told.end(ctx, report, failed); err != nil {
		return report, errors.Join(failed, err)
	}
	return report, failed
}

// run is one call of Run, Encrypt or DecryptToPlaintext.
type run struct {
	operation
	cfg      Config
	db       *sql.DB
	store    store
	ring     *engine.Ring
	keys     *tenants // nil where the database has no table of them
	start    time.Time
	limit    *rate.Limiter
	pace     *pace
	canaryDB *canary.DB // nil where the database has no table of canaries

	telling sync.Mutex // one call of Progress at a time
	quarantineTeller

	locate  seal.Locator
	rings   rings
	digests blindindex.Digester
}
