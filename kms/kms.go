// Package kms keeps a keyring wrapped: encrypted by a key management service,
// so that a service is configured with a text that is useless to anyone who
// reads it. The service unwraps it at start-up and holds the keys only in
// memory.
//
//	awskms://…            AWS KMS              import _ "github.com/credent-go/credent/kms/clouds"
//	gcpkms://…            Google Cloud KMS     the same
//	azurekeyvault://…     Azure Key Vault      the same
//	hashivault://KEY      HashiCorp Vault or OpenBao, engine transit; VAULT_ADDR, and VAULT_TOKEN or VAULT_TOKEN_FILE
//	base64key://…         a key in the URL, which is then the secret; for tests and development
//
// The drivers of gocloud.dev/secrets define the rest of a URL and the
// credentials to use it. [Wrap] makes the text, [Unwrap] opens it, [Rewrap]
// changes it; services use [EnvSource] or [Source] with [keyring.Watch].
//
// It protects a service's configuration, not its memory. Anyone who may encrypt
// with the KMS key could wrap a keyring of their own keys: grant services only
// the permission to decrypt.
package kms

import (
	"context"
	"errors"
	"fmt"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/keyring"
)

// Errors to be tested with errors.Is. Unusable keys in a keyring are
// [credent.ErrBadKey].
var (
	// ErrURL means that the URL of a key management service can't be used.
	ErrURL = errors.New("bad KMS URL")
	// ErrUnavailable means that the service can't be reached in time, or
	// currently gives no usable answer.
	ErrUnavailable = errors.New("the key management service is not available")
	// ErrRefused means that the service refused: no permission, no such key, or
	// a text that another key wrapped.
	ErrRefused = errors.New("the key management service refused")
	// ErrNotWrapped means that a text isn't a wrapped keyring, or is a damaged
	// one.
	ErrNotWrapped = errors.New("not a wrapped keyring")
	// ErrVersion means that a wrapped keyring has a version that this package
	// doesn't know.
	ErrVersion = errors.New("wrapped keyring of an unknown version")
	// ErrKeyID means that a keyring has no key with the ID, or that it is the
	// primary key, which can't be removed.
	ErrKeyID = errors.New("no earlier key of that ID")
)

// Error says what a key management service answered. It contains no key
// material: an answer to wrapping may quote the request, which has the keys, so
// only its status is kept.
type Error struct {
	Op     string // "wrap" or "unwrap"
	Scheme string // of the URL: "hashivault"
	Status int    // of HTTP, 0 if unknown
	Reason string // in the words of the service or the network, or ""
	Err    error  // [ErrUnavailable] or [ErrRefused], with the context's error if it ended
}

// Error gives "kms: unwrap by hashivault: cause (status 403): reason".
func (e *Error) Error() string {
	text := fmt.Sprintf("kms: %s by %s: %v", e.Op, e.Scheme, e.Err)
	if e.Status != 0 {
		text += fmt.Sprintf(" (status %d)", e.Status)
	}
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// Unwrap returns the cause, for errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Err }

// Wrap returns a keyring of a primary key and earlier ones, in the form that
// [keyring.New] takes, encrypted by the service that the URL names. The
// text has no white space. Errors: [ErrURL], [ErrUnavailable], [ErrRefused],
// and keyring.New's.
func Wrap(ctx context.Context, kmsURL, primary string, previous ...string) (string, error) {
	return wrap(ctx, kmsURL, append([]string{primary}, previous...))
}

// Unwrap opens a wrapped keyring with the service that the URL names. Errors:
// [ErrURL], [ErrNotWrapped], [ErrVersion], [ErrUnavailable], [ErrRefused],
// [credent.ErrBadKey].
func Unwrap(ctx context.Context, kmsURL, wrapped string) (*keyring.Keyring, error) {
	keys, err := unwrap(ctx, kmsURL, wrapped)
	if err != nil {
		return nil, err
	}
	return newKeyring(keys)
}

// Rewrap opens a wrapped keyring, applies changes to it in order, and wraps it
// for toURL, which may be the URL it came from. The keys stay in memory. Errors
// are [Unwrap]'s, [Wrap]'s, and [ErrKeyID].
func Rewrap(ctx context.Context, fromURL, wrapped, toURL string, changes ...Change) (string, error) {
	keys, err := unwrap(ctx, fromURL, wrapped)
	if err != nil {
		return "", err
	}
	for _, change := range changes {
		if keys, err = change(keys); err != nil {
			return "", err
		}
	}
	return wrap(ctx, toURL, keys)
}

// InsecureKeys returns the keys of a wrapped keyring in the clear, the primary
// one first, for programs that take them no other way. Anyone who sees them can
// read every secret. Errors are [Unwrap]'s.
func InsecureKeys(ctx context.Context, kmsURL, wrapped string) ([]string, error) {
	keys, err := unwrap(ctx, kmsURL, wrapped)
	if err != nil {
		return nil, err
	}
	if _, err := newKeyring(keys); err != nil {
		return nil, err
	}
	return keys, nil
}

// Change is a change of the keys of a wrapped keyring; see [Rewrap].
type Change func(keys []string) ([]string, error)

// AddKey adds a key as the last of the earlier ones, which only decrypt: the
// first step of a rotation.
func AddKey(key string) Change {
	return func(keys []string) ([]string, error) { return append(keys, key), nil }
}

// Promote makes the key with an ID the primary one, and the old primary key the
// first of the earlier ones: the second step of a rotation.
func Promote(id string) Change {
	return func(keys []string) ([]string, error) {
		i, err := indexOf(keys, id)
		if err != nil {
			return nil, err
		}
		promoted := []string{keys[i]}
		return append(append(promoted, keys[:i]...), keys[i+1:]...), nil
	}
}

// RemoveKey removes an earlier key: the last step of a rotation.
func RemoveKey(id string) Change {
	return func(keys []string) ([]string, error) {
		i, err := indexOf(keys, id)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			return nil, fmt.Errorf("kms: %w: %s is the primary key", ErrKeyID, id)
		}
		return append(append([]string(nil), keys[:i]...), keys[i+1:]...), nil
	}
}

func indexOf(keys []string, id string) (int, error) {
	ring, err := newKeyring(keys)
	if err != nil {
		return 0, err
	}
	for i, key := range ring.Keys() {
		if key.ID() == id {
			return i, nil
		}
	}
	return 0, fmt.Errorf("kms: %w", ErrKeyID) // omits the ID, which may be a misplaced key
}

func newKeyring(keys []string) (*keyring.Keyring, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("kms: %w", credent.ErrNoKey)
	}
	ring, err := keyring.New(keys[0], keys[1:]...)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return ring, nil
}

func wrap(ctx context.Context, kmsURL string, keys []string) (string, error) {
	if _, err := newKeyring(keys); err != nil {
		return "", err
	}
	document, err := encode(keys)
	if err != nil {
		return "", err
	}
	defer clear(document)
	ciphertext, err := call(ctx, opWrap, kmsURL, document)
	if err != nil {
		return "", err
	}
	return armor(ciphertext), nil
}

func unwrap(ctx context.Context, kmsURL, wrapped string) ([]string, error) {
	ciphertext, err := dearmor(wrapped)
	if err != nil {
		return nil, err
	}
	document, err := call(ctx, opUnwrap, kmsURL, ciphertext)
	if err != nil {
		return nil, err
	}
	defer clear(document)
	return decode(document)
}
