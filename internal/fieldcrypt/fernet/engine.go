package fernet

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash"
	"slices"
	"sync"

	"github.com/fernet/fernet-go"
)

// engine does the cryptography of one key, on tokens before base64. Its errors
// don't say which byte is wrong. It is safe for concurrent use.
//
// Setting up AES and HMAC costs more than using them on a short text, so
// workers keep what they derive from the key.
type engine struct{ workers sync.Pool }

// worker holds the state of one operation at a time.
type worker struct {
	mac      hash.Hash
	enc, dec ivMode
	sum      [macSize]byte
	scratch  scratch
}

func newEngine(key fernet.Key) (*engine, error) {
	// The first half signs, the second encrypts (Fernet spec, "Key Format").
	block, err := aes.NewCipher(key[signingSize:])
	if err != nil {
		return nil, err
	}
	e := &engine{}
	e.workers.New = func() any {
		mac := hmac.New(sha256.New, key[:signingSize])
		// A Reset makes it keep the hash states of its padded key.
		mac.Reset()
		return &worker{
			mac: mac, enc: newMode(block, cipher.NewCBCEncrypter),
			dec: newMode(block, cipher.NewCBCDecrypter),
		}
	}
	return e, nil
}

// take returns a worker with a buffer of n bytes. Give it back after use.
func (e *engine) take(n int) *worker {
	w := e.workers.Get().(*worker)
	w.scratch.resize(n)
	return w
}

// giveBack clears the worker's buffer and returns it to the pool.
func (e *engine) giveBack(w *worker) {
	w.scratch.clear()
	e.workers.Put(w)
}

// seal writes the token of a plaintext to raw, which has rawLen bytes.
func (w *worker) seal(raw []byte, plaintext string, iv []byte, unixTime uint64) {
	signed := raw[:len(raw)-macSize]
	signed[0] = version
	binary.BigEndian.PutUint64(signed[timeOffset:], unixTime)
	copy(signed[ivOffset:headerSize], iv)

	text := signed[headerSize:]
	n := copy(text, plaintext)
	for i := n; i < len(text); i++ {
		text[i] = byte(len(text) - n) // PKCS #7, RFC 5652 §6.3
	}
	w.enc.SetIV(iv)
	w.enc.CryptBlocks(text, text)

	w.mac.Reset()
	w.mac.Write(signed)
	w.mac.Sum(signed) // appends: raw has the room
}

// open decrypts a token in place and returns the plaintext part of raw, which
// must have the length of a token. If the key doesn't authenticate it, open
// leaves raw alone and returns [ErrUnknownKey].
func (w *worker) open(raw []byte) ([]byte, error) {
	signed, mac := raw[:len(raw)-macSize], raw[len(raw)-macSize:]
	w.mac.Reset()
	w.mac.Write(signed)
	// In constant time, or a forger finds the MAC byte by byte; and before
	// decryption, or the padding is an oracle (Vaudenay 2002).
	if subtle.ConstantTimeCompare(mac, w.mac.Sum(w.sum[:0])) != 1 {
		return nil, ErrUnknownKey
	}
	text := signed[headerSize:]
	w.dec.SetIV(signed[ivOffset:headerSize])
	w.dec.CryptBlocks(text, text)
	return unpad(text)
}

// unpad removes the PKCS #7 padding of an authenticated text of at least one
// block. Only a holder of the key can have written wrong padding.
func unpad(text []byte) ([]byte, error) {
	pad := int(text[len(text)-1])
	if pad < 1 || pad > blockSize {
		return nil, ErrCorrupt
	}
	n := len(text) - pad
	for _, b := range text[n:] {
		if int(b) != pad {
			return nil, ErrCorrupt
		}
	}
	return text[:n], nil
}

// ivMode is a mode with a new IV for each text. The standard library's modes
// have the method, though no interface names it; it saves a copy of the key
// schedule.
type ivMode interface {
	cipher.BlockMode
	SetIV(iv []byte)
}

// newMode returns a mode. If the library's mode has no SetIV, each IV makes a
// new mode.
func newMode(block cipher.Block, fresh func(cipher.Block, []byte) cipher.BlockMode) ivMode {
	mode := fresh(block, make([]byte, blockSize))
	if m, ok := mode.(ivMode); ok {
		return m
	}
	return &renewedMode{mode, block, fresh}
}

type renewedMode struct {
	cipher.BlockMode
	block cipher.Block
	fresh func(cipher.Block, []byte) cipher.BlockMode
}

func (m *renewedMode) SetIV(iv []byte) { m.BlockMode = m.fresh(m.block, iv) }

// scratch is a buffer for one operation. It is cleared after use, so that it
// keeps no plaintext.
type scratch struct{ buf []byte }

func (s *scratch) resize(n int) { s.buf = slices.Grow(s.buf[:0], n)[:n] }

func (s *scratch) clear() { clear(s.buf) }
