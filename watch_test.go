package credent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/open/sqlite"
)

// scripted is a source whose loads the test decides.
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

// next decides the loads from now on, and returns how many there were.
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
			absent bool // the key of the token is gone
		}{
			{name: "nothing new", texts: []string{oldKey}},
			{name: "a key to read", texts: []string{oldKey, newKey}, event: true},
			{name: "source fails", err: down, event: true, want: down},
			{name: "source hangs", texts: []string{oldKey, newKey}, hang: true, event: true, want: context.DeadlineExceeded},
			{name: "source gives none", event: true, want: credent.ErrNoKey},
			{name: "bad key", texts: []string{"short"}, event: true, want: credent.ErrBadKey},
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
				source.next([]string{oldKey, newKey}, nil, false) // the load that hangs goes on
				time.Sleep(30 * time.Second)                      // the bound of one load
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

func TestWatchKeyringLosePrimary(t *testing.T) {
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

// The first load decides whether there is a keyring at all.
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
		"fails":                             {&scripted{err: down}, nil, down},
		"gives none":                        {&scripted{}, nil, credent.ErrNoKey},
		"bad key":                           {&scripted{texts: []string{"short"}}, nil, credent.ErrBadKey},
		"another key than the keyring's":    {&scripted{texts: []string{keyring.GenerateKey()}}, other, keyring.ErrPrimaryRemoved},
		"for a keyring that holds no keys":  {&scripted{texts: []string{keyring.GenerateKey()}}, new(keyring.Keyring), credent.ErrNoKey},
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

// TestDefaultKeyringReloads rewrites the file of the process's keyring: clients
// without one of their own follow.
func TestDefaultKeyringReloads(t *testing.T) {
	oldKey, newKey := keyring.GenerateKey(), keyring.GenerateKey()
	path := filepath.Join(t.TempDir(), "keys")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, oldKey)
	for _, name := range []string{"ENCRYPTION_KEY", "ENCRYPTION_KEY_PREVIOUS", "ENCRYPTION_KEY_PREVIOUS_FILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("ENCRYPTION_KEY_FILE", path)
	ring, err := keyring.Default()
	if err != nil {
		t.Fatal(err)
	}
	// Examples may have made it before, from the environment: the test is about
	// how it changes.
	if _, err := ring.ReplaceRemovingPrimary(mustRing(t, oldKey)); err != nil {
		t.Fatal(err)
	}
	client, err := credent.Open(t.Context(), "sqlite::memory:", credent.WithMigrations(),
		credent.WithDriver(sqlite.Driver()))
	if err != nil {
		t.Fatal(err)
	}
	defer closeClient(client)
	store(client)
	events := make(chan keyring.Event, 100)
	watched, err := keyring.Watch(t.Context(), keyring.EnvSource, keyring.WatchConfig{
		Interval: time.Millisecond, Keyring: ring, Observe: func(e keyring.Event) { events <- e },
	})
	if err != nil || watched != ring {
		t.Fatalf("got %v, %v", watched, err)
	}
	before := client.UserCredential.Query().OnlyX(t.Context())

	previous := filepath.Join(t.TempDir(), "previous")
	write(previous, oldKey)
	write(path+".new", newKey)
	t.Setenv("ENCRYPTION_KEY_PREVIOUS_FILE", previous) // in the tests' process only; then it holds the key twice for a moment
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	for e := range events {
		if e.Err == nil {
			break
		}
		if !errors.Is(e.Err, credent.ErrBadKey) || strings.Contains(e.Err.Error(), oldKey[:8]) {
			t.Fatal(e.Err)
		}
	}
	for name, secret := range map[string]credent.Secret{
		"read before": before.APIKey, "read after": client.UserCredential.Query().OnlyX(t.Context()).APIKey,
	} {
		if got, err := secret.Reveal(); err != nil || got != "PK-MADE-UP" {
			t.Errorf("%s: revealed %q, %v", name, got, err)
		}
	}
	if got, want := ring.Primary().ID(), idsOf(t, newKey)[0]; got != want {
		t.Errorf("primary key %s, want %s", got, want)
	}
}

func mustRing(t *testing.T, primary string, previous ...string) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.New(primary, previous...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// A pipe that nobody writes to does not keep EnvSource from ending with its
// context.
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
	// Lets the reading end.
	pipe, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := pipe.Close(); err != nil {
		t.Error(err)
	}
}

// What a source gives after the context has ended is not taken.
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
