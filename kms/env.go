package kms

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/keyring"
)

// Environment variables of a service with a wrapped keyring.
const (
	// EnvURL holds the URL of the key management service.
	EnvURL = "ENCRYPTION_KEYRING_URL"
	// EnvKeyring holds the wrapped keyring.
	EnvKeyring = "ENCRYPTION_KEYRING"
	// EnvKeyringFile names a file that holds it, instead of EnvKeyring; a
	// rewritten file can be reloaded.
	EnvKeyringFile = "ENCRYPTION_KEYRING_FILE"
)

// FromEnv unwraps the keyring of [EnvKeyring], or of the file that
// [EnvKeyringFile] names, with the service of [EnvURL]. Errors:
// [credent.ErrNoKey] if a variable is not set, [credent.ErrBadKey] if one is
// set both ways or ENCRYPTION_KEY is set as well, and [Unwrap]'s errors.
func FromEnv(ctx context.Context) (*keyring.Keyring, error) {
	kmsURL, wrapped, err := ReadEnv()
	if err != nil {
		return nil, err
	}
	return Unwrap(ctx, kmsURL, wrapped)
}

// ReadEnv returns what [FromEnv] unwraps, still wrapped.
func ReadEnv() (kmsURL, wrapped string, err error) {
	for _, name := range []string{"ENCRYPTION_KEY", "ENCRYPTION_KEY_FILE"} {
		if os.Getenv(name) != "" {
			return "", "", fmt.Errorf("kms: %w: both %s and %s are set", credent.ErrBadKey, name, EnvURL)
		}
	}
	kmsURL, wrapped = strings.TrimSpace(os.Getenv(EnvURL)), strings.TrimSpace(os.Getenv(EnvKeyring))
	file := os.Getenv(EnvKeyringFile)
	switch {
	case kmsURL == "":
		return "", "", fmt.Errorf("kms: %w: set %s", credent.ErrNoKey, EnvURL)
	case wrapped != "" && file != "":
		return "", "", fmt.Errorf("kms: %w: both %s and %s are set", credent.ErrBadKey, EnvKeyring, EnvKeyringFile)
	case file != "":
		if wrapped, err = readFile(file); err != nil {
			return "", "", fmt.Errorf("kms: %w: the file that %s names: %w", credent.ErrNoKey, EnvKeyringFile, err)
		}
	}
	if wrapped == "" {
		return "", "", fmt.Errorf("kms: %w: set %s or %s", credent.ErrNoKey, EnvKeyring, EnvKeyringFile)
	}
	return kmsURL, wrapped, nil
}

// EnvSource returns the [keyring.Source] of [FromEnv], for
// [keyring.Watch]. The service is asked only when the URL or the text
// has changed since it last unwrapped one, so watching costs it nothing, and
// its outages go unnoticed.
func EnvSource() keyring.Source {
	return cached(func(context.Context) (string, string, error) { return ReadEnv() })
}

// Source is [EnvSource] for a URL and a text that the caller reads, for
// instance from its own configuration.
func Source(kmsURL string, read func(ctx context.Context) (wrapped string, err error)) keyring.Source {
	return cached(func(ctx context.Context) (string, string, error) {
		if read == nil {
			return "", "", errors.New("kms: a source without a function that reads the text")
		}
		wrapped, err := read(ctx)
		return kmsURL, wrapped, err
	})
}

// cached unwraps a text only if it differs from the one unwrapped last.
func cached(read func(context.Context) (kmsURL, wrapped string, err error)) keyring.Source {
	type state struct {
		kmsURL, wrapped string
		ring            *keyring.Keyring
	}
	// A channel instead of a mutex, because a caller may stop waiting.
	states := make(chan state, 1)
	states <- state{}
	return func(ctx context.Context) (*keyring.Keyring, error) {
		var s state
		select {
		case s = <-states:
		case <-ctx.Done():
			return nil, fmt.Errorf("kms: %w: %w", ErrUnavailable, ctx.Err())
		}
		defer func() { states <- s }()
		kmsURL, wrapped, err := read(ctx)
		if err != nil {
			return nil, err
		}
		if s.ring != nil && wrapped == s.wrapped && kmsURL == s.kmsURL {
			return s.ring, nil
		}
		ring, err := Unwrap(ctx, kmsURL, wrapped)
		if err != nil {
			return nil, err
		}
		s = state{kmsURL, wrapped, ring}
		return ring, nil
	}
}

// readFile returns a file's text without surrounding white space. Its errors
// contain no path.
func readFile(name string) (string, error) {
	data, err := func() (data []byte, err error) {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		return io.ReadAll(io.LimitReader(file, maxWrapped+1))
	}()
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return strings.TrimSpace(string(data)), err
}
