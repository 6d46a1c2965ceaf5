// Package tenantkey manages the data encryption keys (DEKs) of tenants.
//
// A tenant's DEK is random and stored in [Table], wrapped under a subkey of
// the keyring, which is the key-encryption key. Destroying the row's key makes
// everything under it unreadable. The package wraps and unwraps keys, reads
// and stores them over the connection that the caller gives, and keeps them in
// memory for [Lifetime] ([Cache]).
package tenantkey

import (
	"errors"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// ErrShredded means that a tenant's key was destroyed: its secrets can't be
// read, and no more can be stored for the tenant. It isn't damage: neither a
// backup of the row nor another key recovers them.
var ErrShredded = errors.New("the tenant's key was destroyed, and its secrets with it")

// Key is a tenant's DEK, or why it can't be used. The zero value means that the
// tenant has none yet.
type Key struct {
	Data    *fernet.Key
	Wrapped string // as it is stored
	Err     error  // [ErrShredded], or why the key can't be unwrapped
}

// wrapper returns the derivation of keys that wrap a tenant's DEK. It includes
// the tenant, so that a wrapped key is useless in another tenant's row.
func wrapper(tenant string) func(*fernet.Key) (*fernet.Key, error) {
	return func(k *fernet.Key) (*fernet.Key, error) {
		return fernet.Derive(k, "credent tenant key v1\x00"+tenant)
	}
}

// Wrap encrypts a tenant's DEK: it returns a token of the key's 44 characters
// of base64url, under a subkey of the primary key. Errors: [keyring.ErrNoKey].
func Wrap(r *keyring.Ring, tenant string, key *fernet.Key) (string, error) {
	set, err := keyring.Load(r)
	if err != nil {
		return "", err
	}
	under, err := wrapper(tenant)(set.Keys()[0])
	if err != nil {
		return "", err
	}
	return fernet.Encrypt(under, fernet.Text(key)), nil
}

// Unwrap is the reverse of [Wrap]. It also returns the keyring's key that wraps
// the DEK. Errors are [keyring.Ring.Decrypt]'s; a token made for another tenant
// is a [fernet.ErrUnknownKey], and a token that holds no key a
// [fernet.ErrCorrupt].
func Unwrap(r *keyring.Ring, tenant, wrapped string) (key, under *fernet.Key, err error) {
	set, err := keyring.Load(r)
	if err != nil {
		return nil, nil, err
	}
	wrappers, err := set.Derive(wrapper(tenant))
	if err != nil {
		return nil, nil, err
	}
	text, index, err := wrappers.Open(wrapped)
	if err != nil {
		return nil, nil, err
	}
	if key, err = fernet.ParseKey(text); err != nil {
		return nil, nil, fernet.ErrCorrupt // err describes the plaintext
	}
	return key, set.Keys()[index], nil
}
