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
	"time"

	"github.com/google/uuid"

	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/predicate"
	"github.com/credent-go/credent/internal/entcrypt/driver"
	"github.com/credent-go/credent/internal/entcrypt/owner"
	"github.com/credent-go/credent/internal/entcrypt/record"
	"github.com/credent-go/credent/internal/entcrypt/stamp"
	"github.com/credent-go/credent/internal/entcrypt/statement"
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open"
)

// Types that setters take and queries return. They are documented where they
// point.
type (
	// Config says how a client encrypts, decrypts, and checks what it stores.
	// It is client.Config, which has its fields.
	Config = client.Config
	// Secret is the type of an encrypted field; see encrypted.Secret.
	Secret = fieldcrypt.Secret
	// Value is the type of an encrypted field that is no text; see
	// encrypted.Value.
	Value[T any] = fieldcrypt.Value[T]
	// State says what a column accepts and writes under one protection; see
	// encrypted.State.
	State = states.State
	// Reveal tells Config.OnReveal that a secret was revealed; see
	// encrypted.Reveal.
	Reveal = seal.Reveal
	// Expiring tells Config.OnExpiring of a credential that was read shortly
	// before it expires; see client.Expiring.
	Expiring = client.Expiring
	// Format says what the keys of one credential type look like; see
	// client.Format.
	Format = client.Format
	// Error says which operation failed on which secret; see encrypted.Error.
	Error = fieldcrypt.Error
)

// The states, in the order of a rollout. The zero State means the default.
const (
	// Off reads and writes the old way only.
	Off = states.Off
	// Accept reads both ways, and writes the old one.
	Accept = states.Accept
	// Write reads both ways, and writes the new one.
	Write = states.Write
	// Require reads and writes the new way only.
	Require = states.Require
)

// Errors to be tested with errors.Is.
var (
	// ErrNoKey means that there is no keyring to encrypt or decrypt with.
	ErrNoKey = keyring.ErrNoKey
	// ErrBadKey means that a key is malformed, of the wrong length, all zero,
	// given twice, or signs like another one.
	ErrBadKey = fernet.ErrBadKey
	// ErrNotEncrypted means that an encrypted column holds something that is
	// not a token.
	ErrNotEncrypted = fernet.ErrNotEncrypted
	// ErrCorrupt means that a token cannot be opened, for whatever reason.
	ErrCorrupt = fernet.ErrCorrupt
	// ErrUnknownKey is the ErrCorrupt of a well-formed token that no key opens:
	// encrypted under another one, or altered.
	ErrUnknownKey = fernet.ErrUnknownKey
	// ErrWrongLocation means that a bound token isn't where it belongs, or that
	// a statement would leave a token where it doesn't belong.
	ErrWrongLocation = seal.ErrWrongLocation
	// ErrNoTenant means that a statement or a result doesn't say whose row it
	// is.
	ErrNoTenant = seal.ErrNoTenant
	// ErrShredded means that the key of the row's tenant was destroyed; see
	// [client.Config.TenantKeys]. It is no [ErrCorrupt].
	ErrShredded = tenantkey.ErrShredded
	// ErrTooLong means that a secret is longer than its column can hold
	// encrypted: 303 bytes for varchar(500).
	ErrTooLong = column.ErrTooLong
	// ErrRedacted means that the text a secret prints as was given as a secret.
	ErrRedacted = fieldcrypt.ErrRedacted
	// ErrManyRows means that a statement would store one secret in many rows
	// under one token.
	ErrManyRows = stamp.ErrManyRows
	// ErrNoLocation means that a statement has a secret and nobody said where
	// it is stored; see encrypted.At.
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
	// ErrNotRecorded means that a keyring of a client with a trail was to open
	// a secret where the trail would not tell of it; see encrypted.RecordedBy.
	ErrNotRecorded = fieldcrypt.ErrNotRecorded
	// ErrTrailRequired means that the database requires an audit trail, and
	// that the client has none; see [client.Config.Trail].
	ErrTrailRequired = states.ErrTrailRequired
	// ErrRowsChanged means that other rows matched a change when it ran than
	// when the trail looked them up: roll the transaction back and try again.
	ErrRowsChanged = record.ErrChanged
	// ErrBlindIndex means that a statement would store a secret and leave its
	// blind index behind.
	ErrBlindIndex = blindindex.ErrBlindIndex
	// ErrNotText means that a secret is not valid UTF-8.
	ErrNotText = column.ErrNotText
	// ErrNotRegistered means that a generated package does not say which column
	// an encrypted field is.
	ErrNotRegistered = column.ErrNotRegistered
	// ErrSeveralRows means that several rows have the ID that an update names.
	ErrSeveralRows = owner.ErrSeveralRows
	// ErrValue means that a [Value] does not encode, or does not decode, as its
	// type.
	ErrValue = fieldcrypt.ErrValue
	// ErrTenantMismatch means that no account has both the ID and the user_id
	// that a credential was given: it's another user's account, or missing.
	ErrTenantMismatch = client.ErrTenantMismatch
	// ErrLayout means that the database has the layout citus, in which rows are
	// spread over nodes by user_id, and that a statement needs what only one
	// server can do; the error says what to do instead.
	ErrLayout = client.ErrLayout
	// ErrConflictTarget means that an upsert names columns that are no unique
	// key, such as id alone in a database with hash partitions.
	ErrConflictTarget = client.ErrConflictTarget
	// ErrFormat means that a key does not look like one of its credential type;
	// see [client.Config.Formats].
	ErrFormat = client.ErrFormat
	// ErrUnsupported means that [WithUser] was used with a database without
	// row-level security.
	ErrUnsupported = client.ErrUnsupported
	// ErrNeedsTx means that the client's QueryContext was called with
	// [WithUser] or [client.Config.RequireRowSecurity] outside of a
	// transaction.
	ErrNeedsTx = client.ErrNeedsTx
	// ErrNoSetUser means that the database has no function credent_set_user,
	// which [WithUser] needs, or that the role may not call it: apply the
	// migrations before services are deployed.
	ErrNoSetUser = client.ErrNoSetUser
	// ErrURL means that a database URL cannot be used.
	ErrURL = open.ErrURL
	// ErrLooksLikeToken means that a plaintext begins like a token, so that it
	// can't be stored as plaintext.
	ErrLooksLikeToken = seal.ErrLooksLikeToken
	// ErrNoColumn means that a column isn't encrypted, or has no tenant.
	ErrNoColumn = column.ErrNoColumn
	// ErrInvalidStates means that states don't go together or with the schema.
	ErrInvalidStates = states.ErrInvalidStates
	// ErrStateMismatch means that the configuration gives a column another
	// state than the database has.
	ErrStateMismatch = states.ErrStateMismatch
	// ErrEncrypted means that a column holds a token, and its encryption is
	// [Off].
	ErrEncrypted = seal.ErrEncrypted
	// ErrUnderKeyring means that a token is under the keyring, in a column that
	// requires tenants' keys.
	ErrUnderKeyring = seal.ErrUnderKeyring
	// ErrNotChecked means that [Check] could not look, so that the key may be
	// right or wrong.
	ErrNotChecked = client.ErrNotChecked
	// ErrRowSecurity means that row-level security doesn't hold the role that
	// statements run as. The error is a client.RowSecurityError.
	ErrRowSecurity = client.ErrRowSecurity
	// ErrConfig means that a [Config] contradicts itself.
	ErrConfig = client.ErrConfig
	// ErrReader means that Config.Reader failed to answer a query.
	ErrReader = client.ErrReader
)

// NewSecret returns a secret with the given plaintext, which may be empty.
func NewSecret(plaintext string) Secret { return fieldcrypt.New(plaintext) }

// NewValue returns a value with the given plaintext.
func NewValue[T any](v T) Value[T] { return fieldcrypt.NewValue(v) }

// WithUser returns a context for the statements of one user; see
// [client.WithUser].
func WithUser(ctx context.Context, userID string) context.Context {
	return client.WithUser(ctx, userID)
}

// WithActor returns a context whose mutations are recorded, and whose reveals
// are told, as the actor's; see [client.WithActor].
func WithActor(ctx context.Context, actor string) context.Context {
	return client.WithActor(ctx, actor)
}

// WithReplaces returns a context in which a new credential is recorded as the
// successor of another one; see [client.WithReplaces].
func WithReplaces(ctx context.Context, id uuid.UUID) context.Context {
	return client.WithReplaces(ctx, id)
}

// WithRequest returns a context of a new request, whose queries Config.Reader
// may answer until the request writes; see [client.WithRequest].
func WithRequest(ctx context.Context) context.Context { return client.WithRequest(ctx) }

// WithStaleReads returns a context whose queries Config.Reader may answer after
// a write too; see [client.WithStaleReads].
func WithStaleReads(ctx context.Context) context.Context { return client.WithStaleReads(ctx) }

// WithPrimary returns a context whose queries the primary answers; see
// [client.WithPrimary].
func WithPrimary(ctx context.Context) context.Context { return client.WithPrimary(ctx) }

// WithReadOnlySQL returns a context that says of QueryContext that the SQL only
// reads; see [client.WithReadOnlySQL].
func WithReadOnlySQL(ctx context.Context) context.Context { return client.WithReadOnlySQL(ctx) }

// Usable is the predicate of the credentials that can be used now: active, and
// not expired.
func Usable() predicate.UserCredential { return client.Usable() }

// ExpiringWithin is the predicate of the credentials that need a successor:
// active, and expired or expiring within a time from now; see
// [client.ExpiringWithin].
func ExpiringWithin(d time.Duration) predicate.UserCredential { return client.ExpiringWithin(d) }

// BrokerFormats are the formats that Alpaca and Polygon are known to give out.
func BrokerFormats() []Format { return client.BrokerFormats() }

// Check makes sure, when a service starts, that the client's keyring is the one
// that the database needs; see [client.Check].
func Check(ctx context.Context, c *ent.Client) error { return client.Check(ctx, c) }

// NewClient returns a client on a pool of the caller's; see [client.New], which
// links no database driver.
func NewClient(db *sql.DB, entDialect string, cfg Config) (*ent.Client, error) {
	return client.New(db, entDialect, cfg)
}

// Option changes how [Open] and [OpenDB] connect. A nil one changes nothing.
type Option func(*options)

type options struct {
	open   open.Config
	reader *string // URL of a standby; nil for none
}

func optionsOf(opts []Option) options {
	var o options
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	return o
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
// unless [Config.Migrate] is set. It fails without a usable key ([ErrNoKey],
// [ErrBadKey]), with a URL it does not know ([ErrURL]), with a configuration
// that contradicts itself ([ErrConfig], [ErrInvalidStates]) or the database
// ([ErrStateMismatch]) or that cannot be met ([ErrNoColumn], [ErrRowSecurity]),
// and when the database cannot be reached. If the standby of [WithReader]
// can't, it is an [ErrReader], or Config.OnReaderError is told. No error quotes
// a URL, which may hold a password. The client is safe for concurrent use.
func Open(ctx context.Context, databaseURL string, cfg Config, opts ...Option) (*ent.Client, error) {
	if cfg.Keyring == nil {
		var err error
		if cfg.Keyring, err = keyring.Default(); err != nil { // not later, at the first secret
			return nil, err
		}
	}
	o := optionsOf(opts)
	db, d, err := open.DB(databaseURL, o.open)
	if err != nil {
		return nil, err
	}
	reader, err := o.openReader(&cfg)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	c, err := openClient(ctx, db, d, reader, cfg)
	if err != nil {
		return nil, errors.Join(err, db.Close(), closeReader(reader))
	}
	return c, nil
}

func openClient(ctx context.Context, db *sql.DB, entDialect string, reader *sql.DB, cfg Config) (*ent.Client, error) {
	applies := cfg.Migrate
	cfg.Migrate = false
	c, err := client.New(db, entDialect, cfg) // validates before anything is done
	if err != nil {
		return nil, err
	}
	if err := db.PingContext(ctx); err != nil {
		return nil, fmt.Errorf("credent: reach the database: %w", err)
	}
	if applies {
		err := migrate.Apply(ctx, db, migrate.Config{Keyring: cfg.Keyring, Columns: ent.EncryptedColumns()})
		if err != nil {
			return nil, err
		}
	}
	if err := client.CheckRowSecurity(ctx, db, entDialect, cfg); err != nil {
		return nil, err
	}
	if err := checkReader(ctx, reader, entDialect, cfg); err != nil {
		return nil, err
	}
	return c, client.ReadStates(ctx, c)
}
