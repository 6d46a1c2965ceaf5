package fernet_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	fernetgo "github.com/fernet/fernet-go"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

// refused fails the test unless decrypting a value returns ErrCorrupt, or
// ErrNotEncrypted if it lacks the prefix.
func refused(t *testing.T, r keys, what, token string) {
	t.Helper()
	plaintext, err := r.Decrypt(token)
	if err == nil || plaintext != "" {
		t.Errorf("%s: got %q, %v, want an error", what, plaintext, err)
	}
	if want := strings.HasPrefix(token, "gAAAA"); errors.Is(err, fernet.ErrCorrupt) != want ||
		errors.Is(err, fernet.ErrNotEncrypted) == want {
		t.Errorf("%s: got %v", what, err)
	}
}

// TestTampering makes single edits of every kind at each position of a token.
func TestTampering(t *testing.T) {
	t.Parallel()
	r := ring(t, fernet.GenerateKey())
	// The lengths give tokens with no, one and two padding characters.
	for _, text := range []string{"", strings.Repeat("x", 24), strings.Repeat("x", 40)} {
		token := seal(t, r, text)
		for i := range token {
			for bit := range 8 {
				flipped := []byte(token)
				flipped[i] ^= 1 << bit
				refused(t, r, fmt.Sprintf("bit %d of character %d flipped", bit, i), string(flipped))
			}
			refused(t, r, fmt.Sprintf("truncated to %d", i), token[:i])
			refused(t, r, fmt.Sprintf("without the first %d", i+1), token[i+1:])
			refused(t, r, fmt.Sprintf("without character %d", i), token[:i]+token[i+1:])
			refused(t, r, fmt.Sprintf("without bytes from %d", i), token[:i]+token[min(i+4, len(token)):])
		}
		for i := range len(token) + 1 {
			for _, insert := range []string{
				"A", "=", "==", "AAAA", "\n", "\r", "\r\n", "\n\n\n\n", " ", "\t", "\x00", "!", "-", "+",
				"/", "é", token,
			} {
				refused(t, r, fmt.Sprintf("%q inserted at %d", insert, i), token[:i]+insert+token[i:])
			}
		}
		raw := decodeToken(t, token)
		for i := range raw {
			for bit := range 8 {
				flipped := bytes.Clone(raw)
				flipped[i] ^= 1 << bit
				refused(t, r, fmt.Sprintf("bit %d of byte %d flipped", bit, i),
					base64.URLEncoding.EncodeToString(flipped))
			}
			refused(t, r, fmt.Sprintf("%d bytes", i), base64.URLEncoding.EncodeToString(raw[:i]))
			refused(t, r, fmt.Sprintf("%d bytes more", i+1),
				base64.URLEncoding.EncodeToString(append(bytes.Clone(raw), raw[:i+1]...)))
		}
	}
}

func TestNotCanonical(t *testing.T) {
	t.Parallel()
	r := ring(t, fernet.GenerateKey())
	standard := func(token string) string { return strings.NewReplacer("-", "+", "_", "/").Replace(token) }
	token := seal(t, r, strings.Repeat("x", 24)) // 89 bytes: one character of padding, two spare bits
	for standard(token) == token {
		token = seal(t, r, strings.Repeat("x", 24))
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	bare := strings.TrimRight(token, "=")
	last := strings.IndexByte(alphabet, bare[len(bare)-1])
	for name, value := range map[string]string{
		"standard alphabet": standard(token),
		"without padding":   bare,
		"more padding":      token + "=",
		"spare bits set":    bare[:len(bare)-1] + alphabet[last+1:last+2] + strings.Repeat("=", len(token)-len(bare)),
		"doubled":           token + token,
		"leading space":     " " + token,
		"trailing newline":  token + "\n",
		"trailing SQL":      token + "; DROP TABLE x",
		"URL-escaped":       strings.ReplaceAll(token, "=", "%3D"),
		"JSON string":       `"` + token + `"`,
		"bytea text":        fmt.Sprintf(`\x%x`, token),
		"upper case":        strings.ToUpper(token),
		"empty":             "",
		"plaintext":         "PKA1B2C3D4E5F6G7H8I9",
		"prefix":            "gAAAA",
		"long prefix":       "gAAAA" + strings.Repeat("A", 1<<16),
		"redaction marker":  redacted,
	} {
		refused(t, r, name, value)
	}
}

func decodeToken(tb testing.TB, token string) []byte {
	tb.Helper()
	raw, err := base64.URLEncoding.Strict().DecodeString(token)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// signedToken signs any body, as a faulty writer with the key could.
func signedToken(tb testing.TB, keyText string, body []byte) string {
	tb.Helper()
	key, err := fernetgo.DecodeKey(keyText)
	if err != nil {
		tb.Fatal(err)
	}
	mac := hmac.New(sha256.New, key[:16])
	mac.Write(body)
	return base64.URLEncoding.EncodeToString(mac.Sum(bytes.Clone(body)))
}

// signedBlocks encrypts whole blocks, with their padding, and signs the token.
func signedBlocks(tb testing.TB, keyText string, blocks []byte) string {
	tb.Helper()
	key, err := fernetgo.DecodeKey(keyText)
	if err != nil {
		tb.Fatal(err)
	}
	block, err := aes.NewCipher(key[16:])
	if err != nil {
		tb.Fatal(err)
	}
	body := append([]byte{0x80}, make([]byte, 8+16)...)
	ciphertext := make([]byte, len(blocks))
	cipher.NewCBCEncrypter(block, body[9:25]).CryptBlocks(ciphertext, blocks)
	return signedToken(tb, keyText, append(body, ciphertext...))
}

// TestSignedMalformed decrypts malformed tokens with a valid signature. Some of
// them make other implementations panic.
func TestSignedMalformed(t *testing.T) {
	t.Parallel()
	key := fernet.GenerateKey()
	r := ring(t, key)
	header := append([]byte{0x80}, make([]byte, 8+16)...)
	padded := func(size int, padding ...byte) []byte {
		blocks := bytes.Repeat([]byte("x"), size)
		copy(blocks[size-len(padding):], padding)
		return blocks
	}
	for name, token := range map[string]string{
		"nothing":             signedToken(t, key, []byte{0x80, 0, 0, 0}),
		"no IV":               signedToken(t, key, header[:9]),
		"IV of 8 bytes":       signedToken(t, key, header[:17]),
		"no ciphertext":       signedToken(t, key, header),
		"ciphertext of 1":     signedToken(t, key, append(bytes.Clone(header), 1)),
		"ciphertext of 15":    signedToken(t, key, append(bytes.Clone(header), make([]byte, 15)...)),
		"ciphertext of 17":    signedToken(t, key, append(bytes.Clone(header), make([]byte, 17)...)),
		"ciphertext of 31":    signedToken(t, key, append(bytes.Clone(header), make([]byte, 31)...)),
		"padding 0":           signedBlocks(t, key, padded(32, 0)),
		"padding 17":          signedBlocks(t, key, bytes.Repeat([]byte{17}, 32)),
		"padding 32":          signedBlocks(t, key, bytes.Repeat([]byte{32}, 32)),
		"padding 255":         signedBlocks(t, key, padded(16, 255)),
		"padding beyond":      signedBlocks(t, key, bytes.Repeat([]byte{17}, 16)),
		"padding 2, 1 right":  signedBlocks(t, key, padded(16, 2)),
		"padding 16, 1 wrong": signedBlocks(t, key, append(make([]byte, 1), bytes.Repeat([]byte{16}, 15)...)),
		"padding 3, 1 wrong":  signedBlocks(t, key, padded(16, 3, 2, 3)),
	} {
		got, err := r.Decrypt(token)
		if got != "" || !errors.Is(err, fernet.ErrCorrupt) || errors.Is(err, fernet.ErrUnknownKey) {
			t.Errorf("%s: got %q, %v, want ErrCorrupt", name, got, err)
		}
	}
	// The builders are correct: with the right padding, the same token opens.
	for pad := 1; pad <= 16; pad++ {
		token := signedBlocks(t, key, padded(16, bytes.Repeat([]byte{byte(pad)}, pad)...))
		if got, err := r.Decrypt(token); err != nil || got != strings.Repeat("x", 16-pad) {
			t.Errorf("padding %d: got %q, %v", pad, got, err)
		}
	}
	// The prefix excludes other versions and distant times, even if signed.
	for name, first := range map[string][]byte{"version 0x81": {0x81}, "time of 2^63": {0x80, 0x80}} {
		body := append(bytes.Clone(first), make([]byte, 25-len(first)+16)...)
		if _, err := r.Decrypt(signedToken(t, key, body)); !errors.Is(err, fernet.ErrNotEncrypted) {
			t.Errorf("%s: got %v, want ErrNotEncrypted", name, err)
		}
	}
}
