package keyring_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	fernetgo "github.com/fernet/fernet-go"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

const (
	keyA = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=" // from the Fernet spec's vectors
	keyB = "3vYpT7mQx0bL2nKcR9sWfZ1gHjUe5aDq8iOy4MtXk6E="
	keyC = "Q0kq9xF2uZ7bW1nTy5cV8mRj3pLs6hGd4aKe0iXoUwA="
)

// ring makes a keyring, or fails the test.
func ring(tb testing.TB, primary string, previous ...string) *keyring.Ring {
	tb.Helper()
	r, err := keyring.New(primary, previous...)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// encrypt encrypts, or fails the test.
func encrypt(tb testing.TB, r *keyring.Ring, plaintext string) string {
	tb.Helper()
	token, err := r.Encrypt(plaintext)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// halves returns a key with one key's signing half and another's encryption
// half.
func halves(t *testing.T, signing, encryption string) string {
	t.Helper()
	keys, err := fernetgo.DecodeKeys(signing, encryption)
	if err != nil {
		t.Fatal(err)
	}
	mixed := *keys[0]
	copy(mixed[16:], keys[1][16:])
	return mixed.Encode()
}

// hasPart reports whether a message quotes any 6 characters of a text.
func hasPart(message, text string) bool {
	for i := 0; i+6 <= len(text); i++ {
		if strings.Contains(message, text[i:i+6]) {
			return true
		}
	}
	return false
}

func TestNewKeyring(t *testing.T) {
	t.Parallel()
	standardA := strings.NewReplacer("-", "+", "_", "/").Replace(keyA)
	for name, test := range map[string]struct {
		primary  string
		previous []string
		want     error
		says     string
	}{
		"one key":                  {keyA, nil, nil, ""},
		"three keys":               {keyA, []string{keyB, keyC}, nil, ""},
		"shared encryption half":   {keyA, []string{halves(t, keyB, keyA)}, nil, ""},
		"no key":                   {"", nil, keyring.ErrNoKey, "key 1 of 1"},
		"no primary key":           {"", []string{keyA}, keyring.ErrNoKey, "key 1 of 2"},
		"empty previous key":       {keyA, []string{keyB, ""}, fernet.ErrBadKey, "key 3 of 3"},
		"bad previous key":         {keyA, []string{keyB[:40]}, fernet.ErrBadKey, "key 2 of 2"},
		"duplicate":                {keyA, []string{keyB, keyA}, fernet.ErrBadKey, "key 3 of 3"},
		"duplicate, other letters": {keyA, []string{standardA}, fernet.ErrBadKey, "same as key 1"},
		"shared signing half":      {keyA, []string{keyB, halves(t, keyB, keyC)}, fernet.ErrBadKey, "half of key 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := keyring.New(test.primary, test.previous...)
			if !errors.Is(err, test.want) || (r == nil) != (err != nil) {
				t.Fatalf("got %v, %v, want error %v", r, err, test.want)
			}
			if err == nil {
				return
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error does not say %q: %v", test.says, err)
			}
			for _, text := range append(test.previous, test.primary) {
				if hasPart(err.Error(), text) {
					t.Errorf("the error quotes a key: %v", err)
				}
			}
		})
	}
}

func TestKeyringOrder(t *testing.T) {
	t.Parallel()
	r := ring(t, keyA, keyB, halves(t, keyC, keyA))
	if got, want := r.Primary().ID(), ring(t, keyA).Primary().ID(); got != want {
		t.Errorf("primary key: got %s, want %s", got, want)
	}
	keys := r.Keys()
	if len(keys) != 3 || keys[0] != r.Primary() {
		t.Errorf("got %d keys, the first %v", len(keys), keys[0].ID())
	}
	keys[0] = keys[1]
	if r.Primary() == keys[1] {
		t.Error("the slice of Keys is the keyring's own")
	}
	if _, err := ring(t, keyB).Decrypt(encrypt(t, r, "text")); !errors.Is(err, fernet.ErrUnknownKey) {
		t.Errorf("an earlier key encrypts: %v", err)
	}
	for _, writer := range []string{keyA, keyB, halves(t, keyC, keyA)} {
		if got, err := r.Decrypt(encrypt(t, ring(t, writer), "text")); err != nil || got != "text" {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// TestAppendRefuses checks that the append forms leave the caller's buffer
// unchanged when they fail.
func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	token := encrypt(t, ring(t, fernet.GenerateKey()), "text")
	var none *keyring.Ring
	if got, err := none.AppendEncrypt([]byte("before"), "text"); string(got) != "before" ||
		!errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("encrypt without a key: got %q, %v", got, err)
	}
	if got, err := none.AppendDecrypt([]byte("before"), token); string(got) != "before" ||
		!errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("decrypt without a key: got %q, %v", got, err)
	}
	other := ring(t, fernet.GenerateKey())
	if got, err := other.AppendDecrypt([]byte("before"), token); string(got) != "before" ||
		!errors.Is(err, fernet.ErrUnknownKey) {
		t.Errorf("decrypt with another key: got %q, %v", got, err)
	}
}

func TestNoKeyring(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*keyring.Ring{"nil": nil, "zero": {}} {
		if got, err := r.Encrypt("text"); got != "" || !errors.Is(err, keyring.ErrNoKey) {
			t.Errorf("%s: encrypt: got %q, %v, want ErrNoKey", name, got, err)
		}
		if got, err := r.Decrypt("gAAAA"); got != "" || !errors.Is(err, keyring.ErrNoKey) {
			t.Errorf("%s: decrypt: got %q, %v, want ErrNoKey", name, got, err)
		}
	}
}

// TestConcurrentUse lets the race detector find races, and finds buffers that
// two operations share.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	keys := []string{fernet.GenerateKey(), fernet.GenerateKey(), fernet.GenerateKey()}
	r := ring(t, keys[0], keys[1:]...)
	tokens := make([]string, len(keys))
	for i, key := range keys {
		tokens[i] = encrypt(t, ring(t, key), fmt.Sprint("text ", i))
	}
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := range 100 {
				plaintext := strings.Repeat(fmt.Sprint(worker), i)
				token, err := r.Encrypt(plaintext)
				if err != nil {
					t.Error(err)
				}
				if got, err := r.Decrypt(token); err != nil || got != plaintext {
					t.Errorf("got %q, %v, want %q", got, err, plaintext)
				}
				n := (worker + i) % len(keys)
				if got, err := r.Decrypt(tokens[n]); err != nil || got != fmt.Sprint("text ", n) {
					t.Errorf("key %d: got %q, %v", n, got, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestOf(t *testing.T) {
	t.Parallel()
	if keyring.Of() != nil || (*keyring.Ring)(nil).Primary() != nil || (*keyring.Ring)(nil).Keys() != nil {
		t.Error("no keys make a keyring")
	}
	r := ring(t, keyA)
	if keyring.With(r, nil) != r {
		t.Error("With a nil key makes another keyring")
	}
	more := keyring.With(r, ring(t, keyB).Primary())
	if got, err := more.Decrypt(encrypt(t, ring(t, keyB), "text")); err != nil || got != "text" || len(r.Keys()) != 1 {
		t.Errorf("got %q, %v, and the first keyring has %d keys", got, err, len(r.Keys()))
	}
	if got, err := ring(t, keyA).Decrypt(encrypt(t, more, "text")); err != nil || got != "text" {
		t.Errorf("the added key encrypts: %q, %v", got, err)
	}
}
