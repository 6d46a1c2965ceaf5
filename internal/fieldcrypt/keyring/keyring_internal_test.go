package keyring

import (
	"errors"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

func newTestRing(t *testing.T, keys int) *Ring {
	t.Helper()
	texts := make([]string, keys)
	for i := range texts {
		texts[i] = fernet.GenerateKey()
	}
	ring, err := New(texts[0], texts[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// TestFittedKey checks that the result doesn't depend on which key is tried
// first, and that the key that opened a token is tried first next time.
func TestFittedKey(t *testing.T) {
	t.Parallel()
	ring := newTestRing(t, 4)
	foreign := fernet.Encrypt(newTestRing(t, 1).Primary(), "foreign")
	for writer, key := range ring.Keys() {
		token := fernet.Encrypt(key, "text")
		for first := range ring.Keys() {
			ring.state.Load().fitted.Store(int32(first))
			if got, err := ring.Decrypt(token); err != nil || got != "text" {
				t.Errorf("key %d, beginning with %d: got %q, %v", writer, first, got, err)
			}
			if got := int(ring.state.Load().fitted.Load()); got != writer {
				t.Errorf("key %d, beginning with %d: fitted is %d", writer, first, got)
			}
			ring.state.Load().fitted.Store(int32(first))
			if got, err := ring.AppendDecrypt(nil, token); err != nil || string(got) != "text" {
				t.Errorf("key %d, beginning with %d: appended %q, %v", writer, first, got, err)
			}
			if got := int(ring.state.Load().fitted.Load()); got != writer {
				t.Errorf("key %d, appended, beginning with %d: fitted is %d", writer, first, got)
			}
			ring.state.Load().fitted.Store(int32(first))
			if _, err := ring.Decrypt(foreign); !errors.Is(err, fernet.ErrUnknownKey) {
				t.Errorf("foreign token, beginning with %d: got %v, want ErrUnknownKey", first, err)
			}
			if got := int(ring.state.Load().fitted.Load()); got != first {
				t.Errorf("foreign token, beginning with %d: fitted is %d", first, got)
			}
		}
	}
}

// TestDerivedFit checks that a derived set starts with its parent's last key,
// and that FitLike passes the derived set's last key back.
func TestDerivedFit(t *testing.T) {
	t.Parallel()
	set, err := Load(newTestRing(t, 3))
	if err != nil {
		t.Fatal(err)
	}
	derive := func(k *fernet.Key) (*fernet.Key, error) { return fernet.Derive(k, "test") }
	set.fitted.Store(1)
	derived, err := set.Derive(derive)
	if err != nil || derived.fitted.Load() != 1 || len(derived.Keys()) != 3 {
		t.Fatalf("got %d keys, fitted %d, %v", len(derived.Keys()), derived.fitted.Load(), err)
	}
	if _, err := derived.Decrypt(fernet.Encrypt(derived.Keys()[2], "text")); err != nil {
		t.Fatal(err)
	}
	set.FitLike(derived)
	if got := set.fitted.Load(); got != 2 {
		t.Errorf("fitted is %d", got)
	}
	failing := errors.New("no")
	if _, err := set.Derive(func(*fernet.Key) (*fernet.Key, error) { return nil, failing }); !errors.Is(err, failing) {
		t.Errorf("got %v", err)
	}
	more := set.Prepend(derived.Keys()[0])
	if len(more.Keys()) != 4 || more.Keys()[0] != derived.Keys()[0] || len(set.Keys()) != 3 {
		t.Error("Prepend doesn't put the key first, or changes the set")
	}
}
