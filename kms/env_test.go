package kms_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/kms"
)

func TestKeyringFromEnv(t *testing.T) {
	text := wrapped(t, localURL, keyA, keyB)
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "keyring")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	names := []string{
		"ENCRYPTION_KEYRING_URL", "ENCRYPTION_KEYRING", "ENCRYPTION_KEYRING_FILE", "ENCRYPTION_KEY",
		"ENCRYPTION_KEY_FILE",
	}
	for name, test := range map[string]struct {
		env  [5]string // in the order of the variable names
		want error
	}{
		"variable":          {[5]string{localURL, text}, nil},
		"file":              {[5]string{localURL, "", file(text + "\n")}, nil},
		"Windows file":      {[5]string{localURL + "\r\n", "", file(text + "\r\n")}, nil},
		"nothing":           {[5]string{}, credent.ErrNoKey},
		"no URL":            {[5]string{"", text}, credent.ErrNoKey},
		"no keyring":        {[5]string{localURL}, credent.ErrNoKey},
		"both":              {[5]string{localURL, text, file(text)}, credent.ErrBadKey},
		"a key as well":     {[5]string{localURL, text, "", keyA}, credent.ErrBadKey},
		"a key's file, too": {[5]string{localURL, text, "", "", file(keyA)}, credent.ErrBadKey},
		"no file":           {[5]string{localURL, "", "/none/" + keyA}, credent.ErrNoKey},
		"folder":            {[5]string{localURL, "", t.TempDir()}, credent.ErrNoKey},
		"empty file":        {[5]string{localURL, "", file("\n")}, credent.ErrNoKey},
		"endless file":      {[5]string{localURL, "", "/dev/zero"}, kms.ErrNotWrapped},
		"a plain key":       {[5]string{localURL, keyA}, kms.ErrNotWrapped},
		"swapped":           {[5]string{text, localURL}, kms.ErrNotWrapped},
		"another service":   {[5]string{otherURL, text}, kms.ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			for i, variable := range names {
				t.Setenv(variable, test.env[i])
			}
			ring, err := kms.FromEnv(t.Context())
			if !errors.Is(err, test.want) || (ring == nil) != (err != nil) {
				t.Fatalf("got %v, want error %v", err, test.want)
			}
			if err != nil {
				noSecrets(t, "the error", printed(err))
			} else if len(ring.Keys()) != 2 {
				t.Errorf("got %d keys", len(ring.Keys()))
			}
		})
	}
}

// A source calls the service only when the text has changed.
func TestSource(t *testing.T) {
	t.Parallel()
	var text string
	var failure error
	source := kms.Source(localURL, func(context.Context) (string, error) { return text, failure })
	text = wrapped(t, localURL, keyA)
	first, err := source(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := source(t.Context()); err != nil || again != first {
		t.Errorf("the same text was unwrapped again: %v", err)
	}
	good := text
	text = good[:len(good)-4]
	if _, err := source(t.Context()); !errors.Is(err, kms.ErrRefused) {
		t.Errorf("a damaged text: %v", err)
	}
	failure = errors.New("the configuration cannot be read")
	if _, err := source(t.Context()); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	text, failure = wrapped(t, localURL, keyB, keyA), nil
	if next, err := source(t.Context()); err != nil || len(next.Keys()) != 2 {
		t.Errorf("a new text: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	text = strings.Clone(good)
	if _, err := source(ctx); err == nil {
		t.Error("a context that has ended was ignored")
	}
	if _, err := kms.Source(localURL, nil)(t.Context()); err == nil {
		t.Error("a source without a reader gave keys")
	}
}
