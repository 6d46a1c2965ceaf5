package fieldcrypt_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fernet/fernet-go"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

const (
	keyA = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=" // of the specification's vectors
	keyB = "3vYpT7mQx0bL2nKcR9sWfZ1gHjUe5aDq8iOy4MtXk6E="
	keyC = "Q0kq9xF2uZ7bW1nTy5cV8mRj3pLs6hGd4aKe0iXoUwA="
)

// halves returns a key of the signing half of one and the encryption half of another.
func halves(t *testing.T, signing, encryption string) string {
	t.Helper()
	keys, err := fernet.DecodeKeys(signing, encryption)
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

func TestParseKey(t *testing.T) {
	t.Parallel()
	bare := strings.TrimRight(keyA, "=")
	for name, test := range map[string]struct {
		text string
		want error
	}{
		"URL-safe alphabet":   {keyA, nil},
		"standard alphabet":   {strings.NewReplacer("-", "+", "_", "/").Replace(keyA), nil},
		"mixed alphabets":     {strings.Replace(keyA, "_", "/", 1), nil},
		"line break after":    {keyA + "\n", nil},
		"Windows line break":  {keyA + "\r\n", nil},
		"white space around":  {"\t " + keyA + " ", nil},
		"empty":               {"", fieldcrypt.ErrNoKey},
		"white space":         {" \n", fieldcrypt.ErrNoKey},
		"without padding":     {bare, fieldcrypt.ErrBadKey},
		"short":               {keyA[:40], fieldcrypt.ErrBadKey},
		"32 characters":       {keyA[:32], fieldcrypt.ErrBadKey},
		"31 bytes":            {keyA[:40] + "4Q==", fieldcrypt.ErrBadKey},
		"33 bytes":            {keyA[:40] + "4e4A", fieldcrypt.ErrBadKey},
		"long":                {keyA[:40] + keyA, fieldcrypt.ErrBadKey},
		"hexadecimal":         {strings.Repeat("73", 32), fieldcrypt.ErrBadKey},
		"not base64":          {strings.Replace(keyA, "RpI", "R!I", 1), fieldcrypt.ErrBadKey},
		"space inside":        {keyA[:20] + " " + keyA[21:], fieldcrypt.ErrBadKey},
		"line break inside":   {keyA[:20] + "\n" + keyA[21:], fieldcrypt.ErrBadKey},
		"quoted":              {`"` + keyA + `"`, fieldcrypt.ErrBadKey},
		"with its variable":   {"ENCRYPTION_KEY=" + keyA, fieldcrypt.ErrBadKey},
		"spare bits set":      {keyA[:42] + "5=", fieldcrypt.ErrBadKey},
		"padding inside":      {keyA[:20] + "====" + keyA[24:], fieldcrypt.ErrBadKey},
		"all zero":            {strings.Repeat("A", 43) + "=", fieldcrypt.ErrBadKey},
		"invalid UTF-8":       {keyA[:20] + "\xff" + keyA[21:], fieldcrypt.ErrBadKey},
		"redaction marker":    {fieldcrypt.Redacted, fieldcrypt.ErrBadKey},
		"44 bytes, non-ASCII": {strings.Repeat("é", 22), fieldcrypt.ErrBadKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := fieldcrypt.ParseKey(test.text)
			if !errors.Is(err, test.want) || (key == nil) != (err != nil) {
				t.Fatalf("got %v, %v, want error %v", key, err, test.want)
			}
			if err != nil && hasPart(err.Error(), test.text) {
				t.Errorf("the error quotes the key: %v", err)
			}
			if key != nil {
				token := seal(t, ring(t, test.text), "text")
				if got, err := ring(t, keyA).Decrypt(token); err != nil || got != "text" {
					t.Errorf("it is another key: got %q, %v", got, err)
				}
			}
		})
	}
}

func TestGenerateKey(t *testing.T) {
	t.Parallel()
	text := fieldcrypt.GenerateKey()
	if _, err := fieldcrypt.ParseKey(text); err != nil {
		t.Error(err)
	}
	if _, err := fernet.DecodeKey(text); err != nil {
		t.Error(err)
	}
	if fieldcrypt.GenerateKey() == text {
		t.Error("twice the same key")
	}
}

func TestKeyID(t *testing.T) {
	t.Parallel()
	keys := ring(t, keyA, keyB).Keys()
	// Pinned: the ID is written into logs and compared across versions.
	if got, want := keys[0].ID(), "ff4b7028"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if keys[0].ID() == keys[1].ID() {
		t.Error("two keys have one ID")
	}
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
		"no key":                   {"", nil, fieldcrypt.ErrNoKey, "key 1 of 1"},
		"no primary key":           {"", []string{keyA}, fieldcrypt.ErrNoKey, "key 1 of 2"},
		"empty previous key":       {keyA, []string{keyB, ""}, fieldcrypt.ErrBadKey, "key 3 of 3"},
		"bad previous key":         {keyA, []string{keyB[:40]}, fieldcrypt.ErrBadKey, "key 2 of 2"},
		"duplicate":                {keyA, []string{keyB, keyA}, fieldcrypt.ErrBadKey, "key 3 of 3"},
		"duplicate, other letters": {keyA, []string{standardA}, fieldcrypt.ErrBadKey, "same as key 1"},
		"shared signing half":      {keyA, []string{keyB, halves(t, keyB, keyC)}, fieldcrypt.ErrBadKey, "half of key 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := fieldcrypt.NewKeyring(test.primary, test.previous...)
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
	if _, err := ring(t, keyB).Decrypt(seal(t, r, "text")); !errors.Is(err, fieldcrypt.ErrUnknownKey) {
		t.Errorf("a previous key encrypts: %v", err)
	}
	for _, writer := range []string{keyA, keyB, halves(t, keyC, keyA)} {
		if got, err := r.Decrypt(seal(t, ring(t, writer), "text")); err != nil || got != "text" {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

// Tests of the environment and of the default keyring are not parallel.

func TestKeyringFromEnv(t *testing.T) {
	for name, test := range map[string]struct {
		key, previous string
		keys          int
		want          error
	}{
		"unset":              {"", "", 0, fieldcrypt.ErrNoKey},
		"white space":        {" \n", "", 0, fieldcrypt.ErrNoKey},
		"only previous":      {"", keyA, 0, fieldcrypt.ErrNoKey},
		"one":                {keyA, "", 1, nil},
		"line break":         {keyA + "\n", "\n", 1, nil},
		"with previous":      {keyA, keyB, 2, nil},
		"previous with room": {keyA, " " + keyB + " , " + keyC + "\n", 3, nil},
		"trailing comma":     {keyA, keyB + ",", 0, fieldcrypt.ErrBadKey},
		"bad":                {keyA[:43], "", 0, fieldcrypt.ErrBadKey},
		"two in one":         {keyA + "," + keyB, "", 0, fieldcrypt.ErrBadKey},
		"bad previous":       {keyA, keyB[1:], 0, fieldcrypt.ErrBadKey},
		"previous is same":   {keyA, keyB + "," + keyA, 0, fieldcrypt.ErrBadKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(fieldcrypt.EnvKey, test.key)
			t.Setenv(fieldcrypt.EnvPreviousKeys, test.previous)
			r, err := fieldcrypt.KeyringFromEnv()
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
			if !strings.Contains(err.Error(), fieldcrypt.EnvKey) {
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
	// Root may read every file, so the one that cannot be read is a link to itself.
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		env  map[string]string
		keys int
		want error
	}{
		"one":           {map[string]string{"ENCRYPTION_KEY_FILE": file(keyA + "\n")}, 1, nil},
		"previous":      {map[string]string{"ENCRYPTION_KEY": keyA, "ENCRYPTION_KEY_PREVIOUS_FILE": file(keyB + ",\n" + keyC + "\n")}, 3, nil},
		"both":          {map[string]string{"ENCRYPTION_KEY": keyA, "ENCRYPTION_KEY_FILE": file(keyB)}, 0, fieldcrypt.ErrBadKey},
		"empty":         {map[string]string{"ENCRYPTION_KEY_FILE": file("\n")}, 0, fieldcrypt.ErrNoKey},
		"bad":           {map[string]string{"ENCRYPTION_KEY_FILE": file(keyA[:40])}, 0, fieldcrypt.ErrBadKey},
		"no file":       {map[string]string{"ENCRYPTION_KEY_FILE": filepath.Join(t.TempDir(), "none")}, 0, fieldcrypt.ErrNoKey},
		"Windows":       {map[string]string{"ENCRYPTION_KEY_FILE": file("\r\n" + keyA + "\r\n")}, 1, nil},
		"duplicate":     {map[string]string{"ENCRYPTION_KEY": keyA, "ENCRYPTION_KEY_PREVIOUS_FILE": file(keyA + "\n")}, 0, fieldcrypt.ErrBadKey},
		"all zero":      {map[string]string{"ENCRYPTION_KEY_FILE": file(strings.Repeat("A", 43) + "=")}, 0, fieldcrypt.ErrBadKey},
		"folder":        {map[string]string{"ENCRYPTION_KEY_FILE": t.TempDir()}, 0, fieldcrypt.ErrNoKey},
		"unreadable":    {map[string]string{"ENCRYPTION_KEY_FILE": loop}, 0, fieldcrypt.ErrNoKey},
		"huge":          {map[string]string{"ENCRYPTION_KEY_FILE": file(strings.Repeat(keyA, 2000))}, 0, fieldcrypt.ErrBadKey},
		"endless":       {map[string]string{"ENCRYPTION_KEY_FILE": "/dev/zero"}, 0, fieldcrypt.ErrBadKey},
		"both previous": {map[string]string{"ENCRYPTION_KEY": keyA, "ENCRYPTION_KEY_PREVIOUS": keyC, "ENCRYPTION_KEY_PREVIOUS_FILE": file(keyB)}, 0, fieldcrypt.ErrBadKey},
		"a key for it":  {map[string]string{"ENCRYPTION_KEY_FILE": keyA}, 0, fieldcrypt.ErrNoKey},
		"previous gone": {map[string]string{"ENCRYPTION_KEY": keyA, "ENCRYPTION_KEY_PREVIOUS_FILE": keyB}, 0, fieldcrypt.ErrNoKey},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"ENCRYPTION_KEY", "ENCRYPTION_KEY_PREVIOUS"} {
				t.Setenv(variable, test.env[variable])
				t.Setenv(variable+"_FILE", test.env[variable+"_FILE"])
			}
			r, err := fieldcrypt.KeyringFromEnv()
			if !errors.Is(err, test.want) || len(r.Keys()) != test.keys {
				t.Fatalf("got %v, %v, want %d keys, error %v", r, err, test.keys, test.want)
			}
			if err != nil && (hasPart(err.Error(), keyA) || hasPart(err.Error(), keyB) || !strings.Contains(err.Error(), "ENCRYPTION_KEY")) {
				t.Errorf("the error quotes a key, or does not name the variable: %v", err)
			}
		})
	}
}

// TestKeyringFromPipe gives the key as a shell's <(command) does: it can be read once.
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
	if ring, err := fieldcrypt.KeyringFromEnv(); err != nil || len(ring.Keys()) != 1 {
		t.Errorf("got %v, %v", ring, err)
	}
}

// TestKeyringFromSwappedFiles reads two files whose folder is exchanged all the time, as Kubernetes does it, by a link: no
// reading mixes the files of one folder with those of another.
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
		if r, err := fieldcrypt.KeyringFromEnv(); err != nil || len(r.Keys()) != 2 {
			t.Fatalf("swap %d: got %v, %v", n, r, err)
		}
	}
	close(swaps)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestDefault(t *testing.T) {
	fieldcrypt.ResetDefault(t)
	t.Setenv(fieldcrypt.EnvPreviousKeys, "")
	t.Setenv(fieldcrypt.EnvKey, "")
	if r, err := fieldcrypt.Default(); r != nil || !errors.Is(err, fieldcrypt.ErrNoKey) {
		t.Errorf("without a key: got %v, %v, want ErrNoKey", r, err)
	}
	t.Setenv(fieldcrypt.EnvKey, keyA)
	rings := make([]*fieldcrypt.Keyring, 16)
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() {
			var err error
			if rings[i], err = fieldcrypt.Default(); err != nil {
				t.Errorf("once there is a key: %v", err)
			}
		})
	}
	wg.Wait()
	t.Setenv(fieldcrypt.EnvKey, keyB)
	last, err := fieldcrypt.Default()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rings {
		if r != last {
			t.Error("the default keyring changed")
		}
	}
}
