// Package encrypted adds encrypted fields to any ent schema: one line in the
// schema, and the extension of package codegen in the program that generates
// the code.
//
//	func (Integration) Fields() []ent.Field {
//		return []ent.Field{
//			encrypted.String("refresh_token"),
//			encrypted.JSON("webhook", webhook.Config{}).Optional(),
//		}
//	}
//
// The constructors [String], [Bytes], [Time] and [JSON] are what a schema
// needs. The rest is for the service that uses the generated client: [New] and
// [NewValue] for setters, Reveal for what queries return, [NewDriver] around
// the ent driver, and [Check] when the service starts. It needs the key in
// ENCRYPTION_KEY, or a keyring of package keyring.
//
// It stores Fernet tokens, like package credent; docs/threat-model.md says what
// they protect against, and what they don't. This package imports neither
// credent's entities nor any database driver.
package encrypted

import (
	"context"

	"entgo.io/ent/dialect"

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
)

// Errors to be tested with errors.Is; the others are in package credent.
var (
	// ErrNotRegistered means that the generated package doesn't say which
	// column a field is.
	ErrNotRegistered = column.ErrNotRegistered
	// ErrValue means that a value doesn't encode or decode as its type.
	ErrValue = fieldcrypt.ErrValue
	// ErrNoKey means that there is no keyring to encrypt or decrypt with.
	ErrNoKey = keyring.ErrNoKey
	// ErrBadKey means that a key is malformed, of the wrong length, all zero,
	// given twice, or signs like another.
	ErrBadKey = fernet.ErrBadKey
	// ErrNotEncrypted means that an encrypted column holds something that isn't
	// a token.
	ErrNotEncrypted = fernet.ErrNotEncrypted
	// ErrCorrupt means that a token can't be opened, for whatever reason.
	ErrCorrupt = fernet.ErrCorrupt
	// ErrUnknownKey is the ErrCorrupt of a well-formed token that no key opens:
	// it was encrypted under another key, or altered.
	ErrUnknownKey = fernet.ErrUnknownKey
	// ErrWrongLocation means that a token isn't where it belongs, or that a
	// statement would leave a token where it doesn't belong.
	ErrWrongLocation = seal.ErrWrongLocation
	// ErrNoTenant means that a statement or a result doesn't name the
	// row's tenant.
	ErrNoTenant = seal.ErrNoTenant
	// ErrShredded means that the key of the row's tenant was destroyed.
	ErrShredded = tenantkey.ErrShredded
	// ErrTooLong means that a secret is longer than its column can hold
	// encrypted.
	ErrTooLong = column.ErrTooLong
	// ErrRedacted means that the text a secret prints as was given as a secret.
	ErrRedacted = fieldcrypt.ErrRedacted
	// ErrManyRows means that a statement would store one secret in many rows
	// under one token.
	ErrManyRows = stamp.ErrManyRows
	// ErrSeveralRows means that several rows have the ID that an update names:
	// the table's primary key is (tenant, ID), so two tenants' rows may have
	// the same one.
	ErrSeveralRows = owner.ErrSeveralRows
	// ErrNoLocation means that a statement has a secret and doesn't say where
	// it is stored; see [At].
	ErrNoLocation = stamp.ErrNoLocation
	// ErrNotText means that a secret of a [String] field isn't valid UTF-8.
	ErrNotText = column.ErrNotText
	// ErrBlindIndex means that a statement would store a secret and leave its
	// blind index behind, or set the index itself.
	ErrBlindIndex = blindindex.ErrBlindIndex
	// ErrIndexNotFilled means that rows have a secret and no digest in the
	// blind index, so a lookup could miss them, or a unique index let in a
	// duplicate. rotate.Run fills it in and, in a plaintext window,
	// rotate.FillIndexes.
	ErrIndexNotFilled = blindindex.ErrNotFilled
	// ErrNoDriver means that a secret reached the database without passing the
	// driver of [NewDriver], which its column needs.
	ErrNoDriver = fieldcrypt.ErrNoDriver
	// ErrNoOpener means that a secret was scanned from rows of database/sql and
	// has no keyring; see [OpenerOf].
	ErrNoOpener = fieldcrypt.ErrNoOpener
	// ErrNotRecorded means that the keyring of a client with a trail would open
	// a secret unrecorded; see [RecordedBy].
	ErrNotRecorded = fieldcrypt.ErrNotRecorded
	// ErrTrailRequired means that the database requires an audit trail, and
	// that the client has none: open one with audit.Open, and set
	// [Config.Trail].
	ErrTrailRequired = states.ErrTrailRequired
	// ErrRowsChanged means that a change matched other rows when it ran than
	// when the trail looked them up: roll the transaction back and try again.
	ErrRowsChanged = record.ErrChanged
	// ErrDialect means that the database is neither Postgres nor SQLite.
	ErrDialect = driver.ErrDialect
	// ErrTooManyArgs means that a statement has more arguments than the
	// database takes.
	ErrTooManyArgs = statement.ErrTooManyArgs
	// ErrNoColumn means that a column isn't encrypted, or has no tenant.
	ErrNoColumn = column.ErrNoColumn
	// ErrInvalidStates means that states don't go together or with the schema.
	ErrInvalidStates = states.ErrInvalidStates
	// ErrStateMismatch means that the config gives a column another state than
	// the database's table credent_states has.
	ErrStateMismatch = states.ErrStateMismatch
	// ErrEncrypted means that a column holds a token, and its encryption is
	// [Off].
	ErrEncrypted = seal.ErrEncrypted
	// ErrUnderKeyring means that a token is under the keyring, in a column that
	// requires tenants' keys.
	ErrUnderKeyring = seal.ErrUnderKeyring
)

// The states, in the order of a rollout; adjacent ones are compatible.
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

// New returns a secret with the given plaintext, which may be empty.
func New(plaintext string) Secret { return fieldcrypt.New(plaintext) }

// NewValue returns a value with the given plaintext.
func NewValue[T any](v T) Value[T] { return fieldcrypt.NewValue(v) }

// NewDriver wraps a client's ent driver, so that it encrypts and decrypts. It
// directly wraps the driver that talks to the database, inside caches and
// debuggers. It is safe for concurrent use. Errors: [ErrDialect],
// [ErrInvalidStates], [ErrNoColumn].
//
// If the database has a table credent_states, the driver follows the states in
// it; it reads them with its first statement and every minute, or at once with
// [ReadStates]. They take precedence over the states in the config, and a
// client with a different config is refused with [ErrStateMismatch].
func NewDriver(drv dialect.Driver, cfg Config) (dialect.Driver, error) {
	return driver.Follow(drv, cfg.driver())
}

// ReadStates makes a driver from [NewDriver] read the database's states, so
// that a service learns that it disagrees with them ([ErrStateMismatch]) when
// it starts, and not with its first statement.
func ReadStates(ctx context.Context, drv dialect.Driver) error { return driver.Read(ctx, drv) }

// Columns returns every encrypted column of the generated packages in the
// process, sorted by schema, table and name. With a generated package's import
// path it returns that package's.
func Columns(clients ...string) []Column {
	if len(clients) == 0 {
		return column.All()
	}
	var columns []Column
	for _, client := range clients {
		columns = append(columns, column.Of(client)...)
	}
	return columns
}
