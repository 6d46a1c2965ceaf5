package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/credent-go/credent/keyring"
)

// lockedLog collects log output until it is taken.
type lockedLog struct {
	sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(line []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.text.Write(line)
}

func (l *lockedLog) take() string {
	l.Lock()
	defer l.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// TestWatchKeyringLogsOnce breaks a key file in several ways, each for many
// intervals: each failure and each recovery is logged once.
func TestWatchKeyringLogsOnce(t *testing.T) {
	oldKey, newKey, otherKey := keyring.GenerateKey(), keyring.GenerateKey(), keyring.GenerateKey()
	path := filepath.Join(t.TempDir(), "key")
	write := func(text string) func() error {
		return func() error {
			return errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte(text), 0o600))
		}
	}
	for name, value := range map[string]string{
		"ENCRYPTION_KEY": "", "ENCRYPTION_KEY_PREVIOUS": "", "ENCRYPTION_KEY_PREVIOUS_FILE": "",
		"ENCRYPTION_KEY_FILE": path,
	} {
		t.Setenv(name, value)
	}
	ids := func(texts ...string) string { return fmt.Sprint(idsOf(t, texts...)) }
	var log lockedLog
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
	defer slog.SetDefault(before)
	const stay = `level=ERROR msg="the keyring was not replaced, and the keys in use stay; logged once, until it loads again" `
	again := `level=INFO msg="the keyring loads again, with the keys in use" key_ids=` + ids(oldKey)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if err := write(oldKey + "\n")(); err != nil {
			t.Fatal(err)
		}
		if _, err := keyring.Watch(ctx, keyring.EnvSource, keyring.WatchConfig{}); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			name string
			do   func() error
			want []string // parts of the one line; none for no line
		}{
			{"the same key", write(oldKey), nil},
			{"the file is missing", func() error { return os.Remove(path) }, []string{stay, "no such file"}},
			{"it is back", write(oldKey), []string{again}},
			{
				"it may not be read", func() error { return errors.Join(os.Remove(path), os.Symlink(path, path)) },
				[]string{stay, "ENCRYPTION_KEY_FILE names"},
			},
			{"it is malformed then", write(`"` + newKey + `"`), []string{stay, "bad encryption key: it is in double quotes"}},
			{
				"malformed in another way", write(newKey[:29]),
				[]string{stay, "bad encryption key: it has 29 characters"},
			},
			{"it is missing again", func() error { return os.Remove(path) }, []string{stay, "no such file"}},
			{
				"the other key alone", write(otherKey),
				[]string{stay, "lacks the primary key in use: its ID is " + idsOf(t, oldKey)[0]},
			},
			{"it is mended", write(oldKey), []string{again}},
			{"it is malformed once more", write("b'" + newKey + "'"), []string{stay, "Python"}},
			{"two keys, which takes a second file", func() error {
				previous := path + "-previous"
				return errors.Join(write(newKey)(), os.WriteFile(previous, []byte(oldKey), 0o600),
					os.Setenv("ENCRYPTION_KEY_PREVIOUS_FILE", previous)) //nolint:usetesting // set above
			}, []string{`level=INFO msg="the keyring loads again, and was replaced"`, ids(newKey, oldKey)}},
			{"the same keys", write(newKey), nil},
		} {
			log.take()
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * keyring.DefaultWatchInterval)
			synctest.Wait()
			text := log.take()
			lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
			if want := min(len(step.want), 1); len(lines) != 1 || (text != "") != (want > 0) {
				t.Errorf("%s: got %d lines, want %d:\n%s", step.name, len(lines), want, text)
				continue
			}
			for _, want := range step.want {
				if !strings.Contains(lines[0], strings.ReplaceAll(want, `"no`, `\"no`)) {
					t.Errorf("%s: got\n%s\nwant %s in it", step.name, lines[0], want)
				}
			}
			for _, key := range []string{oldKey, newKey, otherKey} {
				if strings.Contains(text, key[:8]) {
					t.Errorf("%s: the log has a key", step.name)
				}
			}
		}
	})
}

// TestWatchKeyringChangingErrors covers a source with a different ID in each
// error, and one that alternates between two reasons.
func TestWatchKeyringChangingErrors(t *testing.T) {
	t.Parallel()
	key := keyring.GenerateKey()
	for name, test := range map[string]struct {
		err  func(n int) error
		want int
	}{
		"IDs of requests": {func(n int) error {
			return fmt.Errorf("unavailable: request 3f0c1f8e-52a8-4c2a-9d3b-%012x",
				n)
		}, 1},
		"times":          {func(n int) error { return fmt.Errorf("gave up after %d ms", n) }, 1},
		"in turn":        {func(n int) error { return errors.New([]string{"refused", "timeout"}[n%2]) }, 2},
		"always another": {func(n int) error { return errors.New(strings.Repeat("x", n)) }, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				loads := 0
				source := func(context.Context) (*keyring.Keyring, error) {
					if loads++; loads > 1 && loads < 100 {
						return nil, test.err(loads)
					}
					return keyring.New(key)
				}
				var events []keyring.Event
				_, err := keyring.Watch(ctx, source, keyring.WatchConfig{
					Observe: func(e keyring.Event) { events = append(events, e) },
				})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(200 * keyring.DefaultWatchInterval)
				synctest.Wait()
				if len(events) != test.want+1 {
					t.Fatalf("got %d events, want %d", len(events), test.want+1)
				}
				for i, e := range events {
					if last := i == test.want; e.Recovered != last || (e.Err == nil) != last {
						t.Errorf("event %d: %+v", i, e)
					}
				}
			})
		})
	}
}
