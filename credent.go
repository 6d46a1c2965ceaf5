// Package credent stores broker credentials in a database, with the secret
// fields encrypted on every write and readable on every read. [Open] returns
// the ent client; secrets are set with [NewSecret] and read with
// [Secret.Reveal].
//
// Stored secrets are Fernet tokens (https://github.com/fernet/spec) under the
// key in ENCRYPTION_KEY, the same as a Python application stores with
// cryptography.fernet. What they protect against and what not is in
// docs/threat-model.md.
//
// The generated packages below ent are the query language; package migrate
// brings a database to the schema they need.
package credent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/ent"
	_ "github.com/credent-go/credent/ent/runtime" // the schema's defaults and validators
	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/entcrypt/statement"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/hooks"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/internal/tenancy"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open"
)

// Types that setters take and queries return, and the errors they give. They
// are documented where they point.
type (
	// Secret is the type of an encrypted field.
	Secret = fieldcrypt.Secret
	// Value is the type of an encrypted field that is no text: see package
	// encrypted.
	Value[T any] = fieldcrypt.Value[T]
	// Keyring holds the keys.
	Keyring = keyring.Keyring
	// Key is one key of a keyring.
	Key = fernet.Key
	// Reveal tells an observer that a secret was revealed; see
	// [WithRevealObserver].
	Reveal = seal.Reveal
	// Reader is who queried, in a [Reveal].
	Reader = seal.Reader
	// Error says which operation failed on which secret; its cause is one of
	// the Err… values.
	Error = fieldcrypt.Error
)

// Errors to be tested with errors.Is.
var (
	// ErrNoKey means that there is no keyring to encrypt or decrypt with.
	ErrNoKey = keyring.ErrNoKey
	// ErrBadKey means that a key is malformed, of the wrong length, all zero,
	// given twice, or signs like another one.
	ErrBadKey = fernet.ErrBadKey
	// ErrPrimaryRemoved means that a new keyring lacks the primary key of the one
	// it would replace.
	ErrPrimaryRemoved = keyring.ErrPrimaryRemoved
	// ErrNotEncrypted means that an encrypted column holds something that is
	// not a token.
	ErrNotEncrypted = fernet.ErrNotEncrypted
	// ErrCorrupt means that a token cannot be opened, for whatever reason.
	ErrCorrupt = fernet.ErrCorrupt
	// ErrUnknownKey is the ErrCorrupt of a well-formed token that no key opens:
	// encrypted under another one, or altered.
	ErrUnknownKey = fernet.ErrUnknownKey
	// ErrWrongLocation means that a bound token is not where it belongs, or that a
	// statement or a result does not say whose row it is.
	ErrWrongLocation = seal.ErrWrongLocation
	// ErrShredded means that the key of the row's tenant was destroyed; see
	// [WithTenantKeys]. It is no [ErrCorrupt].
	ErrShredded = tenantkey.ErrShredded
	// ErrTooLong means that a secret is longer than its column can hold
	// encrypted: 303 bytes for varchar(500).
	ErrTooLong = column.ErrTooLong
	// ErrRedacted means that the text a secret prints as was given as a secret.
	ErrRedacted = fieldcrypt.ErrRedacted
	// ErrManyRows means that a statement would store one secret in many rows
	// under one token.
	ErrManyRows = stamp.ErrManyRows
	// ErrNoLocation means that a statement has a secret and nobody said where it
	// is stored; see encrypted.At.
	ErrNoLocation = stamp.ErrNoLocation
	// ErrDialect means that the database is neither Postgres nor SQLite.
	ErrDialect = driver.ErrDialect
	// ErrTooManyArgs means that a statement has more arguments than the
	// database takes.
	ErrTooManyArgs = statement.ErrTooManyArgs
	// ErrNoDriver means that a secret reached the database past the client's
	// driver.
	ErrNoDriver = fieldcrypt.ErrNoDriver
	// ErrNoOpener means that a secret was scanned from rows of database/sql and
	// has no keyring; see encrypted.OpenerOf.
	ErrNoOpener = fieldcrypt.ErrNoOpener
	// ErrBlindIndex means that a statement would store a secret and leave its blind
	// index behind.
	ErrBlindIndex = blindindex.ErrBlindIndex
	// ErrNotText means that a secret is not valid UTF-8.
	ErrNotText = column.ErrNotText
	// ErrNotRegistered means that a generated package does not say which column an
	// encrypted field is.
	ErrNotRegistered = column.ErrNotRegistered
	// ErrValue means that a [Value] does not encode, or does not decode, as its
	// type.
	ErrValue = fieldcrypt.ErrValue
	// ErrTenantMismatch means that a credential was given another user_id than its
	// account has.
	ErrTenantMismatch = hooks.ErrTenantMismatch
	// ErrFormat means that a key does not look like one of its credential type;
	// see [WithFormats].
	ErrFormat = hooks.ErrFormat
	// ErrUnsupported means that [WithUser] was used with a database without
	// row-level security.
	ErrUnsupported = tenancy.ErrUnsupported
	// ErrNeedsTx means that the client's QueryContext was called with
	// [WithUser] or [RequireRowSecurity] outside of a transaction.
	ErrNeedsTx = tenancy.ErrNeedsTx
	// ErrURL means that a database URL cannot be used.
	ErrURL = open.ErrURL
)

// NewSecret returns a secret with the given plaintext, which may be empty.
func NewSecret(plaintext string) Secret { return fieldcrypt.New(plaintext) }

// NewValue returns a value with the given plaintext.
func NewValue[T any](v T) Value[T] { return fieldcrypt.NewValue(v) }

// EncryptedColumn names an encrypted column and its size in characters.
type EncryptedColumn = column.Column

// EncryptedColumns returns every encrypted column that the process knows,
// sorted by table and name.
func EncryptedColumns() []EncryptedColumn { return column.All() }

// GenerateKey returns a new random key: 32 bytes as 44 characters of base64url.
func GenerateKey() string { return fernet.GenerateKey() }

// NewKeyring makes a keyring of a primary key, which encrypts, and earlier
// keys, which only decrypt. Errors: [ErrNoKey], [ErrBadKey].
func NewKeyring(primary string, previous ...string) (*Keyring, error) {
	return keyring.New(primary, previous...)
}

// KeyringFromEnv makes a keyring of ENCRYPTION_KEY and, separated by commas,
// ENCRYPTION_KEY_PREVIOUS, or of the files that ENCRYPTION_KEY_FILE and
// ENCRYPTION_KEY_PREVIOUS_FILE name. Errors: [ErrNoKey], [ErrBadKey].
func KeyringFromEnv() (*Keyring, error) { return keyring.FromEnv() }

// Option changes what [Open], [OpenDB] and [NewClient] do.
type Option func(*options)

type options struct {
	keyring *Keyring
	open    open.Config
	strict  bool
	migrate bool
	reveal  func(Reveal)
	hooks   hooks.Config

	rowSecurity []string // nil if it isn't required
	states      states.Table
}

func optionsOf(opts []Option) options {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// WithKeyring gives the client a keyring of its own, in place of
// [DefaultKeyring]. [WatchKeyring] returns one that is kept fresh.
func WithKeyring(ring *Keyring) Option { return func(o *options) { o.keyring = ring } }

// VerifyOnRead makes a query fail when a secret in its result cannot be opened.
// Without it only Reveal fails, so that one damaged row does not hide the
// others.
func Strict() Option { return func(o *options) { o.strict = true } }

// WithMigrations makes Open apply the pending migrations first; see
// [migrate.Apply]. It also keeps the canaries of [Check], and so fails with a
// keyring that opens no stored secret.
func WithMigrations() Option { return func(o *options) { o.migrate = true } }

// WithAudit records each mutation of an account or a credential: who did what
// to which rows and fields, never a value. The actor is [WithActor]'s or
// else the user of [WithUser]. Statements that pass by ent's mutations
// (ExecContext, SQL of one's own) are not recorded.
func WithAudit(logger *slog.Logger) Option { return func(o *options) { o.hooks.Audit = logger } }

// WithRevealObserver calls observe at each Reveal of a secret that the client
// read, in the goroutine that reveals, so that reads of secrets can be counted
// or recorded. The observer learns who queried: the values of the query's
// context, its actor ([WithActor]) and its user ([WithUser]). It doesn't learn
// who called Reveal: a secret that is passed on tells of its query. A secret
// holds those values for as long as it lives.
//
// Secrets that aren't read from the database, such as the ones a Create was
// given, tell nobody, and so do the ones scanned from rows of QueryContext
// unless their opener has encrypted.ObservedBy.
func WithRevealObserver(observe func(Reveal)) Option { return func(o *options) { o.reveal = observe } }

// WithFormats refuses keys that do not look like keys of their credential
// type, with [ErrFormat]. Types without a format are not checked. Without
// formats given it knows [BrokerFormats].
func WithFormats(formats ...Format) Option {
	return func(o *options) {
		if o.hooks.Formats = formats; len(formats) == 0 {
			o.hooks.Formats = hooks.BrokerFormats()
		}
	}
}

// WithFormatWarnings logs what [WithFormats] would refuse, and stores it.
func WithFormatWarnings(logger *slog.Logger, formats ...Format) Option {
	return func(o *options) {
		WithFormats(formats...)(o)
		o.hooks.FormatWarnings = logger
	}
}

// Open connects to a database and returns a client that is ready for use. Close
// the client when done. The URL is one of
//
//	postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…
//	postgresql://…               (the same)
//	host=HOST dbname=DATABASE …  (psql's keywords)
//	sqlite:FILE                  (made if it does not exist)
//
// with the last for [WithDriver](sqlite.Driver()), of package open/sqlite; see
// [open.DB].
//
// Call [Check] next: Open doesn't look whether the key is the database's,
// unless it has [WithMigrations]. It fails without a usable key ([ErrNoKey],
// [ErrBadKey]), with a URL it does not know ([ErrURL]), with states that don't
// go together ([ErrInvalidStates]) or aren't the database's ([ErrStateMismatch]),
// with an option that cannot be met ([ErrNoColumn], [ErrRowSecurity]), and when
// the database cannot be reached. No error quotes the URL, which may hold a
// password. The client is safe for concurrent use.
func Open(ctx context.Context, databaseURL string, opts ...Option) (*ent.Client, error) {
	o := optionsOf(opts)
	if o.keyring == nil {
		// Not later, at the first secret.
		if _, err := keyring.Default(); err != nil {
			return nil, err
		}
	}
	db, d, err := OpenDB(databaseURL, opts...)
	if err != nil {
		return nil, err
	}
	if err := prepare(ctx, db, d, o); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	drv, err := WrapDriver(entsql.OpenDB(d, db), opts...)
	if err == nil {
		err = driver.Read(ctx, drv)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return newClient(drv, opts), nil
}

func prepare(ctx context.Context, db *sql.DB, entDialect string, o options) error {
	if err := db.PingContext(ctx); err != nil {
		return fmt.Errorf("credent: reach the database: %w", err)
	}
	if o.migrate {
		if err := o.applyMigrations(ctx, db); err != nil {
			return err
		}
	}
	return o.checkRowSecurity(ctx, db, entDialect)
}

// applyMigrations applies them and keeps the canaries.
func (o options) applyMigrations(ctx context.Context, db *sql.DB) error {
	ring := o.keyring
	if ring == nil {
		var err error
		if ring, err = keyring.Default(); err != nil {
			return err
		}
	}
	return migrate.Apply(ctx, db, migrate.WithKeyring(ring, ent.EncryptedColumns()...))
}

// NewClient returns a client on a pool of the caller's, for the dialect that
// [OpenDB] gives. Closing the client closes the pool. Without [WithKeyring] the
// default keyring is read when first needed. Errors: [ErrNoColumn],
// [ErrInvalidStates], [ErrDialect], [ErrRowSecurity].
func NewClient(db *sql.DB, entDialect string, opts ...Option) (*ent.Client, error) {
	drv, err := WrapDriver(entsql.OpenDB(entDialect, db), opts...)
	if err != nil {
		return nil, err
	}
	return newClient(drv, opts), nil
}

func newClient(drv dialect.Driver, opts []Option) *ent.Client {
	client := ent.NewClient(ent.Driver(drv))
	Use(client, opts...)
	return client
}

// WrapDriver returns an ent driver that encrypts and decrypts, for services
// that assemble their client themselves. It goes directly around the driver
// that talks to the database, inside of caches and debuggers. Call [Use] on the
// client. Errors: [ErrNoColumn], [ErrInvalidStates], [ErrDialect],
// [ErrRowSecurity].
func WrapDriver(drv dialect.Driver, opts ...Option) (dialect.Driver, error) {
	o := optionsOf(opts)
	guard, err := o.guard(drv.Dialect())
	if err != nil {
		return nil, err
	}
	return driver.Follow(tenancy.NewDriver(drv, guard), o.driver())
}

// driver is how the client's driver encrypts and decrypts.
func (o options) driver() driver.Config {
	return driver.Config{
		Keyring:      o.keyring,
		Columns:      ent.EncryptedColumns(),
		VerifyOnRead: o.strict,
		States:       o.states,
		OnReveal:     o.reveal,
	}
}

// Use adds Credent's hooks to a client that was made with [WrapDriver]: a
// credential's user_id is filled from its account, credentials removed from
// their account are deleted, and what the options ask for. [Open] and
// [NewClient] have done so.
func Use(client *ent.Client, opts ...Option) { hooks.Install(client, optionsOf(opts).hooks) }
