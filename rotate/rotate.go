// Package rotate rewrites encrypted columns while services read and write the
// same rows. [Run] re-encrypts every token that is not under the keyring's
// primary key, so that an old key can be retired; [Verify] counts which keys
// the stored tokens need; [Encrypt] turns a column of plaintext into an
// encrypted one, and [DecryptToPlaintext] turns it back.
//
// To replace a key: give all readers the new key as an additional one; then
// give it to all writers as the primary; then call Run, until Verify finds only
// the primary key; then remove the old key.
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

	// ErrNotDone means that rows still need rewriting after all passes, since
	// others keep writing them.
	ErrNotDone = errors.New("others keep writing rows that need rewriting")
)

// Limits and defaults.
const (
	// DefaultBatch is the number of rows in a page, which is read and written
	// at once.
	DefaultBatch = 1000
	// maxPasses limits the passes over a table. Each pass rewrites what
	// concurrent writers made the previous one skip, and the last one finds
	// nothing.
	maxPasses = 20
)

// DefaultWorkers returns the number of workers unless Config.Workers says
// otherwise: one for each processor of this machine, but at least 4, since they
// wait for the database most of the time, and at most 16.
func DefaultWorkers() int { return min(max(runtime.GOMAXPROCS(0), 4), 16) }

// Config says how [Run], [Encrypt] and [DecryptToPlaintext] work. Zero values
// mean the defaults.
type Config struct {
	// In are the columns to choose from; none means every column of the
	// process. A generated package's EncryptedColumns returns its own, and
	// Column.InSchema a table in a schema that is chosen at run time.
	In []column.Column
	// Columns are the names of the columns to look at, as TABLE.COLUMN or
	// SCHEMA.TABLE.COLUMN; none means all of In.
	Columns []string
	// States are columns' states in addition to the ones in the database's
	// table credent_states, which take precedence; a difference is an
	// [states.ErrStateMismatch]. Tokens are made to match the states. Without a
	// state they stay as they are.
	States states.Table
	// Batch is the number of rows in a page. 0 and less mean [DefaultBatch].
	Batch int
	// Workers is the number of parts of a table that are worked on at the same
	// time, each with a connection that reads and one that writes; 0 or less
	// means [DefaultWorkers]. On SQLite only one writes. Let the pool keep
	// twice as many idle connections, with its SetMaxIdleConns. By default it
	// keeps two, and the workers make several new ones a second.
	Workers int
	// FromStart begins with every row, and ignores how far earlier runs came.
	FromStart bool
	// RowsPerSecond limits how many rows are read in a second. 0 and less mean
	// no limit.
	RowsPerSecond int
	// DryRun counts what would be rewritten and writes nothing.
	DryRun bool
	// RetryFor is how long an operation is retried when the database fails for
	// a while: a fail-over, a lost connection, a deadlock, a lock that others
	// hold, a server without a free connection. It starts over after each
	// success. 0 means [DefaultRetryFor], and a negative value that the first
	// such error ends the run.
	RetryFor time.Duration
	// Progress is called after each page and before each pause of RetryFor,
	// from one goroutine at a time; nil for none.
	Progress func(Progress)
	// Quarantine is called with the secrets that can't be opened or rewritten,
	// a page at a time, as soon as they are found, from one goroutine at a
	// time; nil for none. Each secret is reported once for each reason, unless
	// there are more than half a million and others are rewritten: each pass
	// then reports the rest again. An error ends the run, and rewritten rows
	// stay rewritten.
	Quarantine func([]Quarantined) error
}

// find returns one of the selectable columns by name.
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

// resolve adds the database's states to the configured ones.
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

// rebinding says how a column's tokens are rebound.
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
// not as the column's states say, and every digest of a blind index that isn't,
// or is missing or wrong. Tokens and digests made under an earlier name of
// their column move to the current one. Each write replaces exactly the token
// that was read: a row changed in between is left alone and looked at again.
// Nothing else in a row changes, no hook runs, and updated_at stays the same.
// The role must own the tables, or be exempt from their row-level security.
//
// Off and accept bring a column's tokens to the old way: unbound, under the
// keyring. Write brings them to the new way: bound, under the tenant's key,
// which is made if there is none. Require leaves a token of the old way as it
// is, and quarantines it: no client wrote it since the column came to require,
// so somebody may have planted it. A column without a state keeps its tokens as
// they are in this respect. Plaintext is an error of the row, unless the state
// of encryption is set and reads it; [Encrypt] turns it into tokens.
//
// A run can be stopped at any moment, by the context or by force, and started
// again. If the database has the table credent_progress, a run resumes where
// the last one with the same keys, states and columns stopped, and several at
// the same time share the work on Postgres; after fifteen seconds the others
// take over a killed run's part. Rows of the table may be deleted at any time:
// a token that is already under the primary key costs a read. A run ends when a
// pass that began after the run did has found nothing to do. On Postgres such a
// pass may skip rows that an earlier one has seen and nobody has written since;
// see TableReport.ChangedSince and Config.FromStart. A plain table there is
// read in the order of its blocks, so a change of another column may move a row
// behind a pass. The last pass over it is a snapshot of the rows written since,
// which has each row once.
//
// When the context ends, the report has what was done until then. If the
// database fails for a while, the run resumes where it was; see
// Config.RetryFor. Errors: [ErrQuarantined], with examples in the report,
// [ErrNotDone], a [*DatabaseError], such as [ErrStandby], and the database's
// own.
//
// The canary of each column follows its rows; see encrypted.KeepCanary. A
// missing one is made, and one that doesn't open is quarantined, unless the
// keyring opens all rows of the column.
//
// If tenants have their own data keys, Run wraps these under the primary key.
// It counts and leaves secrets under a destroyed key; if the keyring opens such
// a tenant's secret anyway, such as one that a client without tenant keys
// stored, Run overwrites it to make it unreadable.
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

// operation defines how each stored value is changed.
type operation struct {
	name string
	// rewrite returns the replacement for a stored value, and whether it
	// differs. ring is the location's keyring.
	rewrite func(cfg *Config, ring *engine.Ring, stored original, p seal.Place) (rewritten, error)
	// index returns the digest, in hexadecimal, for a column's blind index of a
	// stored value, which the location's keyring opens.
	index func(opens *engine.Ring, stored sql.NullString, p seal.Place) (sql.NullString, error)
	// before checks all tables before anything is written; may be nil.
	before func(ctx context.Context, cfg *Config, s store, tables []table) error
	// after is called for a table that needs no more rewriting; may be nil.
	after func(ctx context.Context, s store, t table, result *TableReport) error
	// plain says what the operation does with plaintext. wrapped means that
	// tenants' keys are rewritten too.
	plain   plainOp
	wrapped bool
	// forCanaries says what happens to the canaries.
	forCanaries canaries
	// advice says what other processes must do for the operation to end.
	advice string
}

// indexer returns an operation's index function.
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

// digestRing returns the keyring with the primary key for a digest. A digest
// that lookups find by tenant is under the same key as its token.
func digestRing(ring, opens *engine.Ring, c column.Column) *engine.Ring {
	if c.IsIndexedByTenant() {
		return opens
	}
	return ring
}

// rewritten is the replacement for a stored value.
type rewritten struct {
	value   string
	changed bool // it differs from the stored value
	bound   bool // it opens only in the same tenant's row
}

// complete fills in the defaults and returns the rate limiter.
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
	limit.AllowN(time.Now(), cfg.Batch) // makes the first page wait like the others
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

// run is the state of one call of Run, Encrypt or DecryptToPlaintext.
type run struct {
	operation
	cfg      Config
	db       *sql.DB
	store    store
	ring     *engine.Ring
	keys     *tenants // nil if the key table is missing
	start    time.Time
	limit    *rate.Limiter
	pace     *pace
	canaryDB *canary.DB // nil if the canary table is missing

	telling sync.Mutex // serializes the calls of Progress
	quarantineTeller

	locate  seal.Locator
	rings   rings
	digests blindindex.Digester
}
