package keyring_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

func ids(r *keyring.Ring) []string {
	var all []string
	for _, key := range r.Keys() {
		all = append(all, key.ID())
	}
	return all
}

func TestReplace(t *testing.T) {
	t.Parallel()
	standardA := strings.NewReplacer("-", "+", "_", "/").Replace(keyA)
	for name, test := range map[string]struct {
		from, to []string
		changed  bool
		want     error
	}{
		"add a key to read":       {[]string{keyA}, []string{keyA, keyB}, true, nil},
		"make it the primary":     {[]string{keyA, keyB}, []string{keyB, keyA}, true, nil},
		"drop the earlier one":    {[]string{keyB, keyA}, []string{keyB}, true, nil},
		"the same":                {[]string{keyA, keyB}, []string{keyA, keyB}, false, nil},
		"the same, other letters": {[]string{keyA}, []string{standardA}, false, nil},
		"another order":           {[]string{keyA, keyB, keyC}, []string{keyA, keyC, keyB}, true, nil},
		"all at once":             {[]string{keyA}, []string{keyB, keyA}, true, nil},
		"another key":             {[]string{keyA}, []string{keyB}, false, keyring.ErrPrimaryRemoved},
		"drop the primary":        {[]string{keyA, keyB}, []string{keyB}, false, keyring.ErrPrimaryRemoved},
		"only its signing half":   {[]string{keyA}, []string{halves(t, keyA, keyB)}, false, keyring.ErrPrimaryRemoved},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, next := ring(t, test.from[0], test.from[1:]...), ring(t, test.to[0], test.to[1:]...)
			before, after := ids(r), ids(next)
			token := encrypt(t, r, "text")
			changed, err := r.Replace(next)
			if changed != test.changed || !errors.Is(err, test.want) {
				t.Fatalf("got %v, %v, want %v, %v", changed, err, test.changed, test.want)
			}
			if err != nil {
				if diff := cmp.Diff(before, ids(r)); diff != "" {
					t.Errorf("a refused Replace changed the keys: %s", diff)
				}
				if !strings.Contains(err.Error(), before[0]) || hasPart(err.Error(), keyA) ||
					hasPart(err.Error(), keyB) {
					t.Errorf("the error must have the key's ID and no key: %v", err)
				}
				changed, err := r.ReplaceRemovingPrimary(next)
				if !changed || err != nil {
					t.Errorf("ReplaceRemovingPrimary: %v, %v", changed, err)
				}
				if got, err := r.Decrypt(token); err == nil && got == "text" {
					t.Error("a removed key still opens its tokens")
				}
			} else if got, err := r.Decrypt(token); err != nil || got != "text" {
				t.Errorf("a stored token opens to %q, %v", got, err)
			}
			if diff := cmp.Diff(after, ids(r)); diff != "" {
				t.Errorf("keys: %s", diff)
			}
			if got, err := ring(t, test.to[0]).Decrypt(encrypt(t, r, "new")); err != nil || got != "new" {
				t.Errorf("under the new primary key, a new token opens to %q, %v", got, err)
			}
		})
	}
}

func TestReplaceWithoutKeys(t *testing.T) {
	t.Parallel()
	var none *keyring.Ring
	r := ring(t, keyA)
	for name, pair := range map[string][2]*keyring.Ring{
		"nil":       {none, r},
		"zero":      {new(keyring.Ring), r},
		"with nil":  {r, none},
		"with zero": {r, new(keyring.Ring)},
	} {
		for _, replace := range []func(*keyring.Ring) (bool, error){pair[0].Replace, pair[0].ReplaceRemovingPrimary} {
			if changed, err := replace(pair[1]); changed || !errors.Is(err, keyring.ErrNoKey) {
				t.Errorf("%s: got %v, %v, want ErrNoKey", name, changed, err)
			}
		}
	}
	if got := encrypt(t, r, "text"); got == "" || len(r.Keys()) != 1 {
		t.Error("the keyring was changed")
	}
}

// Replace copies another keyring's keys and doesn't follow it afterwards. Keys
// that stay are the same objects.
func TestReplaceCopies(t *testing.T) {
	t.Parallel()
	r, next := ring(t, keyA), ring(t, keyB, keyA)
	first := r.Primary()
	for _, step := range []struct{ ring, by *keyring.Ring }{{r, next}, {next, ring(t, keyC, keyB)}, {r, r}} {
		if _, err := step.ring.Replace(step.by); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(ids(ring(t, keyB, keyA)), ids(r)); diff != "" {
		t.Error(diff)
	}
	if r.Keys()[1] != first {
		t.Error("a key that stayed is another object")
	}
}

// TestReplaceUnderLoad rotates keys while other goroutines encrypt, decrypt and
// re-encrypt.
func TestReplaceUnderLoad(t *testing.T) {
	t.Parallel()
	primary := fernet.GenerateKey()
	r := ring(t, primary)
	var stop atomic.Bool
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop.Store(true)
	for worker := range 8 {
		kept := encrypt(t, r, "kept")
		var locator seal.Locator
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				text := fmt.Sprint(worker, n)
				token, err := r.Encrypt(text)
				if err != nil {
					t.Error(err)
					return
				}
				// If two rotations ended meanwhile, the token is lost, like one
				// in a row that was never re-encrypted.
				got, err := r.Decrypt(token)
				if err != nil && !errors.Is(err, fernet.ErrUnknownKey) || err == nil && got != text {
					t.Errorf("got %q, %v, want %q", got, err, text)
				}
				_ = r.Keys()
				_ = r.Primary()
				if _, _, _, err := locator.Reencrypt(r, seal.Place{}, token, seal.Keep); err != nil &&
					!errors.Is(err, fernet.ErrUnknownKey) {
					t.Error(err)
				}
				_, _ = r.Decrypt(kept)
			}
		})
	}
	for range 200 {
		next := fernet.GenerateKey()
		for _, step := range [][]string{{primary, next}, {next, primary}, {next}} {
			if changed, err := r.Replace(ring(t, step[0], step[1:]...)); !changed || err != nil {
				t.Fatal(changed, err)
			}
		}
		primary = next
	}
}

// If two goroutines replace at once, the second is still refused.
func TestReplaceConcurrently(t *testing.T) {
	t.Parallel()
	for range 200 {
		r := ring(t, keyA)
		var wg sync.WaitGroup
		for _, next := range []*keyring.Ring{ring(t, keyB, keyA), ring(t, keyC, keyA)} {
			wg.Go(func() { _, _ = r.Replace(next) })
		}
		wg.Wait()
		// The second keyring lacks the first one's primary key.
		if got := ids(r); len(got) != 2 || got[1] != ids(ring(t, keyA))[0] {
			t.Fatalf("got %v", got)
		}
	}
}
