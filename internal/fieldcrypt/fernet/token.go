// Package fernet is Credent's codec for Fernet tokens and their keys.
//
// It implements the Fernet spec
// (https://github.com/fernet/spec/blob/master/Spec.md): AES-128-CBC and
// HMAC-SHA-256, base64url with padding. It accepts exactly what Fernet
// implementations write, so a plaintext with one IV, time and key has only one
// token. It ignores the timestamp: stored data doesn't expire.
//
// The package knows one token at a time, and one key or a list of keys to try.
// Packages above it decide which key belongs to which value.
package fernet

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"time"
)

// Layout of a token before base64, in bytes (Fernet spec, "Token Format"):
// version, timestamp, IV, ciphertext, MAC.
const (
	version    = 0x80
	timeOffset = 1
	ivOffset   = timeOffset + 8
	headerSize = ivOffset + blockSize
	blockSize  = 16 // AES block; PKCS #7 pads the ciphertext to it
	macSize    = 32 // HMAC-SHA-256
)

// Prefix begins every token: the version, and the first 22 bits of the
// timestamp, which are zero for the next hundred thousand years.
const Prefix = "gAAAA"

// tokenEncoding is base64url with padding; Strict refuses leftover bits.
var tokenEncoding = base64.URLEncoding.Strict()

// Errors of opening a token. Their texts never hold plaintext or tokens.
var (
	// ErrNotEncrypted means that a stored value isn't a token: plaintext, or
	// nothing at all ("", as opposed to NULL).
	ErrNotEncrypted = errors.New("not encrypted: the stored value is not a token")

	// ErrCorrupt means that a token can't be opened, for any reason.
	ErrCorrupt = errors.New("damaged token")

	// ErrUnknownKey means that no key authenticates a well-formed token: it was
	// encrypted under another key, or altered. A token doesn't name its key, so
	// nobody can tell the two apart, and errors.Is(ErrUnknownKey, ErrCorrupt)
	// is true as well.
	ErrUnknownKey error = unknownKeyError{}
)

type unknownKeyError struct{}

func (unknownKeyError) Error() string {
	return "no key in the keyring opens this token: it was encrypted under another key, or altered"
}

// Is makes an unknown key an [ErrCorrupt] as well.
func (unknownKeyError) Is(target error) bool { return target == ErrCorrupt }

// IsToken reports whether a stored value begins like a token. If it does but
// doesn't open, it is damaged or under another key, never plaintext.
func IsToken(stored string) bool { return strings.HasPrefix(stored, Prefix) }

// TokenLen returns the length of the token of an n-byte plaintext, in
// characters.
func TokenLen(n int) int { return base64.URLEncoding.EncodedLen(rawLen(n)) }

// rawLen is TokenLen before base64, in bytes.
func rawLen(n int) int { return headerSize + blockSize*(n/blockSize+1) + macSize }

// MaxPlaintext returns the length in bytes of the longest plaintext with a
// token that fits in size characters. It is negative if no token fits.
func MaxPlaintext(size int) int {
	return (size/4*3-headerSize-macSize)/blockSize*blockSize - 1
}

// Encrypt returns a new token of the plaintext.
func Encrypt(key *Key, plaintext string) string {
	raw := rawLen(len(plaintext))
	e := key.engine()
	w := e.take(raw + TokenLen(len(plaintext)))
	defer e.giveBack(w)
	buf := w.scratch.buf
	sealNow(w, buf[:raw], plaintext)
	tokenEncoding.Encode(buf[raw:], buf[:raw])
	return string(buf[raw:])
}

// AppendEncrypt appends a new token of the plaintext to dst. It doesn't
// allocate if dst has room.
func AppendEncrypt(dst []byte, key *Key, plaintext string) []byte {
	e := key.engine()
	w := e.take(rawLen(len(plaintext)))
	defer e.giveBack(w)
	sealNow(w, w.scratch.buf, plaintext)
	return tokenEncoding.AppendEncode(dst, w.scratch.buf)
}

// sealNow makes a token with a random IV and the current time. A repeated or
// predictable IV would show which texts begin alike.
func sealNow(w *worker, raw []byte, plaintext string) {
	iv := raw[ivOffset:headerSize]
	_, _ = rand.Read(iv) // never fails, per its documentation
	w.seal(raw, plaintext, iv, uint64(time.Now().Unix()))
}

// Decrypt opens a token and returns the index of the key that authenticates it.
// It tries keys[first] first, since rows under one key lie together. Errors:
// [ErrNotEncrypted], [ErrCorrupt], [ErrUnknownKey].
func Decrypt(keys []*Key, first int, token string) (plaintext string, index int, err error) {
	e := keys[first].engine()
	w := e.take(base64.URLEncoding.DecodedLen(len(token)))
	defer e.giveBack(w)
	opened, index, err := open(w, keys, first, token)
	return string(opened), index, err
}

// AppendDecrypt is like Decrypt and appends the plaintext to dst. The caller
// clears dst. It doesn't allocate if dst has room.
func AppendDecrypt(dst []byte, keys []*Key, first int, token string) ([]byte, int, error) {
	e := keys[first].engine()
	w := e.take(base64.URLEncoding.DecodedLen(len(token)))
	defer e.giveBack(w)
	opened, index, err := open(w, keys, first, token)
	return append(dst, opened...), index, err
}

// open opens a token in the buffer of a worker of keys[first].
func open(w *worker, keys []*Key, first int, token string) (plaintext []byte, index int, err error) {
	raw, err := decode(w.scratch.buf, token)
	if err != nil {
		return nil, 0, err
	}
	if plaintext, err = w.open(raw); !errors.Is(err, ErrUnknownKey) {
		return plaintext, first, err
	}
	for i, key := range keys {
		if i == first {
			continue
		}
		e := key.engine()
		other := e.take(0)
		plaintext, err = other.open(raw)
		e.giveBack(other)
		if !errors.Is(err, ErrUnknownKey) {
			return plaintext, i, err
		}
	}
	return nil, 0, ErrUnknownKey
}

// decode decodes base64 into buf, and checks all that needs no key.
func decode(buf []byte, token string) ([]byte, error) {
	if !IsToken(token) {
		return nil, ErrNotEncrypted
	}
	n, ok := decodeBase64(buf, token)
	if !ok {
		return nil, ErrCorrupt
	}
	if size := n - headerSize - macSize; size < blockSize || size%blockSize != 0 {
		return nil, ErrCorrupt
	}
	return buf[:n], nil
}
