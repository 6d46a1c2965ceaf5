// Package testopt builds the configurations of clients and migrations from
// options, for tests that try many combinations.
package testopt

import (
	"context"
	"database/sql"
	"io/fs"
	"iter"
	"log/slog"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/libpq"
	"github.com/credent-go/credent/open/sqlite"
)

// Option changes a client's configuration or its connection.
type Option func(*setting)

type setting struct {
	client.Config
	open []credent.Option
}

func settings(opts []Option) setting {
	s := setting{open: []credent.Option{credent.WithDriver(sqlite.Driver())}}
	for _, opt := range opts {
		opt(&s)
	}
	return s
}

// Config returns the configuration with the options applied.
func Config(opts ...Option) client.Config { return settings(opts).Config }

// WithKeyring sets Config.Keyring.
func WithKeyring(ring *keyring.Keyring) Option { return func(s *setting) { s.Keyring = ring } }

// OverPQ connects with lib/pq instead of pgx.
func OverPQ() Option {
	return func(s *setting) { s.open = append(s.open, credent.WithDriver(libpq.Driver())) }
}

// WithMigrations sets Config.Migrate.
func WithMigrations() Option { return func(s *setting) { s.Migrate = true } }

// VerifyOnRead sets Config.VerifyOnRead.
func VerifyOnRead() Option { return func(s *setting) { s.VerifyOnRead = true } }

// OnReveal sets Config.OnReveal.
func OnReveal(f func(credent.Reveal)) Option { return func(s *setting) { s.OnReveal = f } }

// Wrap sets Config.Wrap.
func Wrap(f func(dialect.Driver) dialect.Driver) Option { return func(s *setting) { s.Wrap = f } }

// WithAudit sets Config.Audit.
func WithAudit(logger *slog.Logger) Option { return func(s *setting) { s.Audit = logger } }

// WithFormats sets Config.Formats, by default to BrokerFormats.
func WithFormats(formats ...credent.Format) Option {
	return func(s *setting) {
		if s.Formats = formats; len(formats) == 0 {
			s.Formats = credent.BrokerFormats()
		}
	}
}

// WithFormatWarnings sets Config.Formats and Config.FormatWarnings.
func WithFormatWarnings(logger *slog.Logger, formats ...credent.Format) Option {
	return func(s *setting) {
		WithFormats(formats...)(s)
		s.FormatWarnings = logger
	}
}

// RequireRowSecurity sets Config.RequireRowSecurity and RowSecurityTables.
func RequireRowSecurity(tables ...string) Option {
	return func(s *setting) { s.RequireRowSecurity, s.RowSecurityTables = true, tables }
}

// WithEncryption sets the state of encryption, for some columns or all.
func WithEncryption(state credent.State, columns ...encrypted.Column) Option {
	return withState(encrypted.ColumnStates{Encryption: state}, columns)
}

// WithBinding sets the state of context binding, for some columns or all.
func WithBinding(state credent.State, columns ...encrypted.Column) Option {
	return withState(encrypted.ColumnStates{Binding: state}, columns)
}

// WithTenantKeys sets the state of tenants' keys, for some columns or all.
func WithTenantKeys(state credent.State, columns ...encrypted.Column) Option {
	return withState(encrypted.ColumnStates{TenantKeys: state}, columns)
}

func withState(of encrypted.ColumnStates, columns []encrypted.Column) Option {
	return func(s *setting) {
		all := columns
		if len(all) == 0 {
			all = ent.EncryptedColumns()
		}
		for _, c := range all {
			of := of
			of.Column = c
			s.States = append(s.States[:len(s.States):len(s.States)], of)
		}
	}
}

// Open calls credent.Open.
func Open(ctx context.Context, url string, opts ...Option) (*ent.Client, error) {
	s := settings(opts)
	return credent.Open(ctx, url, s.Config, s.open...)
}

// OpenDB calls credent.OpenDB.
func OpenDB(url string, opts ...Option) (db *sql.DB, entDialect string, err error) {
	return credent.OpenDB(url, settings(opts).open...)
}

// NewClient calls client.New.
func NewClient(db *sql.DB, entDialect string, opts ...Option) (*ent.Client, error) {
	return client.New(db, entDialect, Config(opts...))
}

// FromDriver calls client.FromDriver.
func FromDriver(drv dialect.Driver, opts []Option, more ...ent.Option) (*ent.Client, error) {
	return client.FromDriver(drv, Config(opts...), more...)
}

// WrapDriver calls client.WrapDriver.
func WrapDriver(drv dialect.Driver, opts ...Option) (dialect.Driver, error) {
	return client.WrapDriver(drv, Config(opts...))
}

// OfPool returns an ent driver on a pool.
func OfPool(db *sql.DB, entDialect string) dialect.Driver { return entsql.OpenDB(entDialect, db) }

// Copy calls credent.Copy.
func Copy(
	ctx context.Context, db *sql.DB, rows iter.Seq2[credent.CopyRow, error], cfg credent.CopyConfig, opts ...Option,
) (int64, error) {
	return credent.Copy(ctx, db, rows, cfg, Config(opts...))
}

// Migration changes a migration's configuration.
type Migration func(*migrate.Config)

func migration(opts []Migration) migrate.Config {
	var cfg migrate.Config
	for _, opt := range opts {
		opt(&cfg)
	}
	return cfg
}

// orNone maps a zero duration to the Config value for none.
func orNone(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// WithDir sets Config.Dir.
func WithDir(dir fs.FS) Migration { return func(c *migrate.Config) { c.Dir = dir } }

// WithMigratorTimeout sets Config.MigratorTimeout; zero means not to wait.
func WithMigratorTimeout(d time.Duration) Migration {
	return func(c *migrate.Config) { c.MigratorTimeout = orNone(d) }
}

// WithLockTimeout sets Config.LockTimeout; zero means none.
func WithLockTimeout(d time.Duration) Migration {
	return func(c *migrate.Config) { c.LockTimeout = orNone(d) }
}

// WithLockRetry sets Config.LockRetry; zero means one try.
func WithLockRetry(d time.Duration) Migration {
	return func(c *migrate.Config) { c.LockRetry = orNone(d) }
}

// WithBaseline sets Config.Baseline.
func WithBaseline(version string) Migration { return func(c *migrate.Config) { c.Baseline = version } }

// WithTarget sets Config.Target.
func WithTarget(version string) Migration { return func(c *migrate.Config) { c.Target = version } }

// WithAllowDirty sets Config.AllowDirty.
func WithAllowDirty() Migration { return func(c *migrate.Config) { c.AllowDirty = true } }

// WithNonLinear sets Config.NonLinear.
func WithNonLinear() Migration { return func(c *migrate.Config) { c.NonLinear = true } }

// WithPooled sets Config.Pooled.
func WithPooled() Migration { return func(c *migrate.Config) { c.Pooled = true } }

// WithProgress sets Config.Progress.
func WithProgress(f func(name string)) Migration { return func(c *migrate.Config) { c.Progress = f } }

// WithDryRun sets Config.DryRun.
func WithDryRun(f func(migrate.Planned)) Migration { return func(c *migrate.Config) { c.DryRun = f } }

// AdoptOnly sets Config.AdoptOnly.
func AdoptOnly() Migration { return func(c *migrate.Config) { c.AdoptOnly = true } }

// WithCanaries sets Config.Keyring and Config.Columns.
func WithCanaries(ring *keyring.Keyring, columns ...encrypted.Column) Migration {
	return func(c *migrate.Config) { c.Keyring, c.Columns = ring, columns }
}

// Apply calls migrate.Apply.
func Apply(ctx context.Context, db *sql.DB, opts ...Migration) error {
	return migrate.Apply(ctx, db, migration(opts))
}

// Adopt calls migrate.Adopt.
func Adopt(ctx context.Context, db *sql.DB, opts ...Migration) (*migrate.AdoptReport, error) {
	return migrate.Adopt(ctx, db, migration(opts))
}

// Check calls migrate.Check.
func Check(ctx context.Context, db *sql.DB, opts ...Migration) (*migrate.Report, error) {
	return migrate.Check(ctx, db, migration(opts))
}

// ReadStatus calls migrate.ReadStatus.
func ReadStatus(ctx context.Context, db *sql.DB, opts ...Migration) (*migrate.Status, error) {
	return migrate.ReadStatus(ctx, db, migration(opts))
}
