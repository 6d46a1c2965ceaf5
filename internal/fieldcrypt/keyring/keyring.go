// Package keyring holds the keys of a process: a primary key that encrypts, and
// earlier keys that only decrypt.
//
// Keys can be replaced while the process runs ([Ring.Replace]). The package
// doesn't know columns, tenants or where keys come from: package keysource
// reads them, and package seal decides which keys open which value.
package keyring

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/redact"
)

// ErrNoKey means that there is no keyring to encrypt or decrypt with.
var ErrNoKey = errors.New("no encryption key")

// Ring holds keys. The first, called primary, encrypts; all decrypt. The zero
// value has no keys. [Ring.Replace] replaces all keys at once, also for secrets
// that were read before; no other method changes them. A Ring is safe for
// concurrent use and prints as [REDACTED].
type Ring struct {
	redact.Methods
	state    *atomic.Pointer[Set]
	recorded *atomic.Bool
}

// Record marks the keyring as used by a client with a trail.
func (r *Ring) Record() {
	if r.recorded != nil { // the zero value opens nothing
		r.recorded.Store(true)
	}
}

// IsRecorded reports whether [Ring.Record] was called.
func (r *Ring) IsRecorded() bool { return r != nil && r.recorded != nil && r.recorded.Load() }

// Set holds the keys of a keyring at one moment. An operation loads it once, so
// that it sees all old or all new keys. A Set is immutable, except that it
// remembers the key that last opened a token.
type Set struct {
	list   []*fernet.Key
	fitted atomic.Int32
}

// New returns a keyring with a primary key and any number of earlier keys, as
// [fernet.ParseKey] reads them. Errors: [ErrNoKey] for an empty primary key;
// [fernet.ErrBadKey], also for a key given twice and for two keys with the same
// signing half. They name the key by its position, from 1.
func New(primary string, previous ...string) (*Ring, error) {
	total := len(previous) + 1
	return Parse(append([]string{primary}, previous...),
		func(i int) string { return fmt.Sprintf("key %d of %d", i+1, total) })
}

// Parse is [New] with the primary key first in texts. Errors call each key by
// the result of name.
func Parse(texts []string, name func(i int) string) (*Ring, error) {
	if strings.TrimSpace(texts[0]) == "" {
		return nil, fmt.Errorf("credent: %s: %w", name(0), ErrNoKey)
	}
	list := make([]*fernet.Key, len(texts))
	for i, text := range texts {
		key, err := fernet.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("credent: %s: %w", name(i), err)
		}
		for j, earlier := range list[:i] {
			reason := ""
			switch {
			case fernet.Same(earlier, key):
				reason = "is the same as"
			case fernet.SignsLike(earlier, key):
				reason = "has the signing half of"
			default:
				continue
			}
			return nil, fmt.Errorf("credent: %s: %w: it %s %s", name(i), fernet.ErrBadKey, reason, name(j))
		}
		list[i] = key
	}
	return Of(list...), nil
}

// Of returns a keyring with the given keys, which must differ, or nil for none.
func Of(list ...*fernet.Key) *Ring {
	if len(list) == 0 {
		return nil
	}
	r := &Ring{state: new(atomic.Pointer[Set]), recorded: new(atomic.Bool)}
	r.state.Store(&Set{list: slices.Clone(list)})
	return r
}

// With returns a keyring with one more key, which only decrypts. It returns r
// itself if the key is nil.
func With(r *Ring, key *fernet.Key) *Ring {
	if key == nil {
		return r
	}
	return Of(append(r.Keys(), key)...)
}

// Load returns the keys that r holds now. Errors: [ErrNoKey] for a nil
// keyring and the zero value.
func Load(r *Ring) (*Set, error) {
	if r == nil || r.state == nil {
		return nil, ErrNoKey
	}
	return r.state.Load(), nil
}

// Keys returns the keys, the primary key first. Don't change the slice.
func (s *Set) Keys() []*fernet.Key { return s.list }

// Prepend returns a set with one more key, which becomes its primary key.
func (s *Set) Prepend(key *fernet.Key) *Set {
	return &Set{list: append([]*fernet.Key{key}, s.list...)}
}

// Append returns a set with one more key, which only decrypts.
func (s *Set) Append(key *fernet.Key) *Set {
	return &Set{list: append(slices.Clip(s.list), key)}
}

// Derive returns a set of keys derived from s's, in the same order. It takes
// over which key last opened a token.
func (s *Set) Derive(derive func(*fernet.Key) (*fernet.Key, error)) (*Set, error) {
	derived := &Set{list: make([]*fernet.Key, len(s.list))}
	for i, key := range s.list {
		var err error
		if derived.list[i], err = derive(key); err != nil {
			return nil, err
		}
	}
	derived.fitted.Store(s.fitted.Load())
	return derived, nil
}

// Encrypt returns a new token under the primary key.
func (s *Set) Encrypt(plaintext string) string { return fernet.Encrypt(s.list[0], plaintext) }

// Decrypt opens a token. It tries the key that last opened one first, since
// rows under one key lie together. Errors are [fernet.Decrypt]'s.
func (s *Set) Decrypt(token string) (string, error) {
	plaintext, _, err := s.Open(token)
	return plaintext, err
}

// Open is like Decrypt and also returns the key's index in the set.
func (s *Set) Open(token string) (plaintext string, index int, err error) {
	first := int(s.fitted.Load())
	plaintext, index, err = fernet.Decrypt(s.list, first, token)
	s.fit(first, index, err)
	return plaintext, index, err
}

// fit remembers the key that opened a token.
func (s *Set) fit(before, index int, err error) {
	if err == nil && index != before {
		s.fitted.Store(int32(index))
	}
}

// FitLike remembers the key that last opened a token in a set derived from s.
func (s *Set) FitLike(derived *Set) {
	if fitted := derived.fitted.Load(); s.fitted.Load() != fitted {
		s.fitted.Store(fitted)
	}
}

// Primary returns the key that encrypts, or nil for a nil keyring.
func (r *Ring) Primary() *fernet.Key {
	s, err := Load(r)
	if err != nil {
		return nil
	}
	return s.list[0]
}

// Keys returns all keys, the primary key first, or none for a nil keyring.
func (r *Ring) Keys() []*fernet.Key {
	s, err := Load(r)
	if err != nil {
		return nil
	}
	return slices.Clone(s.list)
}

// Encrypt returns a new token of the plaintext under the primary key. Errors:
// [ErrNoKey] for a nil keyring.
func (r *Ring) Encrypt(plaintext string) (string, error) {
	s, err := Load(r)
	if err != nil {
		return "", err
	}
	return s.Encrypt(plaintext), nil
}

// Decrypt opens a token. Errors: [ErrNoKey] for a nil keyring, and
// [fernet.Decrypt]'s.
func (r *Ring) Decrypt(token string) (string, error) {
	s, err := Load(r)
	if err != nil {
		return "", err
	}
	return s.Decrypt(token)
}

// AppendEncrypt appends a new token of the plaintext to dst, and doesn't
// allocate if dst has room. On an [ErrNoKey] it returns dst unchanged.
func (r *Ring) AppendEncrypt(dst []byte, plaintext string) ([]byte, error) {
	s, err := Load(r)
	if err != nil {
		return dst, err
	}
	return fernet.AppendEncrypt(dst, s.list[0], plaintext), nil
}

// AppendDecrypt appends a token's plaintext to dst, and doesn't allocate if dst
// has room. The caller clears dst. Errors are [Ring.Decrypt]'s, with dst
// unchanged.
func (r *Ring) AppendDecrypt(dst []byte, token string) ([]byte, error) {
	s, err := Load(r)
	if err != nil {
		return dst, err
	}
	first := int(s.fitted.Load())
	dst, index, err := fernet.AppendDecrypt(dst, s.list, first, token)
	s.fit(first, index, err)
	return dst, err
}
