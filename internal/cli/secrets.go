package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/credent-go/credent"
)

// maxInput is the maximum input size in bytes. Two secrets of 303 bytes with
// every byte escaped, plus the names, take less than 4 KiB.
const maxInput = 64 << 10

// readSecrets reads a credential's two secrets, from a prompt or as JSON. Its
// errors don't quote the input.
func (a *app) readSecrets(ctx context.Context) (apiKey, secretKey credent.Secret, err error) {
	fd := int(a.in.Fd())
	if term.IsTerminal(fd) {
		if apiKey, err = a.prompt(ctx, fd, "API key"); err != nil {
			return credent.Secret{}, credent.Secret{}, err
		}
		secretKey, err = a.prompt(ctx, fd, "Secret key")
		return apiKey, secretKey, err
	}
	data, err := interruptible(ctx, func() ([]byte, error) { return io.ReadAll(io.LimitReader(a.in, maxInput+1)) })
	if err != nil {
		return credent.Secret{}, credent.Secret{}, fmt.Errorf("read standard input: %w", err)
	}
	return parseSecrets(data)
}

// prompt reads a line from the terminal without echo.
func (a *app) prompt(ctx context.Context, fd int, name string) (credent.Secret, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return credent.Secret{}, fmt.Errorf("prompt: %w", err)
	}
	a.notef("%s (not shown): ", name)
	line, err := interruptible(ctx, func() ([]byte, error) { return term.ReadPassword(fd) })
	a.notef("\n")
	if ctx.Err() != nil {
		// The read continues, so restore the terminal here.
		_ = term.Restore(fd, before)
	}
	switch {
	case err != nil:
		return credent.Secret{}, fmt.Errorf("prompt: %w", err)
	case !utf8.Valid(line):
		return credent.Secret{}, messagef("the %s is not UTF-8 text; nothing was stored", name)
	}
	return credent.NewSecret(string(line)), nil
}

// interruptible runs a read that can't be cancelled, and stops waiting for it
// when the context ends.
func interruptible(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := read()
		done <- result{data, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-done:
		if err := ctx.Err(); err != nil { // the interrupt also ended the other end of the pipeline
			return nil, err
		}
		return r.data, r.err
	}
}

// parseSecrets parses a JSON object of two strings. It refuses faults that
// encoding/json would accept: names in another case, duplicate names, and
// characters that aren't Unicode.
func parseSecrets(data []byte) (apiKey, secretKey credent.Secret, err error) {
	values, err := parseObject(data)
	if err != nil {
		const want = `standard input must be {"api_key": "…", "secret_key": "…"}`
		return credent.Secret{}, credent.Secret{}, messagef("%s: %v", want, err)
	}
	return credent.NewSecret(values["api_key"]), credent.NewSecret(values["secret_key"]), nil
}

func parseObject(data []byte) (map[string]string, error) {
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New("it is empty")
	case len(data) > maxInput:
		return nil, fmt.Errorf("it has more than %d bytes", maxInput)
	case !utf8.Valid(data):
		return nil, errors.New("it is not UTF-8 text")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	malformed := func() error { return fmt.Errorf("it is not JSON, near byte %d", dec.InputOffset()+1) }
	if start, err := dec.Token(); err != nil {
		return nil, malformed()
	} else if start != json.Delim('{') {
		return nil, errors.New("it is not an object")
	}
	values := make(map[string]string)
	for dec.More() {
		if err := parseField(dec, values, malformed); err != nil {
			return nil, err
		}
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, malformed()
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	for _, name := range []string{"api_key", "secret_key"} {
		if _, ok := values[name]; !ok {
			return nil, fmt.Errorf("%s is missing", name)
		}
	}
	return values, nil
}

func parseField(dec *json.Decoder, values map[string]string, malformed func() error) error {
	token, err := dec.Token()
	if err != nil {
		return malformed()
	}
	name, ok := token.(string)
	if !ok || name != "api_key" && name != "secret_key" {
		return errors.New("it has an unknown field")
	}
	if _, ok := values[name]; ok {
		return fmt.Errorf("%s appears twice", name)
	}
	token, err = dec.Token()
	if err != nil {
		return malformed()
	}
	switch value := token.(type) {
	case nil:
		return fmt.Errorf("%s is missing", name)
	case string:
		// encoding/json replaces half a surrogate pair with this character. In
		// a secret, it is always a mistake.
		if strings.ContainsRune(value, utf8.RuneError) {
			return fmt.Errorf("%s has a character that is not Unicode", name)
		}
		values[name] = value
		return nil
	}
	return fmt.Errorf("%s is not a string", name)
}

// isTerminal reports whether a file is a terminal.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
