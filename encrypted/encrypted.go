// Package encrypted adds encrypted fields to any ent schema: one line in the schema, and the extension of package codegen in
// the program that generates the code.
//
//	func (Integration) Fields() []ent.Field {
//		return []ent.Field{
//			encrypted.String("refresh_token"),
//			encrypted.JSON("webhook", webhook.Config{}).Optional(),
//		}
//	}
//
// The constructors [String], [Bytes], [Time] and [JSON] are what a schema needs. The rest is for the service that uses the
// generated client: [New] and [NewValue] for setters, Reveal for what queries return, [NewDriver] around the ent driver, and
// [Check] when the service starts. It needs the key in ENCRYPTION_KEY, or a [Keyring].
//
// What is stored are Fernet tokens, as of the package credent, whose documentation has what they protect against and what
// not. This package imports neither the entities of credent nor any database driver.
package encrypted

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// Types that setters take and queries return, and what opens them. They are documented where they point.
type (
	// Secret is the type of a field of [String].
	Secret = fieldcrypt.Secret
	// Value is the type of the fields of [Bytes], [Time] and [JSON].
	Value[T any] = fieldcrypt.Value[T]
	// Keyring holds the keys.
	Keyring = fieldcrypt.Keyring
	// DriverConfig says how a driver of [NewDriver] encrypts and decrypts. Its zero value uses the default keyring.
	DriverConfig = fieldcrypt.DriverConfig
	// Reveal tells an observer that a secret was revealed.
	Reveal = fieldcrypt.Reveal
	// Error says which operation failed on which secret; its cause is one of the Err… values.
	Error = fieldcrypt.Error
	// Column is an encrypted column.
	Column = fieldcrypt.ColumnInfo
	// Binding says which column a field is. Generated code has them.
	Binding = fieldcrypt.Binding
)

// Errors to be tested with errors.Is; the other ones are in package credent.
var (
	// ErrNotBound means that the generated package does not say which column a field is.
	ErrNotBound = fieldcrypt.ErrNotBound
	// ErrValue means that a value does not encode, or does not decode, as its type.
	ErrValue = fieldcrypt.ErrValue
	// ErrNoKey means that there is no keyring to encrypt or decrypt with.
	ErrNoKey = fieldcrypt.ErrNoKey
	// ErrBadKey means that a key is malformed, of the wrong length, all zero, given twice, or signs like another one.
	ErrBadKey = fieldcrypt.ErrBadKey
	// ErrNotEncrypted means that an encrypted column holds something that is not a token.
	ErrNotEncrypted = fieldcrypt.ErrNotEncrypted
	// ErrCorrupt means that a token cannot be opened, for whatever reason.
	ErrCorrupt = fieldcrypt.ErrCorrupt
	// ErrUnknownKey is the ErrCorrupt of a well-formed token that no key opens: encrypted under another one, or altered.
	ErrUnknownKey = fieldcrypt.ErrUnknownKey
	// ErrContext means that a token is not where it belongs, or that a statement or a result does not say whose row it is.
	ErrContext = fieldcrypt.ErrContext
	// ErrShredded means that the key of the row's tenant was destroyed.
	ErrShredded = fieldcrypt.ErrShredded
	// ErrTooLong means that a secret is longer than its column can hold encrypted.
	ErrTooLong = fieldcrypt.ErrTooLong
	// ErrRedacted means that the text a secret prints as was given as a secret.
	ErrRedacted = fieldcrypt.ErrRedacted
	// ErrManyRows means that a statement would store one secret in many rows under one token.
	ErrManyRows = fieldcrypt.ErrManyRows
	// ErrPredicate means that a secret was given to a statement to compare with, which would never match.
	ErrPredicate = fieldcrypt.ErrPredicate
	// ErrNotText means that a secret of a [String] field is not valid UTF-8.
	ErrNotText = fieldcrypt.ErrNotText
)

// New returns a secret with the given plaintext, which may be empty.
func New(plaintext string) Secret { return fieldcrypt.New(plaintext) }

// NewValue returns a value with the given plaintext.
func NewValue[T any](v T) Value[T] { return fieldcrypt.NewValue(v) }

// NewKeyring makes a keyring of a primary key, which encrypts, and earlier keys, which only decrypt. Errors: [ErrNoKey],
// [ErrBadKey].
func NewKeyring(primary string, previous ...string) (*Keyring, error) {
	return fieldcrypt.NewKeyring(primary, previous...)
}

// KeyringFromEnv makes a keyring of ENCRYPTION_KEY and, separated by commas, ENCRYPTION_KEY_PREVIOUS, or of the files that
// ENCRYPTION_KEY_FILE and ENCRYPTION_KEY_PREVIOUS_FILE name. Errors: [ErrNoKey], [ErrBadKey].
func KeyringFromEnv() (*Keyring, error) { return fieldcrypt.KeyringFromEnv() }

// GenerateKey returns a new random key: 32 bytes as 44 characters of base64url.
func GenerateKey() string { return fieldcrypt.GenerateKey() }

// NewDriver wraps the ent driver of a client, so that it encrypts and decrypts. It goes directly around the driver that talks
// to the database, inside of caches and debuggers. It is safe for concurrent use.
func NewDriver(drv dialect.Driver, cfg DriverConfig) dialect.Driver {
	return fieldcrypt.NewDriver(drv, cfg)
}

// Columns returns every encrypted column of the generated packages that the process has, sorted by table and name.
func Columns() []Column { return fieldcrypt.Columns() }

// Bind registers columns, and binds fields to them. Generated code calls it when it is initialised.
func Bind(bindings ...Binding) { fieldcrypt.Bind(bindings...) }

// Plain annotates a field that is named like a secret (…_key, …secret…, …token…, …password…) and need not be encrypted, for
// the given reason. Without it the code generation refuses such a field.
func Plain(reason string) fieldcrypt.PlainAnnotation { return fieldcrypt.Plain(reason) }

// checkSample is how many rows of a column [Check] opens.
const checkSample = 10

// Check makes sure, when a service starts, that the generated code is that of the schema ([ErrNotBound]) and that the keyring
// reads what is stored: of each column it opens the secrets of the last rows by primary key, at most ten, and fails if none
// of them opens, most likely with [ErrUnknownKey]; whether they are bound or not is not its concern, nor whether they are under the
// keyring or the key of their tenant, or that was destroyed. A single damaged row is no reason to fail, and an empty table passes. It
// looks at the given columns, or at all of [Columns] if none is given. A nil keyring is that of [KeyringFromEnv].
func Check(ctx context.Context, db *sql.DB, ring *Keyring, columns ...Column) error {
	if err := fieldcrypt.CheckBindings(); err != nil {
		return err
	}
	if len(columns) == 0 {
		if columns = Columns(); len(columns) == 0 {
			return fmt.Errorf("encrypted: no encrypted column is known: %w", ErrNotBound)
		}
	}
	if ring == nil {
		var err error
		if ring, err = KeyringFromEnv(); err != nil {
			return err
		}
	}
	for _, c := range columns {
		if err := checkColumn(ctx, db, ring, c); err != nil {
			return fmt.Errorf("encrypted: check %s: %w", c, err)
		}
	}
	return nil
}

func checkColumn(ctx context.Context, db *sql.DB, ring *Keyring, c Column) error {
	samples, err := readSamples(ctx, db, c)
	if err != nil {
		return err
	}
	var first error
	for _, s := range samples {
		err := s.open(ring, fieldcrypt.TenantKey{})
		if err == nil {
			return nil
		}
		first = cmp.Or(first, err)
	}
	if first == nil || opensWithTenantKeys(ctx, db, ring, samples) {
		return nil
	}
	return fmt.Errorf("none of the last %d secrets opens: %w", len(samples), first)
}

// sample is one stored secret.
type sample struct {
	token string
	place fieldcrypt.Place
}

// readSamples reads the secrets of the last rows.
func readSamples(ctx context.Context, db *sql.DB, c Column) (samples []sample, err error) {
	id := c.ID
	if id == "" {
		id = "id"
	}
	tenant := "NULL"
	if c.Tenant != "" {
		tenant = "CAST(" + fieldcrypt.QuoteName(c.Tenant) + " AS TEXT)"
	}
	rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT %s, %s FROM %s WHERE %[1]s IS NOT NULL ORDER BY %[4]s DESC LIMIT %d",
		fieldcrypt.QuoteName(c.Name), tenant, fieldcrypt.QuoteName(c.Table), fieldcrypt.QuoteName(id), checkSample))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		s := sample{place: fieldcrypt.Place{Column: c}}
		if err := rows.Scan(&s.token, &s.place.Tenant); err != nil {
			return nil, err
		}
		samples = append(samples, s)
	}
	return samples, rows.Err()
}

// open opens it with the keyring and, if there is one, the key of its tenant.
func (s sample) open(ring *Keyring, key fieldcrypt.TenantKey) error {
	_, err := ring.With(key.Data).DecryptAt(s.place, s.token)
	return err
}

// opensWithTenantKeys reports whether one of the samples opens with the key of its tenant, or all are of tenants whose key was
// destroyed. A database may have no such keys.
func opensWithTenantKeys(ctx context.Context, db *sql.DB, ring *Keyring, samples []sample) bool {
	var tenants []string
	for _, s := range samples {
		if s.place.Tenant.Valid {
			tenants = append(tenants, s.place.Tenant.String)
		}
	}
	if len(tenants) == 0 {
		return false
	}
	slices.Sort(tenants)
	keys, err := fieldcrypt.ReadTenantKeys(ctx, entsql.Conn{ExecQuerier: db}, ring, slices.Compact(tenants))
	if err != nil {
		return false
	}
	shredded := 0
	for _, s := range samples {
		key := keys[s.place.Tenant.String]
		if errors.Is(key.Err, ErrShredded) {
			shredded++
		} else if s.open(ring, key) == nil {
			return true
		}
	}
	return shredded == len(samples)
}
