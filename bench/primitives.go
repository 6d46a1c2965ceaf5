package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"time"

	"github.com/fernet/fernet-go"
)

// primitives does the minimum for a Fernet token: the clock, a random IV,
// AES-CBC, HMAC and base64, with the state created once, into one buffer,
// without input checks, for one goroutine. No implementation can be faster with
// the standard library's primitives.
type primitives struct {
	mac      hash.Hash
	enc, dec interface {
		cipher.BlockMode
		SetIV(iv []byte)
	}
	raw, text []byte
	sum       [sha256.Size]byte
}

var errPrimitives = errors.New("the token doesn't open")

func newPrimitives(k *fernet.Key) (*primitives, error) {
	block, err := aes.NewCipher(k[16:])
	if err != nil {
		return nil, err
	}
	iv := make([]byte, aes.BlockSize)
	p := &primitives{mac: hmac.New(sha256.New, k[:16]), raw: make([]byte, 4096), text: make([]byte, 8192)}
	p.mac.Reset()
	var ok [2]bool
	p.enc, ok[0] = cipher.NewCBCEncrypter(block, iv).(interface { //nolint:gosec // G407: SetIV sets each token's
		cipher.BlockMode
		SetIV(iv []byte)
	})
	p.dec, ok[1] = cipher.NewCBCDecrypter(block, iv).(interface {
		cipher.BlockMode
		SetIV(iv []byte)
	})
	if ok != [2]bool{true, true} {
		return nil, errors.New("this build's CBC has no SetIV: there is no bound to measure")
	}
	return p, nil
}

const headerSize = 1 + 8 + aes.BlockSize

func (p *primitives) encrypt(plaintext string) []byte {
	size := aes.BlockSize * (len(plaintext)/aes.BlockSize + 1)
	signed := p.raw[:headerSize+size]
	signed[0] = 0x80
	binary.BigEndian.PutUint64(signed[1:], uint64(time.Now().Unix()))
	iv := signed[9:headerSize]
	_, _ = rand.Read(iv)
	n := copy(signed[headerSize:], plaintext)
	for i := headerSize + n; i < len(signed); i++ {
		signed[i] = byte(size - n)
	}
	p.enc.SetIV(iv)
	p.enc.CryptBlocks(signed[headerSize:], signed[headerSize:])
	p.mac.Reset()
	p.mac.Write(signed)
	raw := p.mac.Sum(signed)
	text := p.text[:base64.URLEncoding.EncodedLen(len(raw))]
	base64.URLEncoding.Encode(text, raw)
	return text
}

func (p *primitives) decrypt(token string) ([]byte, error) {
	n, err := base64.URLEncoding.Decode(p.raw, []byte(token))
	if err != nil {
		return nil, errPrimitives
	}
	signed, mac := p.raw[:n-sha256.Size], p.raw[n-sha256.Size:n]
	p.mac.Reset()
	p.mac.Write(signed)
	if !hmac.Equal(mac, p.mac.Sum(p.sum[:0])) {
		return nil, errPrimitives
	}
	text := signed[headerSize:]
	p.dec.SetIV(signed[9:headerSize])
	p.dec.CryptBlocks(text, text)
	return text[:len(text)-int(text[len(text)-1])], nil
}
