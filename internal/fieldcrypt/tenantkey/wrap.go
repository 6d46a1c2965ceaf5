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

// ErrShredded means that a tenant's key was destroyed, so that nobody can read
// what is stored under it, and nothing can be stored for the tenant any more.
// It isn't damage: no backup of the row and no other key mends it.
var ErrShredded = errors.New("the tenant's key was destroyed, and its secrets with it")

// Key is what is known about a tenant's DEK. The zero value belongs to a
// tenant that has none yet.
type Key struct {
	Data    *fernet.Key
	Wrapped string // as it is stored
	Err     error  // [ErrShredded], or why the key can't be had
}

// wrapper returns the key that wraps a tenant's DEK. The tenant is part of its
// derivation, so a wrapped key is of no use in another tenant's row.
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

// Unwrap is the reverse of [Wrap]. It also returns the key of the keyring that
// wraps the DEK. Errors are [keyring.Ring.Decrypt]'s; a token made for
// another tenant is a [fernet.ErrUnknownKey], and a token that holds no key a
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
		return nil, nil, fernet.ErrCorrupt // without err, which tells about the plaintext
	}
	return key, set.Keys()[index], nil
}
