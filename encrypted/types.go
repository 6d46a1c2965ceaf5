package encrypted

import (
	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/observe"
	"github.com/credent-go/credent/internal/states"
)

// Secret is the type of a [String] field: an encrypted text, or none. It prints
// as [Redacted] in every format, and its unmarshalers take a plaintext. The
// zero Secret is absent, which is NULL. [New] makes one.
//
//   - Reveal() (string, error) returns the plaintext, or "" for an absent
//     secret. A stored secret is verified and decrypted at each call. Errors
//     are an [Error] that names the column, with one of this package's errors
//     as the cause.
//   - IsZero() bool reports whether the secret is absent. It doesn't decrypt.
//   - Equal(Secret) bool compares plaintexts, in a time that depends only on
//     their lengths. A secret that can't be revealed equals none.
//   - OpenedBy([Opener]) Secret returns a secret that database/sql scanned,
//     with its opener.
//   - TextValue is for pgx, and refuses with [ErrNoDriver].
type Secret = fieldcrypt.Secret

// Value is the type of a [Bytes], [Time] or [JSON] field: an encrypted value of
// type T, or none. It prints as [Redacted] in every format. The zero Value is
// absent, which is NULL. [NewValue] makes one.
//
//   - Reveal() (T, error) returns the plaintext, or the zero T for an absent
//     value. Errors are [Secret]'s, and [ErrValue].
//   - IsZero() bool reports whether the value is absent. It doesn't decrypt.
//   - Equal(Value[T]) bool compares encodings, as Secret does plaintexts.
//   - OpenedBy([Opener]) Value[T] is Secret's.
//   - TextValue is for pgx, and refuses with [ErrNoDriver].
type Value[T any] = fieldcrypt.Value[T]

// Opener opens secrets that database/sql scanned. [OpenerOf] makes one, for
// OpenedBy of [Secret] and [Value]. Its methods Open and Locate are theirs.
type Opener = fieldcrypt.Opener

// State says what a column accepts and writes under one protection: encryption,
// context binding or tenants' keys. Each has an old way, without the
// protection, and a new way, with it. String returns its name, such as
// "accept". The zero State means the default.
//
// Adjacent states are compatible: what a service in one of them writes, a
// service in the other reads. So a rollout, or a step back, goes one step at a
// time, and each step is deployed everywhere before the next.
type State = states.State

// ColumnStates gives one column its states.
//
//   - Column Column: the column, such as usercredential.APIKeyColumn
//   - Encryption, Binding, TenantKeys State: a zero one means the default
//
// Set is for package rotate.
type ColumnStates = states.Column

// Reveal tells an observer that a stored secret was revealed, or could not be.
// Unknown fields are empty.
//
//   - Reader: who queried, with its fields Context, Actor, User and
//     Request
//   - Table, Column, Row string: of the secret; Row is the primary key
//   - Tenant string: of the row, if the column's keys depend on it or the
//     client has a trail
//   - KeyID string: of the key that opened it
//   - Err error: what Reveal returned
//   - Plaintext bool: the column is in a plaintext window, and held plaintext
type Reveal = seal.Reveal

// Reader says who queried, in a [Reveal], not who called Reveal: a secret that
// is passed on keeps its query's values.
//
//   - Context context.Context: the query's values; it never ends
//   - Actor string: the context's actor, or ""
//   - User string: the context's user, or ""
//   - Request string: the ID of audit.WithRequestID, or ""
type Reader = seal.Reader

// Observer is told what a client does with secrets and tenants' keys, so that
// it can be counted. Each function may be nil. The goroutine that does the work
// calls them, many concurrently, and waits for them.
//
//   - Sealed func([Event]): each secret that was encrypted for a statement,
//     even if the statement fails later
//   - Opened func([Event]): each secret that was decrypted, at each Reveal and
//     by VerifyOnRead
//   - TenantKeys func([TenantKeyLookup]): each lookup of tenants' keys
type Observer = observe.Observer

// Event tells an [Observer] that a secret was sealed or opened, or could not
// be. Unknown fields are empty.
//
//   - Table, Column string: of the secret
//   - Tenant string: the row's, if the column's keys depend on it
//   - Err error: why it failed; its text may name the row
//   - Plaintext bool: the stored value is plaintext, in a plaintext window
type Event = observe.Event

// TenantKeyLookup tells an [Observer] what a client did to get its tenants'
// keys.
//
//   - Known int: tenants with a key in memory
//   - Read int: tenants with a key that was read from the database; a statement
//     in a transaction always reads it
//   - Kept int: how many more tenants' keys are in memory now; negative if some
//     were forgotten
type TenantKeyLookup = tenantkey.Lookup

// Error says which operation failed on which secret. Find it with errors.As,
// and its cause with errors.Is.
//
//   - Op string: "encrypt", "decrypt", "decode", "scan", "index", "look up"
//   - Table, Column string: "user_credentials", "api_key"
//   - Row string: the primary key, or ""
//   - Err error: the cause, which wraps one of this package's errors
type Error = fieldcrypt.Error

// Column is an encrypted column. Generated packages have one for each field,
// such as usercredential.APIKeyColumn. It can be compared, and String returns
// "table.name" or "schema.table.name".
//
//   - Client, Entity string: import path of the generated package; ent's type
//   - Schema, Table, Name string: where it is; a Schema of "" means the
//     connection's search_path
//   - Size int: in characters, of the stored token
//   - Type string: Go's type of the plaintext
//   - ID, Index, Tenant string: columns of the primary key ("" means "id"), of
//     the blind index and of the tenant, or ""
//   - Bound, AcrossTenants bool: what the schema declares
//   - Was, Source, SourceTenant, Via string: earlier names, and where the
//     database copies the tenant from
//   - TableName() string returns "table", or "schema.table".
//   - InSchema(name string) Column returns the column of the same table in
//     another Postgres schema, for ent's sql/schemaconfig.
//   - MaxPlaintext() int returns how many bytes a plaintext may have.
//
// Its other methods (CheckTenant, Earlier, IsIndexedByTenant, IsSame, Key,
// Quoted, Wrap) are for the packages that encrypt.
type Column = column.Column

// Binding says which column a field is. Generated code gives it to [Register].
// It has the fields and methods of [Column].
//
//   - Scanner, Digest func() any: ValueScanners of the field and of its blind
//     index
//   - UniqueWith []string: the other columns of a unique blind index
type Binding = column.Binding
