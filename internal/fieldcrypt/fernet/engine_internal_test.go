package fernet

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// TestGenerateVectors makes the Fernet spec's tokens, with its IVs and times.
func TestGenerateVectors(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/generate.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Token, Src, Secret string
		Now                time.Time
		IV                 []int
	}
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range vectors {
		key, err := ParseKey(v.Secret)
		if err != nil {
			t.Fatal(err)
		}
		iv := make([]byte, 0, blockSize)
		for _, b := range v.IV {
			iv = append(iv, byte(b))
		}
		raw := make([]byte, rawLen(len(v.Src)))
		e := key.engine()
		w := e.take(0)
		w.seal(raw, v.Src, iv, uint64(v.Now.Unix()))
		e.giveBack(w)
		if got := tokenEncoding.EncodeToString(raw); got != v.Token {
			t.Errorf("token of %q: got %s, want %s", v.Src, got, v.Token)
		}
	}
}

func newTestKey(t *testing.T) *Key {
	t.Helper()
	key, err := ParseKey(GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestFittedKey checks that the result doesn't depend on which key is tried
// first, and that the index of the key that fits is returned.
func TestFittedKey(t *testing.T) {
	t.Parallel()
	keys := []*Key{newTestKey(t), newTestKey(t), newTestKey(t), newTestKey(t)}
	foreign := Encrypt(newTestKey(t), "foreign")
	for writer, key := range keys {
		token := Encrypt(key, "text")
		for first := range keys {
			if got, index, err := Decrypt(keys, first, token); err != nil || got != "text" || index != writer {
				t.Errorf("key %d, beginning with %d: got %q of key %d, %v", writer, first, got, index, err)
			}
			if got, index, err := AppendDecrypt(nil, keys, first, token); err != nil || string(got) != "text" ||
				index != writer {
				t.Errorf("key %d, beginning with %d: appended %q of key %d, %v", writer, first, got, index, err)
			}
			if got, _, err := Decrypt(keys, first, foreign); got != "" || !errors.Is(err, ErrUnknownKey) {
				t.Errorf("foreign token, beginning with %d: got %q, %v, want ErrUnknownKey", first, got, err)
			}
		}
	}
}

// plainMode hides methods that aren't in the interface.
type plainMode struct{ cipher.BlockMode }

// TestModesWithoutSetIV covers libraries with CBC modes that lack SetIV.
func TestModesWithoutSetIV(t *testing.T) {
	t.Parallel()
	fast := newTestKey(t)
	key := fast.fernet()
	e, err := newEngine(*key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key[signingSize:])
	if err != nil {
		t.Fatal(err)
	}
	plain := func(fresh func(cipher.Block, []byte) cipher.BlockMode) ivMode {
		return newMode(block, func(block cipher.Block,
			iv []byte,
		) cipher.BlockMode {
			return plainMode{fresh(block, iv)}
		})
	}
	newWorker := e.workers.New
	e.workers.New = func() any {
		w := newWorker().(*worker)
		w.enc, w.dec = plain(cipher.NewCBCEncrypter), plain(cipher.NewCBCDecrypter)
		return w
	}
	slow := &Key{engine: func() *engine { return e }}
	for _, text := range []string{"", "short", strings.Repeat("long ", 100)} {
		for range 3 { // a mode that kept its chain would fail the second time
			if got, _, err := Decrypt([]*Key{fast}, 0, Encrypt(slow, text)); err != nil || got != text {
				t.Errorf("encrypt: got %q, %v, want %q", got, err, text)
			}
			if got, _, err := Decrypt([]*Key{slow}, 0, Encrypt(fast, text)); err != nil || got != text {
				t.Errorf("decrypt: got %q, %v, want %q", got, err, text)
			}
		}
	}
}

// TestModesHaveSetIV fails if the standard library's modes lose the method, so
// that each token costs a key schedule.
func TestModesHaveSetIV(t *testing.T) {
	t.Parallel()
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []ivMode{newMode(block, cipher.NewCBCEncrypter), newMode(block, cipher.NewCBCDecrypter)} {
		if slow, ok := mode.(*renewedMode); ok {
			t.Errorf("%T has no SetIV", slow.BlockMode)
		}
	}
}

func TestScratchIsCleared(t *testing.T) {
	t.Parallel()
	e := newTestKey(t).engine()
	w := e.take(1000)
	copy(w.scratch.buf, "plaintext")
	buf := w.scratch.buf
	e.giveBack(w)
	if len(buf) != 1000 || !bytes.Equal(buf, make([]byte, len(buf))) {
		t.Error("a returned buffer wasn't cleared")
	}
}

// TestWorkersKeepNothing looks for plaintext in buffers that are kept for the
// next operation.
func TestWorkersKeepNothing(t *testing.T) {
	t.Parallel()
	key := newTestKey(t)
	e := key.engine()
	var used []*worker
	newWorker := e.workers.New
	e.workers.New = func() any {
		w := newWorker().(*worker)
		used = append(used, w)
		return w
	}
	token := Encrypt(key, strings.Repeat("plaintext ", 20))
	if _, _, err := Decrypt([]*Key{key}, 0, token); err != nil {
		t.Fatal(err)
	}
	if len(used) == 0 {
		t.Fatal("no worker was used")
	}
	for _, w := range used {
		if buf := w.scratch.buf[:cap(w.scratch.buf)]; bytes.Contains(buf, []byte("plain")) {
			t.Error("a worker's buffer contains plaintext")
		}
	}
}

// TestOpenLeavesForeignTokens checks that open leaves a token under another key
// unchanged, since all keys of a keyring are tried on one buffer.
func TestOpenLeavesForeignTokens(t *testing.T) {
	t.Parallel()
	raw, err := tokenEncoding.DecodeString(Encrypt(newTestKey(t), "text"))
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(raw)
	if _, err := newTestKey(t).engine().take(0).open(raw); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("got %v, want ErrUnknownKey", err)
	}
	if !bytes.Equal(raw, before) {
		t.Error("the token was changed")
	}
}
