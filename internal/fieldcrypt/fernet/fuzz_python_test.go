package fernet_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// peer runs Python's cryptography with keyA. It ends with this process.
type peer struct {
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

var startPeer = sync.OnceValues(func() (*peer, error) {
	python := "/usr/bin/python3" // Debian's, which sees Debian's packages
	if _, err := os.Stat(python); err != nil {
		python = "python3"
	}
	cmd := exec.Command(python, "testdata/peer.py", keyA)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &peer{in: in, out: bufio.NewReader(out)}, cmd.Start()
})

// decrypt returns Python's plaintext of a token, and whether Python accepts it.
func (p *peer) decrypt(token string) (plaintext string, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := fmt.Fprintln(p.in, base64.StdEncoding.EncodeToString([]byte(token))); err != nil {
		return "", false, err
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		return "", false, fmt.Errorf("python3 with cryptography is needed, see scripts/need: %w", err)
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(line), "+")
	if !ok {
		return "", false, nil
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	return string(raw), true, err
}

// comparePython opens a token with both. Python must open every token that Go
// opens, to the same text. A token that only Python opens must not be
// canonical, or its time must not fit the prefix.
func comparePython(t *testing.T, token string) {
	t.Helper()
	p, err := startPeer()
	if err != nil {
		t.Fatal(err)
	}
	want, taken, err := p.decrypt(token)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ring(t, keyA).Decrypt(token)
	raw, decodeErr := base64.URLEncoding.Strict().DecodeString(token)
	canonical := decodeErr == nil && base64.URLEncoding.EncodeToString(raw) == token &&
		strings.HasPrefix(token, "gAAAA")
	switch {
	case err == nil && (!taken || got != want):
		t.Errorf("%q: got %q, Python %q, taken %v", token, got, want, taken)
	case err != nil && taken && canonical:
		t.Errorf("%q: got %v, Python %q", token, err, want)
	}
}

// FuzzPython compares with Python's cryptography on tokens.
func FuzzPython(f *testing.F) {
	addTokens(f)
	for _, plaintext := range plaintexts {
		f.Add(seal(f, ring(f, keyA), plaintext))
	}
	f.Fuzz(comparePython)
}

// FuzzPythonSigned compares on tokens signed with the key, so that the fuzzer
// gets past the signature.
func FuzzPythonSigned(f *testing.F) {
	addBodies(f)
	f.Fuzz(func(t *testing.T, body []byte) { comparePython(t, signedToken(t, keyA, body)) })
}
