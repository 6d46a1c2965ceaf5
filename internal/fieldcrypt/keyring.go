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
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/fernet/fernet-go"
)

// KeySize is the size of a key in bytes: 16 to sign, 16 to encrypt (Fernet spec, "Key Format").
const KeySize = 32

// signingSize is the size in bytes of the part of a key that signs, which comes first.
const signingSize = 16

// Environment variables that hold the keys of the default keyring.
const (
	// EnvKey holds the primary key: 44 characters of base64.
	EnvKey = "ENCRYPTION_KEY"
	// EnvPreviousKeys holds earlier keys, which only decrypt, separated by commas. It may be unset.
	EnvPreviousKeys = "ENCRYPTION_KEY_PREVIOUS"

	// fileSuffix makes of either the name of a variable that names a file.
	fileSuffix = "_FILE"
)

// Key is one Fernet key. It prints as [Redacted] and is safe for concurrent use.
type Key struct {
	// Closures, like that of Secret.
	fernet func() *fernet.Key
	engine func() *engine

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
	e, err := newEngine(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	return &Key{
		fernet: func() *fernet.Key { return &key },
		engine: func() *engine { return e },
		id:     hex.EncodeToString(id),
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

// Keyring holds the keys: the first, called primary, encrypts; all decrypt. It is immutable and safe for concurrent
// use. It prints as [Redacted].
type Keyring struct {
	keys   func() []*Key // a closure, like that of Secret
	fitted *atomic.Int32 // index of the key that opened a token last
}

// NewKeyring makes a keyring of a primary key and any number of earlier ones, each in the form of [ParseKey]. Errors:
// [ErrNoKey] and [ErrBadKey], the latter also for a key given twice and for one with the signing half of another; they
// say which key by its place, from 1.
func NewKeyring(primary string, previous ...string) (*Keyring, error) {
	texts := append([]string{primary}, previous...)
	keys := make([]*Key, len(texts))
	for i, text := range texts {
		key, err := ParseKey(text)
		if i > 0 && errors.Is(err, ErrNoKey) {
			err = fmt.Errorf("%w: it is empty", ErrBadKey) // as after a comma too many
		}
		if err != nil {
			return nil, fmt.Errorf("fieldcrypt: key %d of %d: %w", i+1, len(texts), err)
		}
		for j, earlier := range keys[:i] {
			if reason := clash(earlier.fernet(), key.fernet()); reason != "" {
				return nil, fmt.Errorf("fieldcrypt: key %d of %d: %w: it %s key %d",
					i+1, len(texts), ErrBadKey, reason, j+1)
			}
		}
		keys[i] = key
	}
	return &Keyring{keys: func() []*Key { return keys }, fitted: new(atomic.Int32)}, nil
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

// KeyringFromEnv makes a keyring of [EnvKey] and [EnvPreviousKeys], or of the files that those names with the suffix _FILE
// name, as secrets are mounted into containers. An unset or empty EnvKey is [ErrNoKey]; a variable set both ways is
// [ErrBadKey]. No error quotes what a variable or a file holds.
func KeyringFromEnv() (*Keyring, error) {
	primary, source, err := fromEnv(EnvKey)
	if err != nil {
		return nil, err
	}
	if primary == "" {
		return nil, fmt.Errorf("fieldcrypt: %w: set %s", ErrNoKey, EnvKey)
	}
	list, previousSource, err := fromEnv(EnvPreviousKeys)
	if err != nil {
		return nil, err
	}
	var previous []string
	if list != "" {
		previous = strings.Split(list, ",")
	}
	ring, err := NewKeyring(primary, previous...)
	if err != nil {
		return nil, fmt.Errorf("%w (from %s, then %s)", err, source, previousSource)
	}
	return ring, nil
}

// fromEnv returns what a variable holds, or the file that the variable with the suffix _FILE names, without white space
// around it, and the name of the variable that it came from.
func fromEnv(name string) (text, source string, err error) {
	text, path := strings.TrimSpace(os.Getenv(name)), os.Getenv(name+fileSuffix)
	if path == "" {
		return text, name, nil
	}
	if text != "" {
		return "", "", fmt.Errorf("fieldcrypt: %w: both %s and %s are set", ErrBadKey, name, name+fileSuffix)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err // without the path, which may be a key in the wrong variable
		}
		return "", "", fmt.Errorf("fieldcrypt: %w: the file that %s names: %w", ErrNoKey, name+fileSuffix, err)
	}
	return strings.TrimSpace(string(data)), name + fileSuffix, nil
}

// Primary returns the key that encrypts, or nil of a nil keyring.
func (r *Keyring) Primary() *Key {
	if r == nil || r.keys == nil {
		return nil
	}
	return r.keys()[0]
}

// Keys returns all keys, the primary one first, or none of a nil keyring.
func (r *Keyring) Keys() []*Key {
	if r == nil || r.keys == nil {
		return nil
	}
	return append([]*Key(nil), r.keys()...)
}

// Encrypt returns a new token of the plaintext under the primary key. A nil keyring gives [ErrNoKey].
func (r *Keyring) Encrypt(plaintext string) (string, error) {
	if r == nil || r.keys == nil {
		return "", ErrNoKey
	}
	return encrypt(r.Primary(), plaintext), nil
}

// Decrypt opens a token. Errors: [ErrNoKey] for a nil keyring, [ErrNotEncrypted], [ErrCorrupt], [ErrUnknownKey].
func (r *Keyring) Decrypt(token string) (string, error) {
	if r == nil || r.keys == nil {
		return "", ErrNoKey
	}
	return decrypt(r.keys(), r.fitted, token)
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

// defaultRing is the keyring of the process, for clients without one of their own.
var defaultRing struct {
	sync.Mutex
	ring *Keyring
}

// Default returns the keyring of the process. It is read from the environment by [KeyringFromEnv] at the first use
// that succeeds, and does not change afterwards.
func Default() (*Keyring, error) {
	defaultRing.Lock()
	defer defaultRing.Unlock()
	if defaultRing.ring == nil {
		ring, err := KeyringFromEnv()
		if err != nil {
			return nil, err
		}
		defaultRing.ring = ring
	}
	return defaultRing.ring, nil
}
