package fieldcrypt

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"time"
)

// Layout of a token before base64, in bytes (Fernet spec, "Token Format"): version, timestamp, IV, ciphertext, MAC.
const (
	version    = 0x80
	timeOffset = 1
	ivOffset   = timeOffset + 8
	headerSize = ivOffset + blockSize
	blockSize  = 16 // AES block; the ciphertext is padded to it by PKCS #7
	macSize    = 32 // HMAC-SHA-256
)

// tokenPrefix begins every token: the version, and the first 22 bits of the timestamp, which are zero for the next
// hundred thousand years. Where it is checked the version is, too.
const tokenPrefix = "gAAAA"

// tokenEncoding is base64url with padding; Strict refuses trailing bits that are not zero.
var tokenEncoding = base64.URLEncoding.Strict()

// TokenLen returns the length in characters of the token of a plaintext of n bytes.
func TokenLen(n int) int { return base64.URLEncoding.EncodedLen(rawLen(n)) }

// rawLen is TokenLen before base64, in bytes.
func rawLen(n int) int { return headerSize + blockSize*(n/blockSize+1) + macSize }

// MaxPlaintext returns the number of bytes of the longest plaintext whose token fits a column of size characters, and
// a negative number if none does.
func MaxPlaintext(size int) int {
	return (size/4*3-headerSize-macSize)/blockSize*blockSize - 1
}

// encrypt returns a new token of the plaintext.
func encrypt(key *Key, plaintext string) string {
	raw := rawLen(len(plaintext))
	e := key.engine()
	w := e.take(raw + TokenLen(len(plaintext)))
	defer e.giveBack(w)
	buf := w.scratch.buf
	sealNow(w, buf[:raw], plaintext)
	tokenEncoding.Encode(buf[raw:], buf[:raw])
	return string(buf[raw:])
}

// AppendEncrypt appends a new token of the plaintext to dst. Where dst has the room, nothing is allocated. A nil keyring
// gives [ErrNoKey], and dst as it was.
func (r *Keyring) AppendEncrypt(dst []byte, plaintext string) ([]byte, error) {
	key := r.Primary()
	if key == nil {
		return dst, ErrNoKey
	}
	return appendEncrypt(dst, key, plaintext), nil
}

// AppendDecrypt appends the plaintext of a token to dst, which is the caller's to clear. Where dst has the room, nothing
// is allocated. Errors are those of [Keyring.Decrypt], with dst as it was.
func (r *Keyring) AppendDecrypt(dst []byte, token string) ([]byte, error) {
	k, err := r.load()
	if err != nil {
		return dst, err
	}
	return appendDecrypt(dst, k, token)
}

// appendEncrypt appends a new token of the plaintext to dst.
func appendEncrypt(dst []byte, key *Key, plaintext string) []byte {
	e := key.engine()
	w := e.take(rawLen(len(plaintext)))
	defer e.giveBack(w)
	sealNow(w, w.scratch.buf, plaintext)
	return tokenEncoding.AppendEncode(dst, w.scratch.buf)
}

// sealNow makes a token with a random IV and the time of the clock. A repeated or predictable IV would show which
// texts begin alike.
func sealNow(w *worker, raw []byte, plaintext string) {
	iv := raw[ivOffset:headerSize]
	_, _ = rand.Read(iv) // never fails, per its documentation
	w.seal(raw, plaintext, iv, uint64(time.Now().Unix()))
}

// decrypt opens a token with the key that authenticates it. It accepts exactly what Fernet implementations write:
// canonical base64url with padding, nothing before, between or after, so that a plaintext under an IV, a time and a
// key has one token only. The timestamp is not looked at: stored data does not expire.
//
// It begins with the key that opened a token last, the fitted one: rows lie together that were written under one key. The
// result does not depend on it, since no two keys of a keyring sign alike.
func decrypt(k *keys, token string) (string, error) {
	e := k.list[k.fitted.Load()].engine()
	w := e.take(base64.URLEncoding.DecodedLen(len(token)))
	defer e.giveBack(w)
	plaintext, _, err := openWith(w, e, w.scratch.buf, k, token)
	return string(plaintext), err
}

// appendDecrypt appends the plaintext of a token to dst; see [decrypt].
func appendDecrypt(dst []byte, k *keys, token string) ([]byte, error) {
	e := k.list[k.fitted.Load()].engine()
	w := e.take(base64.URLEncoding.DecodedLen(len(token)))
	defer e.giveBack(w)
	plaintext, _, err := openWith(w, e, w.scratch.buf, k, token)
	return append(dst, plaintext...), err
}

// open is decrypt within a buffer that holds the decoded token. It also returns the index of the key.
func open(buf []byte, k *keys, token string) ([]byte, int, error) {
	return openWith(nil, nil, buf, k, token)
}

// openWith is open where a worker of one of the keys' engines is at hand already.
func openWith(w *worker, of *engine, buf []byte, k *keys, token string) (plaintext []byte, index int, err error) {
	raw, err := decode(buf, token)
	if err != nil {
		return nil, 0, err
	}
	first := int(k.fitted.Load())
	for i := range k.list {
		n := i
		switch {
		case i == 0:
			n = first
		case i <= first:
			n = i - 1
		}
		if e := k.list[n].engine(); e == of {
			plaintext, err = w.open(raw)
		} else {
			plaintext, err = e.open(raw)
		}
		if errors.Is(err, ErrUnknownKey) {
			continue
		}
		if n != first {
			k.fitted.Store(int32(n))
		}
		return plaintext, n, err
	}
	return nil, 0, ErrUnknownKey
}

// decode undoes base64 into buf, and checks what can be checked without a key.
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
