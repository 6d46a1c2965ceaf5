package fernet

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/fernet/fernet-go"

	"github.com/credent-go/credent/internal/keytext"
	"github.com/credent-go/credent/internal/redact"
)

// ErrBadKey means that a key is malformed, has the wrong length, is all zero,
// is given twice, or has the same signing half as another key.
var ErrBadKey = errors.New("bad encryption key")

// KeySize is the size of a key in bytes: 16 to sign, 16 to encrypt (Fernet
// spec, "Key Format").
const KeySize = 32

// signingSize is the size in bytes of a key's first half, which signs.
const signingSize = 16

// Key is one Fernet key. It prints as [REDACTED], and is immutable and safe
// for concurrent use.
type Key struct {
	redact.Methods
	// Closures, because printers that walk unexported fields and pointers
	// don't look inside one.
	fernet func() *fernet.Key
	engine func() *engine

	id string
}

// GenerateKey returns a new random key as 44 characters of base64url, which
// every Fernet implementation reads.
func GenerateKey() string {
	var raw [KeySize]byte
	_, _ = rand.Read(raw[:]) // never fails, per its documentation
	return base64.URLEncoding.EncodeToString(raw[:])
}

// ParseKey reads a key of 44 characters of base64 with padding, in the URL-safe
// alphabet or the standard one (Python's cryptography reads both). It ignores
// white space around the key, since files end in a line break. For any other
// text it returns an [ErrBadKey] that says what is wrong and doesn't quote it.
func ParseKey(text string) (*Key, error) {
	trimmed := strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimSpace(text))
	raw, err := tokenEncoding.DecodeString(trimmed)
	if err != nil || len(raw) != KeySize || strings.ContainsAny(trimmed, "\r\n") {
		return nil, fmt.Errorf("%w: %s", ErrBadKey, keytext.Cause(text))
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
	return &Key{fernet: func() *fernet.Key { return &key }, engine: func() *engine { return e }, id: id}, nil
}

// Subkey derives size bytes for one purpose: HKDF-SHA-256 (RFC 5869) over all
// 32 bytes of the key, without salt, since the key is random already. info
// names the purpose and begins with a versioned label.
func Subkey(k *Key, info string, size int) ([]byte, error) {
	return hkdf.Key(sha256.New, k.fernet()[:], nil, info, size)
}

// Derive returns a Fernet key for one purpose, by [Subkey]. It has k's ID.
func Derive(k *Key, info string) (*Key, error) {
	raw, err := Subkey(k, info, KeySize)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	return newKey(fernet.Key(raw), k.id)
}

// Text returns the key itself, as 44 characters of base64url, to wrap it.
func Text(k *Key) string { return base64.URLEncoding.EncodeToString(k.fernet()[:]) }

// Same reports in constant time whether two keys are equal.
func Same(a, b *Key) bool { return subtle.ConstantTimeCompare(a.fernet()[:], b.fernet()[:]) == 1 }

// SignsLike reports in constant time whether two keys have the same signing
// half. Each would authenticate the other's tokens and decrypt them to garbage,
// with valid padding once in 256 tokens.
func SignsLike(a, b *Key) bool {
	return subtle.ConstantTimeCompare(a.fernet()[:signingSize], b.fernet()[:signingSize]) == 1
}

// ID returns a fingerprint of the key: 8 hexadecimal digits by HKDF-SHA-256
// (RFC 5869), which tell keys apart and reveal nothing about them.
func (k *Key) ID() string { return k.id }

// LogValue returns [REDACTED] and the key's ID.
func (k *Key) LogValue() slog.Value { return slog.StringValue(redact.Marker + " id=" + k.id) }
