// Package keyring holds the keys of a process: a primary key that encrypts, and
// earlier keys that only decrypt.
//
// It knows how keys are replaced while the process runs ([Ring.Replace]). It
// doesn't know where they come from, columns or tenants: package keysource
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

// Ring holds keys. The first, called primary, encrypts; all decrypt. The
// zero value has no keys. [Ring.Replace] exchanges all keys at once, also
// for secrets that were read before; every other method leaves them alone. A
// Ring is safe for concurrent use and prints as [REDACTED].
type Ring struct {
	redact.Methods
	state    *atomic.Pointer[Set]
	recorded *atomic.Bool
}

// Record says that what the keyring opens is to be recorded.
func (r *Ring) Record() {
	if r.recorded != nil { // the zero value opens nothing
		r.recorded.Store(true)
	}
}

// IsRecorded reports whether somebody said so.
func (r *Ring) IsRecorded() bool { return r != nil && r.recorded != nil && r.recorded.Load() }

// Set holds the keys of a keyring at one moment. An operation loads it once,
// so that it sees all old or all new keys. Everything but its memory of the
// key that opened a token last is immutable.
type Set struct {
	list   []*fernet.Key
	fitted atomic.Int32
}

// New makes a keyring of a primary key and any number of earlier keys, each in
// the form of [fernet.ParseKey]. Errors: [ErrNoKey] for an empty primary key;
// [fernet.ErrBadKey], also for a key given twice and for one with the signing
// half of another. They name the key by its place, from 1.
func New(primary string, previous ...string) (*Ring, error) {
	total := len(previous) + 1
	return Parse(append([]string{primary}, previous...),
		func(i int) string { return fmt.Sprintf("key %d of %d", i+1, total) })
}

// Parse makes a keyring of keys that name names in errors.
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

// Of makes a keyring of keys, which must differ. Without any it returns nil,
// which has no keys.
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

// Derive returns the set of the keys that derive makes of s's, in the same
// order. It remembers the key that opened a token last.
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

// Decrypt opens a token, trying first the key that opened one last: rows under
// one key lie together. Errors are [fernet.Decrypt]'s.
func (s *Set) Decrypt(token string) (string, error) {
	plaintext, _, err := s.Open(token)
	return plaintext, err
}

// Open is Decrypt that also returns the key's place in the set.
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

// FitLike remembers the key that fitted in a set derived from s.
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

// AppendEncrypt appends a new token of the plaintext to dst, and allocates
// nothing if dst has the room. Errors: [ErrNoKey], with dst as it was.
func (r *Ring) AppendEncrypt(dst []byte, plaintext string) ([]byte, error) {
	s, err := Load(r)
	if err != nil {
		return dst, err
	}
	return fernet.AppendEncrypt(dst, s.list[0], plaintext), nil
}

// AppendDecrypt appends the plaintext of a token to dst, which the caller
// clears, and allocates nothing if dst has the room. Errors are
// [Ring.Decrypt]'s, with dst as it was.
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
