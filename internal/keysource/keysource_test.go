package keysource_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/keysource"
)

const (
	keyA = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=" // from the Fernet spec's vectors
	keyB = "3vYpT7mQx0bL2nKcR9sWfZ1gHjUe5aDq8iOy4MtXk6E="
	keyC = "Q0kq9xF2uZ7bW1nTy5cV8mRj3pLs6hGd4aKe0iXoUwA="
)

// hasPart reports whether a message quotes any 6 characters of a text.
func hasPart(message, text string) bool {
	for i := 0; i+6 <= len(text); i++ {
		if strings.Contains(message, text[i:i+6]) {
			return true
		}
	}
	return false
}

// Tests of the environment and the default keyring aren't parallel.

func TestKeyringFromEnv(t *testing.T) {
	for name, test := range map[string]struct {
		key, previous string
		keys          int
		want          error
	}{
		"unset":              {"", "", 0, keyring.ErrNoKey},
		"white space":        {" \n", "", 0, keyring.ErrNoKey},
		"only previous":      {"", keyA, 0, keyring.ErrNoKey},
		"one":                {keyA, "", 1, nil},
		"line break":         {keyA + "\n", "\n", 1, nil},
		"with previous":      {keyA, keyB, 2, nil},
		"previous with room": {keyA, " " + keyB + " , " + keyC + "\n", 3, nil},
		"trailing comma":     {keyA, keyB + ",", 0, fernet.ErrBadKey},
		"bad":                {keyA[:43], "", 0, fernet.ErrBadKey},
		"two in one":         {keyA + "," + keyB, "", 0, fernet.ErrBadKey},
		"bad previous":       {keyA, keyB[1:], 0, fernet.ErrBadKey},
		"previous is same":   {keyA, keyB + "," + keyA, 0, fernet.ErrBadKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(keysource.EnvKey, test.key)
			t.Setenv(keysource.EnvPreviousKeys, test.previous)
			r, err := keysource.FromEnv()
			if !errors.Is(err, test.want) || (r == nil) != (err != nil) {
				t.Fatalf("got %v, %v, want error %v", r, err, test.want)
			}
			if err == nil {
				if got := len(r.Keys()); got != test.keys {
					t.Errorf("got %d keys, want %d", got, test.keys)
				}
				return
			}
			if hasPart(err.Error(), test.key) || hasPart(err.Error(), test.previous) {
				t.Errorf("the error quotes a key: %v", err)
			}
			if !strings.Contains(err.Error(), keysource.EnvKey) {
				t.Errorf("the error does not name the variable: %v", err)
			}
		})
	}
}

func TestKeyringFromFiles(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// Root can read every file, so the unreadable one is a link to itself.
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		env  map[string]string
		keys int
		want error
	}{
		"one": {map[string]string{"ENCRYPTION_KEY_FILE": file(keyA + "\n")}, 1, nil},
		"previous": {map[string]string{
			"ENCRYPTION_KEY":               keyA,
			"ENCRYPTION_KEY_PREVIOUS_FILE": file(keyB + ",\n" + keyC + "\n"),
		}, 3, nil},
		"both": {
			map[string]string{"ENCRYPTION_KEY": keyA, "ENCRYPTION_KEY_FILE": file(keyB)},
			0,
			fernet.ErrBadKey,
		},
		"empty": {map[string]string{"ENCRYPTION_KEY_FILE": file("\n")}, 0, keyring.ErrNoKey},
		"bad":   {map[string]string{"ENCRYPTION_KEY_FILE": file(keyA[:40])}, 0, fernet.ErrBadKey},
		"no file": {
			map[string]string{"ENCRYPTION_KEY_FILE": filepath.Join(t.TempDir(), "none")},
			0,
			keyring.ErrNoKey,
		},
		"Windows": {map[string]string{"ENCRYPTION_KEY_FILE": file("\r\n" + keyA + "\r\n")}, 1, nil},
		"duplicate": {
			map[string]string{"ENCRYPTION_KEY": keyA, "ENCRYPTION_KEY_PREVIOUS_FILE": file(keyA + "\n")},
			0, fernet.ErrBadKey,
		},
		"all zero": {
			map[string]string{"ENCRYPTION_KEY_FILE": file(strings.Repeat("A", 43) + "=")},
			0,
			fernet.ErrBadKey,
		},
		"folder":     {map[string]string{"ENCRYPTION_KEY_FILE": t.TempDir()}, 0, keyring.ErrNoKey},
		"unreadable": {map[string]string{"ENCRYPTION_KEY_FILE": loop}, 0, keyring.ErrNoKey},
		"huge": {
			map[string]string{"ENCRYPTION_KEY_FILE": file(strings.Repeat(keyA, 2000))},
			0,
			fernet.ErrBadKey,
		},
		"endless": {map[string]string{"ENCRYPTION_KEY_FILE": "/dev/zero"}, 0, fernet.ErrBadKey},
		"both previous": {map[string]string{
			"ENCRYPTION_KEY": keyA, "ENCRYPTION_KEY_PREVIOUS": keyC,
			"ENCRYPTION_KEY_PREVIOUS_FILE": file(keyB),
		}, 0, fernet.ErrBadKey},
		"a key for it": {map[string]string{"ENCRYPTION_KEY_FILE": keyA}, 0, keyring.ErrNoKey},
		"previous gone": {
			map[string]string{"ENCRYPTION_KEY": keyA, "ENCRYPTION_KEY_PREVIOUS_FILE": keyB},
			0,
			keyring.ErrNoKey,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"ENCRYPTION_KEY", "ENCRYPTION_KEY_PREVIOUS"} {
				t.Setenv(variable, test.env[variable])
				t.Setenv(variable+"_FILE", test.env[variable+"_FILE"])
			}
			r, err := keysource.FromEnv()
			if !errors.Is(err, test.want) || len(r.Keys()) != test.keys {
				t.Fatalf("got %v, %v, want %d keys, error %v", r, err, test.keys, test.want)
			}
			if err != nil && (hasPart(err.Error(), keyA) || hasPart(err.Error(), keyB) ||
				!strings.Contains(err.Error(), "ENCRYPTION_KEY")) {
				t.Errorf("the error quotes a key, or does not name the variable: %v", err)
			}
		})
	}
}

// TestKeyringErrors reads texts that aren't keys. The error must name the
// variable or file and the cause, and contain no part of the key.
func TestKeyringErrors(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, test := range map[string]struct {
		env  map[string]string
		kind error
		want string
	}{
		"in quotes": {
			map[string]string{"ENCRYPTION_KEY": `"` + keyA + `"`},
			fernet.ErrBadKey,
			"credent: ENCRYPTION_KEY: bad encryption key: it is in double quotes",
		},
		"two keys": {
			map[string]string{"ENCRYPTION_KEY": keyA + "," + keyB},
			fernet.ErrBadKey,
			"credent: ENCRYPTION_KEY: bad encryption key: it has a comma at position 45: a key stands alone",
		},
		"a line of a file": {
			map[string]string{"ENCRYPTION_KEY_FILE": file("ENCRYPTION_KEY=" + keyA + "\n")},
			fernet.ErrBadKey,
			"credent: the file that ENCRYPTION_KEY_FILE names: bad encryption key: it has the variable name before it",
		},
		"UTF-16": {
			map[string]string{"ENCRYPTION_KEY_FILE": file("\xff\xfe" + strings.Join(strings.Split(keyA, ""),
				"\x00") + "\x00\r\x00\n\x00")},
			fernet.ErrBadKey, "credent: the file that ENCRYPTION_KEY_FILE names: bad encryption key: it is in UTF-16",
		},
		"the only earlier key": {
			map[string]string{"ENCRYPTION_KEY": keyA, "ENCRYPTION_KEY_PREVIOUS": "b'" + keyB + "'"},
			fernet.ErrBadKey,
			"credent: ENCRYPTION_KEY_PREVIOUS: bad encryption key: it is what Python prints",
		},
		"one of the earlier keys": {
			map[string]string{"ENCRYPTION_KEY": keyA, "ENCRYPTION_KEY_PREVIOUS": keyB + "," + keyC[:40]},
			fernet.ErrBadKey,
			"credent: key 2 of ENCRYPTION_KEY_PREVIOUS: bad encryption key: it is base64 of 30 bytes",
		},
		"a comma too many": {
			map[string]string{"ENCRYPTION_KEY": keyA, "ENCRYPTION_KEY_PREVIOUS_FILE": file(keyB + ",\n")},
			fernet.ErrBadKey,
			"credent: key 2 of the file that ENCRYPTION_KEY_PREVIOUS_FILE names: bad encryption key: it is empty",
		},
		"lines instead of commas": {
			map[string]string{"ENCRYPTION_KEY": keyA, "ENCRYPTION_KEY_PREVIOUS_FILE": file(keyB + "\n" + keyC + "\n")},
			fernet.ErrBadKey,
			"credent: the file that ENCRYPTION_KEY_PREVIOUS_FILE names: bad encryption key: it seems to be 2 keys " +
				"with white space",
		},
		"twice": {
			map[string]string{"ENCRYPTION_KEY": keyA, "ENCRYPTION_KEY_PREVIOUS": keyB + "," + keyA},
			fernet.ErrBadKey,
			"credent: key 2 of ENCRYPTION_KEY_PREVIOUS: bad encryption key: it is the same as ENCRYPTION_KEY",
		},
		"a path": {
			map[string]string{"ENCRYPTION_KEY": "/run/secrets/key"},
			fernet.ErrBadKey,
			"credent: ENCRYPTION_KEY: bad encryption key: it looks like the path of a file, which " +
				"ENCRYPTION_KEY_FILE takes",
		},
		"a key for a path": {
			map[string]string{"ENCRYPTION_KEY_FILE": keyA},
			keysource.ErrKeyFile,
			"; ENCRYPTION_KEY_FILE holds no path: it looks like the key itself",
		},
		"a path in quotes": {
			map[string]string{"ENCRYPTION_KEY_FILE": `"` + file(keyA) + `"`},
			keysource.ErrKeyFile,
			"; ENCRYPTION_KEY_FILE holds no path: it is in quotes",
		},
		"an empty file": {
			map[string]string{"ENCRYPTION_KEY_FILE": file("\n")},
			keyring.ErrNoKey,
			"credent: no encryption key: the file that ENCRYPTION_KEY_FILE names is empty",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"ENCRYPTION_KEY", "ENCRYPTION_KEY_PREVIOUS"} {
				t.Setenv(variable, test.env[variable])
				t.Setenv(variable+"_FILE", test.env[variable+"_FILE"])
			}
			_, err := keysource.FromEnv()
			if !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if err != nil && (hasPart(err.Error(), keyA) || hasPart(err.Error(), keyB) ||
				hasPart(err.Error(), keyC[:40])) {
				t.Errorf("the error quotes a key: %v", err)
			}
		})
	}
}

// TestKeyringFromPipe provides the key like a shell's <(command), which can be
// read only once.
func TestKeyringFromPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	_, err = w.WriteString(keyA + "\n")
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ENCRYPTION_KEY", "")
	t.Setenv("ENCRYPTION_KEY_PREVIOUS", "")
	t.Setenv("ENCRYPTION_KEY_FILE", fmt.Sprintf("/dev/fd/%d", r.Fd()))
	if ring, err := keysource.FromEnv(); err != nil || len(ring.Keys()) != 1 {
		t.Errorf("got %v, %v", ring, err)
	}
}

// TestKeyringFromSwappedFiles reads two files while a link switches their
// folder, as in Kubernetes. No reading mixes files of two folders.
func TestKeyringFromSwappedFiles(t *testing.T) {
	dir := t.TempDir()
	for name, files := range map[string][2]string{"a": {keyA, keyB}, "b": {keyB, keyA}} {
		sub := filepath.Join(dir, name)
		err := errors.Join(os.Mkdir(sub, 0o700), os.WriteFile(filepath.Join(sub, "key"), []byte(files[0]), 0o600),
			os.WriteFile(filepath.Join(sub, "previous"), []byte(files[1]), 0o600))
		if err != nil {
			t.Fatal(err)
		}
	}
	swap := func(to string) error {
		link := filepath.Join(dir, "link")
		return errors.Join(os.Symlink(to, link), os.Rename(link, filepath.Join(dir, "data")))
	}
	if err := swap("a"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ENCRYPTION_KEY", "")
	t.Setenv("ENCRYPTION_KEY_PREVIOUS", "")
	t.Setenv("ENCRYPTION_KEY_FILE", filepath.Join(dir, "data", "key"))
	t.Setenv("ENCRYPTION_KEY_PREVIOUS_FILE", filepath.Join(dir, "data", "previous"))
	swaps, done := make(chan string), make(chan error)
	go func() {
		var err error
		for to := range swaps {
			err = errors.Join(err, swap(to))
		}
		done <- err
	}()
	for n := range 300 {
		swaps <- []string{"b", "a"}[n%2]
		if r, err := keysource.FromEnv(); err != nil || len(r.Keys()) != 2 {
			t.Fatalf("swap %d: got %v, %v", n, r, err)
		}
	}
	close(swaps)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestDefault(t *testing.T) {
	keysource.ResetDefault(t)
	t.Setenv(keysource.EnvPreviousKeys, "")
	t.Setenv(keysource.EnvKey, "")
	if r, err := keysource.Default(); r != nil || !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("without a key: got %v, %v, want ErrNoKey", r, err)
	}
	t.Setenv(keysource.EnvKey, keyA)
	rings := make([]*keyring.Ring, 16)
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() {
			var err error
			if rings[i], err = keysource.Default(); err != nil {
				t.Errorf("once there is a key: %v", err)
			}
		})
	}
	wg.Wait()
	t.Setenv(keysource.EnvKey, keyB)
	last, err := keysource.Default()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rings {
		if r != last {
			t.Error("the default keyring changed")
		}
	}
}
