package keyring_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/keyring"
)

// scripted is a source controlled by the test.
type scripted struct {
	sync.Mutex
	texts []string
	err   error
	hang  bool
	loads int
}

func (s *scripted) load(ctx context.Context) (*keyring.Keyring, error) {
	s.Lock()
	s.loads++
	texts, err, hang := s.texts, s.err, s.hang
	s.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err != nil || len(texts) == 0 {
		return nil, err
	}
	return keyring.New(texts[0], texts[1:]...)
}

// next sets the result of later loads, and returns the number of loads so far.
func (s *scripted) next(texts []string, err error, hang bool) (loads int) {
	s.Lock()
	defer s.Unlock()
	s.texts, s.err, s.hang = texts, err, hang
	return s.loads
}

func idsOf(t *testing.T, texts ...string) []string {
	t.Helper()
	ring, err := keyring.New(texts[0], texts[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, key := range ring.Keys() {
		ids = append(ids, key.ID())
	}
	return ids
}

func TestWatchKeyring(t *testing.T) {
	t.Parallel()
	oldKey, newKey, otherKey := keyring.GenerateKey(), keyring.GenerateKey(), keyring.GenerateKey()
	down := errors.New("the source is down")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		source := &scripted{texts: []string{oldKey}}
		all := make(chan keyring.Event, 100)
		ring, err := keyring.Watch(ctx, source.load, keyring.WatchConfig{
			Interval: 10 * time.Second, Observe: func(e keyring.Event) { all <- e },
		})
		if err != nil {
			t.Fatal(err)
		}
		token, err := ring.Encrypt("text")
		if err != nil {
			t.Fatal(err)
		}
		current := []string{oldKey}
		for _, step := range []struct {
			name   string
			texts  []string
			err    error
			hang   bool
			event  bool
			want   error
			absent bool // the token's key is gone
		}{
			{name: "nothing new", texts: []string{oldKey}},
			{name: "a key to read", texts: []string{oldKey, newKey}, event: true},
			{name: "source fails", err: down, event: true, want: down},
			{
				name: "source hangs", texts: []string{oldKey, newKey}, hang: true, event: true,
				want: context.DeadlineExceeded,
			},
			{name: "source gives none", event: true, want: keyring.ErrNoKey},
			{name: "bad key", texts: []string{"short"}, event: true, want: keyring.ErrBadKey},
			{name: "without the primary", texts: []string{otherKey}, event: true, want: keyring.ErrPrimaryRemoved},
			{name: "the new primary", texts: []string{newKey, oldKey}, event: true},
			{name: "nothing new again", texts: []string{newKey, oldKey}},
			{name: "without the old one", texts: []string{newKey}, event: true, absent: true},
		} {
			before := idsOf(t, current...)
			loads := source.next(step.texts, step.err, step.hang)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if step.hang {
				source.next([]string{oldKey, newKey}, nil, false) // the hanging load continues
				time.Sleep(30 * time.Second)                      // the limit of one load
				synctest.Wait()
			}
			var events []keyring.Event
			for len(all) > 0 {
				events = append(events, <-all)
			}
			if source.next(step.texts, step.err, false) == loads {
				t.Errorf("%s: not loaded", step.name)
			}
			if step.event != (len(events) > 0) {
				t.Errorf("%s: events %v", step.name, events)
				continue
			}
			if step.want == nil {
				current = step.texts
			}
			if step.event {
				if e := events[0]; !errors.Is(e.Err, step.want) || cmp.Diff(before, e.Before) != "" ||
					cmp.Diff(idsOf(t, current...), e.After) != "" {
					t.Errorf("%s: %+v, want error %v", step.name, e, step.want)
				}
			}
			_, err := ring.Decrypt(token)
			if (err != nil) != step.absent {
				t.Errorf("%s: the first token: %v", step.name, err)
			}
		}
		cancel()
		synctest.Wait()
		loads := source.next(nil, down, false)
		time.Sleep(time.Hour)
		if source.next(nil, nil, false) != loads {
			t.Error("it loads after the end of its context")
		}
	})
}

func TestWatchKeyringAllowPrimaryRemoval(t *testing.T) {
	t.Parallel()
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		source := &scripted{texts: []string{oldKey}}
		ring, err := keyring.Watch(ctx, source.load, keyring.WatchConfig{AllowPrimaryRemoval: true})
		if err != nil {
			t.Fatal(err)
		}
		source.next([]string{newKey}, nil, false)
		time.Sleep(keyring.DefaultWatchInterval)
		synctest.Wait()
		if got, want := ring.Primary().ID(), idsOf(t, newKey)[0]; got != want {
			t.Errorf("primary key %s, want %s", got, want)
		}
	})
}

// The first load must return a keyring.
func TestWatchKeyringFirstLoad(t *testing.T) {
	t.Parallel()
	down := errors.New("the source is down")
	other, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		source *scripted
		ring   *keyring.Keyring
		want   error
	}{
		"fails":      {&scripted{err: down}, nil, down},
		"gives none": {&scripted{}, nil, keyring.ErrNoKey},
		"bad key":    {&scripted{texts: []string{"short"}}, nil, keyring.ErrBadKey},
		"another key than the keyring's": {
			&scripted{texts: []string{keyring.GenerateKey()}}, other,
			keyring.ErrPrimaryRemoved,
		},
		"for a keyring that holds no keys": {
			&scripted{texts: []string{keyring.GenerateKey()}}, new(keyring.Keyring),
			keyring.ErrNoKey,
		},
		"good, and a nil keyring to create": {&scripted{texts: []string{keyring.GenerateKey()}}, nil, nil},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		ring, err := keyring.Watch(ctx, test.source.load, keyring.WatchConfig{Keyring: test.ring})
		cancel()
		if !errors.Is(err, test.want) || (ring == nil) != (err != nil) {
			t.Errorf("%s: got %v, %v, want error %v", name, ring, err, test.want)
		}
	}
}

// A pipe without a writer doesn't keep EnvSource from ending with its context.
func TestEnvSourceEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ENCRYPTION_KEY", "")
	t.Setenv("ENCRYPTION_KEY_FILE", path)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if ring, err := keyring.EnvSource(ctx); !errors.Is(err, context.DeadlineExceeded) || ring != nil {
		t.Errorf("got %v, %v", ring, err)
	}
	// Lets the read end.
	pipe, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := pipe.Close(); err != nil {
		t.Error(err)
	}
}

// A keyring returned after the context has ended is ignored.
func TestWatchKeyringEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	old := keyring.GenerateKey()
	loading, loaded := make(chan bool), make(chan bool)
	first := true
	ring, err := keyring.Watch(ctx, func(context.Context) (*keyring.Keyring, error) {
		if first {
			first = false
			return keyring.New(old)
		}
		loading <- true
		<-loaded
		return keyring.New(keyring.GenerateKey(), old)
	}, keyring.WatchConfig{Interval: time.Millisecond, Observe: func(keyring.Event) { t.Error("observed") }})
	if err != nil {
		t.Fatal(err)
	}
	<-loading
	cancel()
	loaded <- true
	select {
	case <-loading:
		t.Error("loaded once more")
	case <-time.After(20 * time.Millisecond):
	}
	if n := len(ring.Keys()); n != 1 {
		t.Errorf("%d keys", n)
	}
}
