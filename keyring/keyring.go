// Package keyring holds the keys that encrypt and decrypt secrets: one primary
// key, which encrypts, and earlier keys, which only decrypt.
//
// A service makes its keyring with [FromEnv], or with [New] from keys that it
// gets elsewhere, and passes it to its client. [Watch] keeps a keyring fresh
// while the service runs. Package kms has keyrings that are stored wrapped by a
// key management service.
//
// A keyring protects keys from printers and logs, not from a reader of the
// process's memory.
package keyring

import (
	"log/slog"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	ring "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/keysource"
)

// Environment variables that [FromEnv] reads. If a variable with the suffix
// _FILE is set, it names a file that holds the keys, such as a secret mounted
// in a container.
const (
	// EnvKey holds the primary key: 44 characters of base64.
	EnvKey = keysource.EnvKey
	// EnvKeyFile names a file that holds the primary key.
	EnvKeyFile = keysource.EnvKey + "_FILE"
	// EnvPreviousKeys holds the earlier keys, separated by commas. It may be
	// unset.
	EnvPreviousKeys = keysource.EnvPreviousKeys
	// EnvPreviousKeysFile names a file that holds the earlier keys.
	EnvPreviousKeysFile = keysource.EnvPreviousKeys + "_FILE"
)

// Errors to be tested with errors.Is.
var (
	// ErrNoKey means that there is no key to encrypt or decrypt with.
	ErrNoKey = ring.ErrNoKey
	// ErrBadKey means that a key is malformed, of the wrong length, all zero,
	// given twice, or signs like another. The error says what is wrong, and
	// quotes nothing.
	ErrBadKey = fernet.ErrBadKey
	// ErrPrimaryRemoved means that a new keyring lacks the primary key of the
	// keyring that it would replace.
	ErrPrimaryRemoved = ring.ErrPrimaryRemoved
	// ErrTwoSources is the ErrBadKey for a key that both a variable and a file
	// set.
	ErrTwoSources = keysource.ErrTwoSources
	// ErrKeyFile is the ErrNoKey for a key file that can't be read.
	ErrKeyFile = keysource.ErrKeyFile
)

// Keyring holds keys. The first, called primary, encrypts; all decrypt.
// [Keyring.Replace] swaps all keys at once, also for clients that use the
// keyring and for secrets that were read before.
//
// The zero value and a nil Keyring have no keys: methods that need one return
// [ErrNoKey]. A Keyring is safe for concurrent use and prints as [REDACTED].
type Keyring ring.Ring

// New makes a keyring from a primary key and any number of earlier keys, each
// 44 characters of base64, in the URL-safe or the standard alphabet. White
// space around a key is ignored. Errors: [ErrNoKey] if the primary key is
// empty, and [ErrBadKey]. They name a key by its place, from 1.
func New(primary string, previous ...string) (*Keyring, error) {
	k, err := ring.New(primary, previous...)
	return (*Keyring)(k), err
}

// FromEnv makes a keyring from [EnvKey] and [EnvPreviousKeys], or from the
// files that [EnvKeyFile] and [EnvPreviousKeysFile] name. Errors: [ErrNoKey] if
// no primary key is set, [ErrKeyFile], [ErrBadKey], and [ErrTwoSources] if a
// variable is set both ways.
//
// Someone may replace the files meanwhile: FromEnv reads them until two
// readings agree, so it never mixes keys from two moments.
func FromEnv() (*Keyring, error) {
	k, err := keysource.FromEnv()
	return (*Keyring)(k), err
}

// Default returns the keyring of clients without one in their configuration.
// The first call that succeeds makes it with [FromEnv]; from then on it stays
// the same, and only [Keyring.Replace] and [Watch] change its keys, for all
// these clients. Errors are FromEnv's.
func Default() (*Keyring, error) {
	k, err := keysource.Default()
	return (*Keyring)(k), err
}

// Primary returns the key that encrypts, or nil if there is none.
func (k *Keyring) Primary() *Key { return (*Key)(k.ring().Primary()) }

// Keys returns all keys, the primary key first. The slice is the caller's.
func (k *Keyring) Keys() []*Key {
	all := k.ring().Keys()
	if all == nil {
		return nil
	}
	keys := make([]*Key, len(all))
	for i, key := range all {
		keys[i] = (*Key)(key)
	}
	return keys
}

// Encrypt returns a new token of the plaintext under the primary key. Clients
// encrypt automatically; this is for programs that make tokens without one.
// Errors: [ErrNoKey].
func (k *Keyring) Encrypt(plaintext string) (token string, err error) {
	return k.ring().Encrypt(plaintext)
}

// Decrypt opens a token under any of the keys. A token that doesn't open is
// encrypted.ErrCorrupt, encrypted.ErrUnknownKey or encrypted.ErrNotEncrypted;
// other errors: [ErrNoKey].
func (k *Keyring) Decrypt(token string) (plaintext string, err error) {
	return k.ring().Decrypt(token)
}

// AppendEncrypt appends a new token of the plaintext to dst, and allocates
// nothing if dst has the room. Errors: [ErrNoKey], with dst as it was.
func (k *Keyring) AppendEncrypt(dst []byte, plaintext string) ([]byte, error) {
	return k.ring().AppendEncrypt(dst, plaintext)
}

// AppendDecrypt appends the plaintext of a token to dst, which the caller
// clears, and allocates nothing if dst has the room. Errors are
// [Keyring.Decrypt]'s, with dst as it was.
func (k *Keyring) AppendDecrypt(dst []byte, token string) ([]byte, error) {
	return k.ring().AppendDecrypt(dst, token)
}

// Replace makes k hold next's keys from now on, all at once: a running
// operation ends with the old ones. It reports whether the keys differ, and
// doesn't keep next. If next lacks the primary key in use, Replace refuses with
// [ErrPrimaryRemoved], since nobody could read secrets just written: in a
// rotation the primary key first becomes an earlier one. Nil keyrings are an
// [ErrNoKey].
func (k *Keyring) Replace(next *Keyring) (changed bool, err error) {
	return k.ring().Replace(next.ring())
}

// ReplaceRemovingPrimary is [Keyring.Replace] with a keyring that may lack the
// primary key in use. Secrets still stored under that key become unreadable.
func (k *Keyring) ReplaceRemovingPrimary(next *Keyring) (changed bool, err error) {
	return k.ring().ReplaceRemovingPrimary(next.ring())
}

// ring converts k for the packages that encrypt.
func (k *Keyring) ring() *ring.Ring { return (*ring.Ring)(k) }

// Key is one key of a [Keyring]. It is immutable, safe for concurrent use, and
// prints as [REDACTED].
type Key fernet.Key

// GenerateKey returns a new random key: 32 bytes as 44 characters of base64url,
// which every implementation of Fernet reads.
func GenerateKey() string { return fernet.GenerateKey() }

// ID returns eight hexadecimal digits that name the key in logs, in errors and
// in rotate's counts. It reveals nothing else about the key.
func (k *Key) ID() string { return (*fernet.Key)(k).ID() }

// LogValue implements slog.LogValuer. It gives the key's ID.
func (k *Key) LogValue() slog.Value { return (*fernet.Key)(k).LogValue() }
