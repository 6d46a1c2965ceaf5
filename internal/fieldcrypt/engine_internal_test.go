package fieldcrypt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestGenerateVectors makes the tokens of the specification, with its IVs and times.
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
		key.engine().seal(raw, v.Src, iv, uint64(v.Now.Unix()))
		if got := tokenEncoding.EncodeToString(raw); got != v.Token {
			t.Errorf("token of %q: got %s, want %s", v.Src, got, v.Token)
		}
	}
}

func newTestRing(t *testing.T, keys int) *Keyring {
	t.Helper()
	texts := make([]string, keys)
	for i := range texts {
		texts[i] = GenerateKey()
	}
	ring, err := NewKeyring(texts[0], texts[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// TestFittedKey shows that the result does not depend on the key that is tried first, and that the key that fits is
// tried first the next time.
func TestFittedKey(t *testing.T) {
	t.Parallel()
	ring := newTestRing(t, 4)
	foreign := encrypt(newTestRing(t, 1).Primary(), "foreign")
	for writer, key := range ring.Keys() {
		token := encrypt(key, "text")
		for first := range ring.Keys() {
			ring.state.Load().fitted.Store(int32(first))
			if got, err := ring.Decrypt(token); err != nil || got != "text" {
				t.Errorf("key %d, beginning with %d: got %q, %v", writer, first, got, err)
			}
			if got := int(ring.state.Load().fitted.Load()); got != writer {
				t.Errorf("key %d, beginning with %d: fitted is %d", writer, first, got)
			}
			ring.state.Load().fitted.Store(int32(first))
			if _, err := ring.Decrypt(foreign); !errors.Is(err, ErrUnknownKey) {
				t.Errorf("foreign token, beginning with %d: got %v, want ErrUnknownKey", first, err)
			}
			if got := int(ring.state.Load().fitted.Load()); got != first {
				t.Errorf("foreign token, beginning with %d: fitted is %d", first, got)
			}
		}
	}
}

// plainMode hides all but the methods of the interface.
type plainMode struct{ cipher.BlockMode }

// TestModesWithoutSetIV covers libraries whose CBC modes have no SetIV method.
func TestModesWithoutSetIV(t *testing.T) {
	t.Parallel()
	ring := newTestRing(t, 1)
	key := ring.Primary().fernet()
	e, err := newEngine(*key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key[signingSize:])
	if err != nil {
		t.Fatal(err)
	}
	plain := func(fresh func(cipher.Block, []byte) cipher.BlockMode) ivMode {
		return newMode(block, func(block cipher.Block, iv []byte) cipher.BlockMode { return plainMode{fresh(block, iv)} })
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
			if got, err := ring.Decrypt(encrypt(slow, text)); err != nil || got != text {
				t.Errorf("encrypt: got %q, %v, want %q", got, err, text)
			}
			got, err := decrypt(&keys{list: []*Key{slow}}, encrypt(ring.Primary(), text))
			if err != nil || got != text {
				t.Errorf("decrypt: got %q, %v, want %q", got, err, text)
			}
		}
	}
}

// TestModesHaveSetIV fails when the standard library's modes lose the method, and each token costs a key schedule.
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
	s := newScratch(1000)
	copy(s.buf, "plaintext")
	buf := s.buf
	s.release()
	if !bytes.Equal(buf, make([]byte, len(buf))) {
		t.Error("a released buffer still has its contents")
	}
}

// TestOpenLeavesForeignTokens matters because all keys of a keyring are tried on one buffer.
func TestOpenLeavesForeignTokens(t *testing.T) {
	t.Parallel()
	raw, err := tokenEncoding.DecodeString(encrypt(newTestRing(t, 1).Primary(), "text"))
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(raw)
	if _, err := newTestRing(t, 1).Primary().engine().open(raw); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("got %v, want ErrUnknownKey", err)
	}
	if !bytes.Equal(raw, before) {
		t.Error("the token was changed")
	}
}

// TestDigestsLeaveNothing has no plaintext in what is kept for the next digest, neither in the buffer nor in the hash.
func TestDigestsLeaveNothing(t *testing.T) {
	t.Parallel()
	d, err := newTestRing(t, 1).Primary().digester(ColumnInfo{Table: "t", Name: "c"})
	if err != nil {
		t.Fatal(err)
	}
	w := d.workers.New().(*digestWorker)
	d.workers.New = func() any { return w }
	const text = "a text of more than the 64 bytes of a block, of which the last is one that is not full: plaintext"
	w.mac.Write([]byte(text))
	if !holds(reflect.ValueOf(w), "plaintext") {
		t.Fatal("nothing of a hash at work can be seen")
	}
	w.mac.Reset()
	first := d.sum(text)
	if holds(reflect.ValueOf(w), "plaintext") {
		t.Error("a part of the plaintext is kept")
	}
	if again := d.sum(text); !bytes.Equal(first, again) {
		t.Error("the second digest is another")
	}
}

// holds reports whether a text is in the memory that a value leads to.
func holds(v reflect.Value, text string) bool {
	kind := v.Kind()
	if kind == reflect.Pointer || kind == reflect.Interface {
		return !v.IsNil() && holds(v.Elem(), text)
	}
	if kind == reflect.Struct {
		for i := range v.NumField() {
			if holds(v.Field(i), text) {
				return true
			}
		}
		return false
	}
	if kind == reflect.Slice {
		v = v.Slice(0, v.Cap())
	}
	if kind != reflect.Slice && kind != reflect.Array || v.Type().Elem().Kind() != reflect.Uint8 {
		return false
	}
	held := make([]byte, v.Len())
	for i := range held {
		held[i] = byte(v.Index(i).Uint())
	}
	return bytes.Contains(held, []byte(text))
}
