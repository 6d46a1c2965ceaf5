package fieldcrypt

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fernet/fernet-go"
)

// KeySize is the size of a key in bytes: 16 to sign, 16 to encrypt (Fernet spec, "Key Format").
const KeySize = 32

// signingSize is the size in bytes of the part of a key that signs, which comes first.
const signingSize = 16

// Key is one Fernet key. It prints as [Redacted] and is safe for concurrent use.
type Key struct {
	// Closures, like that of Secret.
	fernet    func() *fernet.Key
	engine    func() *engine
	digesters func() *sync.Map // by table and column

	id string
}

// GenerateKey returns a new random key in the form that [ParseKey] and other Fernet implementations read: 44
// characters of base64url.
func GenerateKey() string {
	var raw [KeySize]byte
	_, _ = rand.Read(raw[:]) // never fails, per its documentation
	return base64.URLEncoding.EncodeToString(raw[:])
}

// ParseKey reads a key of 44 characters of base64 with padding, in the URL-safe alphabet or the standard one (Python's
// cryptography reads both). White space around it is ignored, since files and environment files end in a line break.
// Everything else is [ErrBadKey], with a reason that does not quote the key.
func ParseKey(text string) (*Key, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, ErrNoKey
	}
	want := base64.URLEncoding.EncodedLen(KeySize)
	if len(text) != want {
		return nil, fmt.Errorf("%w: it has %d characters, a key has %d", ErrBadKey, len(text), want)
	}
	if strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("%w: it has a line break", ErrBadKey)
	}
	raw, err := tokenEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(text))
	if err != nil || len(raw) != KeySize {
		return nil, fmt.Errorf("%w: it is not base64 of %d bytes", ErrBadKey, KeySize)
	}
	key := fernet.Key(raw)
	if key == (fernet.Key{}) {
		return nil, fmt.Errorf("%w: it is all zero", ErrBadKey)
	}
	id, err := hkdf.Key(sha256.New, raw, nil, "credent key id v1", 4)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	return newKey(key, hex.EncodeToString(id))
}

func newKey(key fernet.Key, id string) (*Key, error) {
	e, err := newEngine(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	var digesters sync.Map
	return &Key{
		fernet:    func() *fernet.Key { return &key },
		engine:    func() *engine { return e },
		digesters: func() *sync.Map { return &digesters },
		id:        id,
	}, nil
}

// ID returns a fingerprint of the key, 8 hexadecimal digits by HKDF-SHA-256 (RFC 5869), which tells keys apart and
// reveals nothing of them.
func (k *Key) ID() string { return k.id }

// String returns [Redacted].
func (k *Key) String() string { return Redacted }

// GoString returns [Redacted].
func (k *Key) GoString() string { return Redacted }

// Format writes [Redacted], whatever the verb and flags.
func (k *Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue returns [Redacted] and the key's ID.
func (k *Key) LogValue() slog.Value { return slog.StringValue(Redacted + " id=" + k.id) }

// MarshalText returns [Redacted].
func (k *Key) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// Keyring holds the keys: the first, called primary, encrypts; all decrypt. [Keyring.Replace] exchanges them all at once,
// also for the secrets that were read before; everything else leaves them as they are. It is safe for concurrent use, and
// prints as [Redacted].
type Keyring struct {
	state *atomic.Pointer[keys] // nil in the zero value, which has no keys
}

// keys are the keys of a keyring at one moment. An operation loads them once, so that it sees all old or all new ones.
type keys struct {
	list   []*Key // immutable, the primary key first
	fitted atomic.Int32
	bound  boundKeys // those derived from them
}

// load returns the keys, or [ErrNoKey] for a nil keyring and the zero value.
func (r *Keyring) load() (*keys, error) {
	if r == nil || r.state == nil {
		return nil, ErrNoKey
	}
	return r.state.Load(), nil
}

func newKeyring(k *keys) *Keyring {
	r := &Keyring{state: new(atomic.Pointer[keys])}
	r.state.Store(k)
	return r
}

// NewKeyring makes a keyring of a primary key and any number of earlier ones, each in the form of [ParseKey]. Errors:
// [ErrNoKey] and [ErrBadKey], the latter also for a key given twice and for one with the signing half of another; they
// say which key by its place, from 1.
func NewKeyring(primary string, previous ...string) (*Keyring, error) {
	texts := append([]string{primary}, previous...)
	list := make([]*Key, len(texts))
	for i, text := range texts {
		key, err := ParseKey(text)
		if i > 0 && errors.Is(err, ErrNoKey) {
			err = fmt.Errorf("%w: it is empty", ErrBadKey) // as after a comma too many
		}
		if err != nil {
			return nil, fmt.Errorf("fieldcrypt: key %d of %d: %w", i+1, len(texts), err)
		}
		for j, earlier := range list[:i] {
			if reason := clash(earlier.fernet(), key.fernet()); reason != "" {
				return nil, fmt.Errorf("fieldcrypt: key %d of %d: %w: it %s key %d",
					i+1, len(texts), ErrBadKey, reason, j+1)
			}
		}
		list[i] = key
	}
	return newKeyring(&keys{list: list}), nil
}

// clash says why two keys cannot be in one keyring, or "". Keys that sign alike authenticate each other's tokens; the
// wrong one would decrypt them to nonsense, and for one token in 256 the nonsense has a valid padding.
func clash(a, b *fernet.Key) string {
	switch {
	case subtle.ConstantTimeCompare(a[:], b[:]) == 1:
		return "is the same as"
	case subtle.ConstantTimeCompare(a[:signingSize], b[:signingSize]) == 1:
		return "has the signing half of"
	}
	return ""
}

// Primary returns the key that encrypts, or nil of a nil keyring.
func (r *Keyring) Primary() *Key {
	k, err := r.load()
	if err != nil {
		return nil
	}
	return k.list[0]
}

// Keys returns all keys, the primary one first, or none of a nil keyring.
func (r *Keyring) Keys() []*Key {
	k, err := r.load()
	if err != nil {
		return nil
	}
	return slices.Clone(k.list)
}

// Encrypt returns a new token of the plaintext under the primary key. A nil keyring gives [ErrNoKey].
func (r *Keyring) Encrypt(plaintext string) (string, error) {
	k, err := r.load()
	if err != nil {
		return "", err
	}
	return encrypt(k.list[0], plaintext), nil
}

// Decrypt opens a token. Errors: [ErrNoKey] for a nil keyring, [ErrNotEncrypted], [ErrCorrupt], [ErrUnknownKey].
func (r *Keyring) Decrypt(token string) (string, error) {
	k, err := r.load()
	if err != nil {
		return "", err
	}
	return decrypt(k, token)
}

// String returns [Redacted].
func (r *Keyring) String() string { return Redacted }

// GoString returns [Redacted].
func (r *Keyring) GoString() string { return Redacted }

// Format writes [Redacted], whatever the verb and flags.
func (r *Keyring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue returns [Redacted].
func (r *Keyring) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText returns [Redacted].
func (r *Keyring) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
