// Package keysource reads keyrings from environment variables, or from the
// files that they name.
package keysource

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/keytext"
)

// Environment variables that hold the keys of the default keyring.
const (
	// EnvKey holds the primary key: 44 characters of base64.
	EnvKey = "ENCRYPTION_KEY"
	// EnvPreviousKeys holds earlier keys, which only decrypt, separated by
	// commas. It may be unset.
	EnvPreviousKeys = "ENCRYPTION_KEY_PREVIOUS"

	// fileSuffix turns either name into the name of a variable that names a
	// file.
	fileSuffix = "_FILE"
)

// maxKeyFile is the maximum size of a key file, in bytes. A thousand keys need
// less.
const maxKeyFile = 64 << 10

// maxReadings bounds the attempts to get two equal readings.
const maxReadings = 4

// FromEnv reads a keyring from [EnvKey] and [EnvPreviousKeys], or from the
// files named by the same variables with the suffix _FILE, as containers mount
// secrets. It returns a [keyring.ErrNoKey] if EnvKey is unset or empty, and a
// [fernet.ErrBadKey] if a variable is set both ways. No error quotes a
// variable's or file's content.
//
// The files may be replaced meanwhile: FromEnv reads them until two readings
// agree, so that it never mixes keys of two moments.
func FromEnv() (*keyring.Ring, error) {
	last, err := readEnv()
	for n := 1; n < maxReadings && (last.primary.isFile || last.previous.isFile); n++ {
		again, errAgain := readEnv()
		if again == last && (err == nil) == (errAgain == nil) {
			break
		}
		last, err = again, errAgain
	}
	if err != nil {
		return nil, err
	}
	switch {
	case last.primary.text != "":
	case last.primary.source != EnvKey:
		return nil, fmt.Errorf("credent: %w: %s is empty", keyring.ErrNoKey, last.primary)
	default:
		return nil, fmt.Errorf("credent: %w: set %s", keyring.ErrNoKey, EnvKey)
	}
	var previous []string
	if last.previous.text != "" {
		previous = strings.Split(last.previous.text, ",")
	}
	return keyring.Parse(append([]string{last.primary.text}, previous...), func(i int) string {
		switch {
		case i == 0:
			return last.primary.String()
		case len(previous) == 1:
			return last.previous.String()
		}
		return fmt.Sprintf("key %d of %s", i, last.previous)
	})
}

// reading is both variables' content at one moment.
type reading struct{ primary, previous variable }

// variable is the content of a variable, or of the file that the variable with
// the suffix _FILE names.
type variable struct {
	text   string // without surrounding white space
	source string // the variable's name
	isFile bool   // a regular file, which can be read again; a pipe can't
}

// String names the variable or its file in errors.
func (v variable) String() string {
	if strings.HasSuffix(v.source, fileSuffix) {
		return "the file that " + v.source + " names"
	}
	return v.source
}

func readEnv() (r reading, err error) {
	if r.primary, err = fromEnv(EnvKey); err != nil {
		return r, err
	}
	r.previous, err = fromEnv(EnvPreviousKeys)
	return r, err
}

// Errors about a keyring's source, for callers that add advice.
var (
	// ErrTwoSources is the ErrBadKey of a key given both by a variable and by
	// a file.
	ErrTwoSources = errors.New("two sources of one key")
	// ErrKeyFile is the keyring.ErrNoKey of a file that can't be read.
	ErrKeyFile = errors.New("a key file cannot be read")
)

// sourceError has a text that names the source, and an error to unwrap.
type sourceError struct {
	text string
	kind error
}

func (e sourceError) Error() string { return e.text }
func (e sourceError) Unwrap() error { return e.kind }

func fromEnv(name string) (variable, error) {
	text, path := strings.TrimSpace(os.Getenv(name)), os.Getenv(name+fileSuffix)
	if path == "" {
		return variable{text: text, source: name}, nil
	}
	v := variable{source: name + fileSuffix}
	if text != "" {
		return v, fmt.Errorf("credent: %w: %w", fernet.ErrBadKey,
			sourceError{fmt.Sprintf("both %s and %s are set", name, v.source), ErrTwoSources})
	}
	data, regular, err := readFile(path)
	v.isFile = regular
	switch {
	case err != nil:
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err // drop the path, which may be a key in the wrong variable
		}
		if cause := keytext.PathCause(path); cause != "" {
			err = fmt.Errorf("%w; %s holds no path: %s", err, v.source, cause)
		}
		return v, fmt.Errorf("credent: %w: %w: %w", keyring.ErrNoKey, sourceError{v.String(), ErrKeyFile}, err)
	case len(data) > maxKeyFile:
		return v, fmt.Errorf("credent: %s: %w: it has more than %d bytes", v, fernet.ErrBadKey, maxKeyFile)
	}
	v.text = strings.TrimSpace(string(data))
	return v, nil
}

// readFile returns a file's content, truncated after maxKeyFile+1 bytes, and
// whether it is a regular file.
func readFile(path string) (data []byte, regular bool, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, false, err
	}
	data, err = io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	return data, info.Mode().IsRegular(), err
}

// defaultRing is the process's keyring, for clients without their own.
var defaultRing struct {
	sync.Mutex
	ring *keyring.Ring
}

// Default returns the process's keyring. The first successful call reads it
// with [FromEnv]. After that it stays the same, and only [keyring.Ring.Replace]
// changes its keys.
func Default() (*keyring.Ring, error) {
	defaultRing.Lock()
	defer defaultRing.Unlock()
	if defaultRing.ring == nil {
		ring, err := FromEnv()
		if err != nil {
			return nil, err
		}
		defaultRing.ring = ring
	}
	return defaultRing.ring, nil
}
