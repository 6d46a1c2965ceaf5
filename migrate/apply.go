package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"ariga.io/atlas/sql/migrate"

	"github.com/credent-go/credent/internal/lockwait"
)

// operatorVersion is what the history says of who applied a file.
const operatorVersion = "Credent"

// DefaultMigratorTimeout is how long [Apply] waits for another process that is
// migrating.
const DefaultMigratorTimeout = time.Minute

// DefaultLockTimeout is how long a statement of a migration waits for a lock.
const DefaultLockTimeout = lockwait.DefaultTimeout

// DefaultLockRetry is how long [Apply] tries a file again that waited for a
// lock in vain.
const DefaultLockRetry = lockwait.DefaultLimit

// Option changes how [Apply] and [ReadStatus] work.
type Option func(*config)

type config struct {
	dir             fs.FS
	migratorTimeout time.Duration
	locks           lockwait.Policy
	baseline        string
	target          string
	allowDirty      bool
	nonLinear       bool
	pooled          bool
	onFile          func(name string)
	dryRun          func(Planned)
	adoptOnly       bool
	canaries        *canaries
}

// WithDir takes the files and atlas.sum of another directory, of the database's
// dialect, in place of the module's own.
func WithDir(dir fs.FS) Option { return func(c *config) { c.dir = dir } }

// WithMigratorTimeout sets how long to wait for another process that is
// migrating, in place of [DefaultMigratorTimeout]. Zero means not to wait.
func WithMigratorTimeout(d time.Duration) Option { return func(c *config) { c.migratorTimeout = d } }

// WithLockTimeout sets how long each statement may wait for a lock, in place of
// [DefaultLockTimeout]: the lock_timeout of Postgres, and the busy_timeout of
// SQLite. While a statement waits for a table, a service's statements on it
// wait behind it, plain SELECTs too. After the timeout the file is rolled back,
// and tried again as [WithLockRetry] says.
//
// Zero turns it off: statements then wait as long as the connection's own
// setting lets them, which on Postgres is forever by default.
func WithLockTimeout(d time.Duration) Option { return func(c *config) { c.locks.Timeout = d } }

// WithLockRetry sets for how long a file is tried again that waited for a lock
// in vain, in place of [DefaultLockRetry]. Between two tries it holds no lock,
// and pauses for a random time that grows. Zero means one try. After the limit
// Apply returns a [*LockError].
func WithLockRetry(d time.Duration) Option { return func(c *config) { c.locks.Limit = d } }

// WithBaseline takes over a database without history that already has what the
// migrations up to and including this version make: they are marked as applied
// and not run. Nothing checks that it is so.
func WithBaseline(version string) Option { return func(c *config) { c.baseline = version } }

// WithTarget stops after the file of this version. A database that is beyond it
// stays as it is.
func WithTarget(version string) Option { return func(c *config) { c.target = version } }

// WithAllowDirty accepts a database without history that already has tables, of
// others.
func WithAllowDirty() Option { return func(c *config) { c.allowDirty = true } }

// WithNonLinear runs files that are older than the newest applied one and were
// never applied, as after a merge of two branches, before the others. Without
// it they are refused with [ErrOutOfOrder].
func WithNonLinear() Option { return func(c *config) { c.nonLinear = true } }

// WithPooled says that the connection may go through a pooler in transaction
// mode, as PgBouncer's. Apply then refuses a file with atlas:txmode none, with
// [ErrPooled], instead of trying to find out. All other files need no such
// option: their transaction holds the lock.
func WithPooled() Option { return func(c *config) { c.pooled = true } }

// WithProgress calls f with the name of each migration file after it was
// applied.
func WithProgress(f func(name string)) Option { return func(c *config) { c.onFile = f } }

// WithDryRun calls f with each file that would run, in order, and changes
// nothing: no file is run, no history table made, no baseline marked, no lock
// taken.
func WithDryRun(f func(Planned)) Option { return func(c *config) { c.dryRun = f } }

// Planned is a file that [Apply] would run.
type Planned struct {
	Name        string      // of the file
	Transaction bool        // false if the file has the directive atlas:txmode none
	Statements  []Statement // those that are still to be run
}

// Statement is one statement of a file.
type Statement struct {
	Line int // where it begins, from 1
	SQL  string
}

func configOf(opts []Option) (*config, error) {
	cfg := &config{
		migratorTimeout: DefaultMigratorTimeout,
		locks:           lockwait.Policy{Timeout: DefaultLockTimeout, Limit: DefaultLockRetry},
		onFile:          func(string) {},
	}
	for _, opt := range opts {
		opt(cfg)
	}
	if err := cfg.canaries.check(); err != nil {
		return nil, err
	}
	switch {
	case cfg.baseline != "" && cfg.allowDirty:
		return nil, errors.New("migrate: WithBaseline and WithAllowDirty exclude each other")
	case cfg.locks.Timeout < 0 || cfg.locks.Limit < 0 || cfg.migratorTimeout < 0:
		return nil, errors.New("migrate: WithLockTimeout, WithLockRetry or WithMigratorTimeout is negative")
	case cfg.baseline != "" && cfg.target != "" && cfg.target < cfg.baseline:
		return nil, errors.New("migrate: the target is older than the baseline")
	}
	return cfg, nil
}

// directory returns the migration directory for a dialect, in which the
// versions that options name must be.
func (c *config) directory(d string) (migrate.Dir, error) {
	dir, err := directoryOf(d)
	if c.dir != nil {
		dir, err = loadDir(c.dir)
	}
	if err != nil {
		return nil, err
	}
	files, err := dir.Files()
	if err != nil {
		return nil, fmt.Errorf("migrate: read the migration files: %w", err)
	}
	for _, version := range []string{c.baseline, c.target} {
		if version != "" && !slices.ContainsFunc(files, func(f migrate.File) bool { return f.Version() == version }) {
			return nil, fmt.Errorf("migrate: %w: %s", ErrUnknownVersion, version)
		}
	}
	return dir, nil
}

// Apply runs the migrations that the database lacks, each file in a transaction
// of its own, which also holds the lock that makes other processes wait: when
// several call it at once, each file is run by one of them. It does nothing on
// a database that has them all. It works with one connection in the pool, and
// behind a pooler in transaction mode.
//
// A file with the directive atlas:txmode none, for statements such as CREATE
// INDEX CONCURRENTLY, runs without a transaction. The lock is then the
// session's, so it needs a direct connection or session pooling; see
// [WithPooled]. After a failure or a crash within such a file the next Apply
// goes on with the statement that was not recorded as done.
//
// A statement waits for locks of other transactions no longer than the lock
// timeout, and the file is tried again for a while: see [WithLockTimeout] and
// [WithLockRetry]. A statement that is built CONCURRENTLY lets readers and
// writers by while it waits, and has the time of all tries.
//
// Errors: [*StatementError]; [*LockError]; [ErrNewer], [ErrNotClean],
// [ErrPartial], [ErrLocked], [ErrChanged], [ErrHistoryChanged],
// [ErrOutOfOrder], [ErrUnknownVersion], [ErrPooled]. What a failed file had
// done is rolled back, unless it runs without a transaction, and the files
// before it stay applied.
func Apply(ctx context.Context, db *sql.DB, opts ...Option) (err error) {
	cfg, err := configOf(opts)
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("migrate: reach the database: %w", err)
	}
	defer func() {
		if closeErr := conn.Close(); err == nil && !errors.Is(closeErr, sql.ErrConnDone) { // which means discarded
			err = closeErr
		}
	}()
	d, err := dialectOf(ctx, conn)
	if err != nil {
		return err
	}
	dir, err := cfg.directory(d)
	if err != nil {
		return err
	}
	a := &applier{config: *cfg, db: db, conn: conn, dialect: d, dir: dir}
	if cfg.dryRun != nil {
		return a.plan(ctx)
	}
	restore, err := a.limitBusy(ctx)
	if err != nil {
		return err
	}
	defer restore()
	for {
		var name string
		var done bool
		err := a.retry(ctx, func() (err error) {
			name, done, err = a.applyNext(ctx)
			return err
		})
		if err != nil {
			return err
		}
		if done {
			return a.keepCanaries(ctx)
		}
		if name != "" {
			cfg.onFile(name)
		}
	}
}

// plan reports what applyNext would do, until it would be done.
func (a *applier) plan(ctx context.Context) error {
	tx, err := beginReadOnly(ctx, a.conn, a.dialect)
	if err != nil {
		return err
	}
	defer tx.rollback()
	files, err := a.pending(ctx)
	if err != nil {
		return err
	}
	for _, f := range files.pending {
		stmts, err := files.statements(f)
		if err != nil {
			return err
		}
		planned := Planned{Name: f.Name(), Transaction: !withoutTransaction(f)}
		if rev, err := files.revs.ReadRevision(ctx, f.Version()); err == nil {
			stmts = stmts[min(rev.Applied, len(stmts)):]
		}
		for _, stmt := range stmts {
			planned.Statements = append(planned.Statements, Statement{Line: lineOf(f, stmt.Pos), SQL: stmt.Text})
		}
		a.dryRun(planned)
	}
	return nil
}
