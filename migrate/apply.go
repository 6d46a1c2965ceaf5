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

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/auditstore"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/lockwait"
	"github.com/credent-go/credent/keyring"
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

// Config says how [Apply], [Adopt], [Check] and [ReadStatus] work. The zero
// value is ready for use: it runs the module's own files. Each function
// validates it before it does anything. Check and ReadStatus take Dir alone.
type Config struct {
	// Dir has the files and atlas.sum of another directory, of the database's
	// dialect. Nil means the module's own.
	Dir fs.FS

	// Layout is how the tables are to lie in the database, as the first Apply
	// chooses. "" means the database's own layout and, for a new one, [Single].
	// Another one than the database has is an [ErrLayoutMismatch], and one that
	// it cannot come to an [ErrLayoutRefused]. It excludes Dir.
	Layout Layout

	// Keyring makes Apply keep a canary for each of Columns, after the files: a
	// token of a known text under the keyring's primary key. By it a service
	// finds out when it starts whether its key is right, also before the first
	// row is stored and if row-level security hides the rows; see
	// encrypted.Check. Nil means that no canary is stored.
	//
	// Apply then fails with a keyring that doesn't open a stored canary, or
	// opens none of the column's secrets, mostly with encrypted.ErrUnknownKey.
	// The files stay applied, and no canary is changed. Without the table
	// credent_canary it is encrypted.ErrNoCanaryTable, unless Target stops
	// before it.
	Keyring *keyring.Keyring
	// Columns are the columns of Keyring's canaries, as the generated package's
	// EncryptedColumns returns them. With a Keyring there must be one at least,
	// or it is encrypted.ErrNoColumn; without one there must be none.
	Columns []encrypted.Column

	// Trail gets an entry of the files that are about to be applied, and one of
	// those that were. If it doesn't take the first, nothing is applied. Nil
	// means no trail; a database that requires one is then left as it is, with
	// encrypted.ErrTrailRequired.
	Trail *audit.Trail

	// MigratorTimeout is how long to wait for another process that is
	// migrating. Zero means [DefaultMigratorTimeout], and a negative one not to
	// wait.
	MigratorTimeout time.Duration
	// LockTimeout is how long each statement may wait for a lock: the
	// lock_timeout of Postgres, and the busy_timeout of SQLite. While a
	// statement waits for a table, a service's statements on it wait behind it,
	// plain SELECTs too. After the timeout the file is rolled back, and tried
	// again as LockRetry says. Zero means [DefaultLockTimeout].
	//
	// A negative one turns it off: statements then wait as long as the
	// connection's own setting lets them, which on Postgres is forever by
	// default.
	LockTimeout time.Duration
	// LockRetry is for how long a file is tried again that waited for a lock in
	// vain. Between two tries it holds no lock, and pauses for a random time
	// that grows. After the limit Apply returns a [*LockError]. Zero means
	// [DefaultLockRetry], and a negative one a single try.
	LockRetry time.Duration

	// Baseline takes over a database without history that already has what the
	// migrations up to and including this version make: they are marked as
	// applied and not run. Nothing checks that it is so. "" means none. It
	// excludes AllowDirty.
	Baseline string
	// Target stops after the file of this version, which isn't older than
	// Baseline. A database that is beyond it stays as it is. "" means the
	// newest file.
	Target string
	// AllowDirty accepts a database without history that already has tables, of
	// others. False refuses it with [ErrNotClean].
	AllowDirty bool
	// NonLinear runs files that are older than the newest applied one and were
	// never applied, as after a merge of two branches, before the others. False
	// refuses them with [ErrOutOfOrder].
	NonLinear bool
	// Pooled says that the connection may go through a pooler in transaction
	// mode, such as PgBouncer's. Apply then refuses a file with atlas:txmode
	// none, with [ErrPooled], unless it only builds indexes on empty tables.
	// False makes Apply try to find out. All other files are safe either way:
	// their transaction holds the lock.
	Pooled bool
	// AdoptOnly makes [Adopt] mark the baseline and stop, without applying the
	// other migrations. Apply doesn't look at it.
	AdoptOnly bool

	// Progress is called with the name of each migration file after it was
	// applied. Nil means that nobody is told.
	Progress func(name string)
	// DryRun is called with each file that would run, in order, and Apply
	// changes nothing: no file is run, no history table made, no baseline
	// marked, no lock taken. Nil means that the files are run.
	DryRun func(Planned)
}

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

// settings are a validated [Config], with its defaults.
type settings struct {
	dir             fs.FS
	layout          Layout
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

// timeout returns a duration of a [Config]. A negative one means none.
func timeout(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return max(d, 0)
}

func (cfg Config) settings() (*settings, error) {
	switch {
	case cfg.Keyring == nil && len(cfg.Columns) > 0:
		return nil, fmt.Errorf("migrate: %w: Columns are set, and Keyring is not", keyring.ErrNoKey)
	case cfg.Dir != nil && cfg.Layout != "":
		return nil, errors.New("migrate: Dir and Layout exclude each other: layouts are of the module's own tables")
	case cfg.Baseline != "" && cfg.AllowDirty:
		return nil, errors.New("migrate: Baseline and AllowDirty exclude each other")
	case cfg.Baseline != "" && cfg.Target != "" && cfg.Target < cfg.Baseline:
		return nil, errors.New("migrate: the target is older than the baseline")
	}
	if err := cfg.Layout.check(); err != nil {
		return nil, err
	}
	s := &settings{
		dir: cfg.Dir, layout: cfg.Layout,
		migratorTimeout: timeout(cfg.MigratorTimeout, DefaultMigratorTimeout),
		locks: lockwait.Policy{
			Timeout: timeout(cfg.LockTimeout, DefaultLockTimeout), Limit: timeout(cfg.LockRetry, DefaultLockRetry),
		},
		baseline: cfg.Baseline, target: cfg.Target, allowDirty: cfg.AllowDirty, nonLinear: cfg.NonLinear,
		pooled: cfg.Pooled, onFile: cfg.Progress, dryRun: cfg.DryRun, adoptOnly: cfg.AdoptOnly,
	}
	if s.onFile == nil {
		s.onFile = func(string) {}
	}
	if cfg.Keyring != nil {
		s.canaries = &canaries{(*engine.Ring)(cfg.Keyring), cfg.Columns}
	}
	return s, s.canaries.check()
}

// directory returns the migration directory for a dialect, in which the
// versions that options name must be.
func (c *settings) directory(d string) (migrate.Dir, error) {
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
// [Config.Pooled]. If it only builds indexes CONCURRENTLY on empty tables, as
// on a new database, it runs in a transaction like the others. After a failure
// or a crash within such a file the next Apply goes on with the statement that
// was not recorded as done.
//
// A statement waits for locks of other transactions no longer than the lock
// timeout, and the file is tried again for a while: see [Config.LockTimeout]
// and [Config.LockRetry]. A statement that is built CONCURRENTLY lets readers
// and writers by while it waits, and has the time of all tries.
//
// Errors: [*StatementError]; [*LockError]; [ErrNewer], [ErrNotClean],
// [ErrPartial], [ErrLocked], [ErrChanged], [ErrHistoryChanged],
// [ErrOutOfOrder], [ErrUnknownVersion], [ErrPooled], [ErrLayoutMismatch],
// [ErrLayoutRefused]. What a failed file had
// done is rolled back, unless it runs without a transaction, and the files
// before it stay applied.
func Apply(ctx context.Context, db *sql.DB, config Config) (err error) {
	cfg, err := config.settings()
	if err != nil {
		return err
	}
	conn, err := connOf(ctx, db)
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
	a := &applier{settings: *cfg, db: db, conn: conn, dialect: d, dir: dir}
	if cfg.dryRun != nil {
		return a.plan(ctx)
	}
	if err := checkTrail(ctx, conn, d, config.Trail); err != nil {
		return err
	}
	if err := a.beginTrail(ctx, config.Trail); err != nil {
		return err
	}
	var applied []string
	defer func() { err = errors.Join(err, tellTrail(ctx, config.Trail, applied, err)) }()
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
			if cfg.dir == nil {
				auditstore.EnsurePartitions(ctx, a.conn, a.dialect)
			}
			return a.keepCanaries(ctx)
		}
		if name != "" {
			applied = append(applied, name)
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
