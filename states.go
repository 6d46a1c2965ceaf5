package credent

import (
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/states"
)

// State says what a column accepts and writes under one protection:
// encryption, context binding or tenants' keys. Each has an old way, without
// the protection, and a new way, with it.
//
// Adjacent states are compatible: what a service in one of them writes, a
// service in the other reads. So a rollout, and the way back, goes one step at
// a time, and each step is deployed everywhere before the next.
type State = states.State

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

// StatesLifetime is how long a client uses the database's states before it
// reads them again: one minute.
const StatesLifetime = states.Lifetime

// TenantKeyLifetime is how long a client uses the key of a tenant before it
// reads it again: one minute. A key that is destroyed is gone from every
// process after that time.
const TenantKeyLifetime = tenantkey.Lifetime

// Errors to be tested with errors.Is.
var (
	// ErrNoColumn means that a column isn't encrypted, or has no tenant.
	ErrNoColumn = column.ErrNoColumn
	// ErrLooksLikeToken means that a plaintext begins like a token, so that it
	// can't be stored as plaintext.
	ErrLooksLikeToken = seal.ErrLooksLikeToken
	// ErrInvalidStates means that states don't go together or with the schema.
	ErrInvalidStates = states.ErrInvalidStates
	// ErrStateMismatch means that an option gives a column another state than the
	// database has.
	ErrStateMismatch = states.ErrStateMismatch
	// ErrEncrypted means that a column holds a token, and its encryption is
	// [Off].
	ErrEncrypted = seal.ErrEncrypted
	// ErrUnderKeyring means that a token is under the keyring, in a column that
	// requires tenants' keys.
	ErrUnderKeyring = seal.ErrUnderKeyring
)

// WithEncryption sets the state of encryption, for the given columns or,
// without any, for all: usercredential.APIKeyColumn, for instance. The default
// is [Require]. The old way is plaintext.
//
// As long as plaintext is read, "" is a plaintext like any other, and NULL
// stays absent. What begins like a token ("gAAAA") is never taken for
// plaintext: if it doesn't open it is [ErrCorrupt] or [ErrUnknownKey], and Off
// refuses it with [ErrEncrypted]. The text that secrets print as isn't
// plaintext either: [ErrRedacted]. As long as plaintext is written, a secret
// that begins like a token is refused with [ErrLooksLikeToken]. The observer of
// [WithRevealObserver] sees which secrets were stored as plaintext.
//
// States can also be kept in the database, with `credent state set`; these come
// first, and options that say otherwise are refused with [ErrStateMismatch]: by
// [Open], or by the first statement of a client that [NewClient] or
// [WrapDriver] made. States that don't go together are an [ErrInvalidStates],
// and columns that aren't encrypted an [ErrNoColumn], of all three.
// docs/encrypting.md has the order of a rollout.
func WithEncryption(s State, columns ...EncryptedColumn) Option {
	return withState(states.Encryption, s, columns)
}

// WithBinding sets the state of context binding, as [WithEncryption] does. The
// default is [Require] if the field is declared Bound, and otherwise [Off].
//
// A bound token decrypts only in its own table, column and user's rows. Moving
// it elsewhere makes [Secret.Reveal] return [ErrWrongLocation], and Require refuses
// a token that isn't bound. A bound token is a Fernet token under a key derived
// from the keyring's. Every program that reads or writes the column must derive
// it alike: the Python application as docs/binding.md shows, which also has the
// order of a rollout.
//
// From [Accept] on statements must say whose the row is or choose one row by
// its id, and queries must select user_id too. If an account's user_id
// changes, in a transaction, the secrets of its credentials are encrypted anew.
func WithBinding(s State, columns ...EncryptedColumn) Option {
	return withState(states.Binding, s, columns)
}

// WithTenantKeys sets the state of tenants' keys, as [WithEncryption] does. The
// default is [Off]. The old way is a token under the keyring.
//
// From [Write] on each tenant has a data key of its own, in columns whose
// schema says whose a row is: user_credentials by its user_id. The key is
// random, made when the first secret of the tenant is stored, and kept in the
// table credent_tenant_keys, encrypted under the keyring. Destroying it makes
// the secrets of the tenant unreadable, in the database, its replicas and every
// copy without the key: `credent tenant destroy`, or rotate.DestroyTenant.
// Afterwards a Reveal of the tenant's secrets is [ErrShredded], and so is
// storing another one.
//
// Only [Require] refuses a token under the keyring itself, with
// [ErrUnderKeyring]: until then such a token opens in every tenant's row. From
// [Accept] on statements must say whose the row is, as for [WithBinding].
//
// Keys are read over the connection of the statement, when its rows have ended,
// and are kept in memory for [TenantKeyLifetime]. A secret that is revealed
// later than that after it was read takes a connection of the pool to read the
// key again, for 5 seconds at the most. docs/tenant-keys.md has the order of a
// rollout.
func WithTenantKeys(s State, columns ...EncryptedColumn) Option {
	return withState(states.TenantKeys, s, columns)
}

func withState(p states.Protection, s State, columns []EncryptedColumn) Option {
	return func(o *options) { // perhaps in several goroutines
		of := columns
		if len(of) == 0 {
			of = ent.EncryptedColumns()
		}
		o.states = append(o.states, states.New(p, s, of...)...)
	}
}
