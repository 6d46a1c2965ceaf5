package testdb

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/credent-go/credent/keyring"
)

// Python returns Debian's Python, which has the packages, or else the one on
// PATH.
func Python() string {
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		return "/usr/bin/python3"
	}
	return "python3"
}

// PythonOf returns the Python code below a marker in a documentation page.
func PythonOf(t *testing.T, page, mark string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "<!-- python: "+mark+";")
	_, rest, ok2 := strings.Cut(rest, "```python\n")
	code, _, ok3 := strings.Cut(rest, "```")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("docs/%s has no Python under %q", page, mark)
	}
	return code
}

// Twin runs the Python counterpart, with JSON as input and output.
func Twin(t *testing.T, url, key string, input any, args ...string) []byte {
	t.Helper()
	if key == "" {
		key = keyring.GenerateKey()
	}
	return TwinWith(t, url, key, "", input, args...)
}

// TwinWith is Twin with earlier keys.
func TwinWith(t *testing.T, url, key, previous string, input any, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), Python(), append([]string{"../twin/twin.py"}, args...)...)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+url, "ENCRYPTION_KEY="+key, "ENCRYPTION_KEY_PREVIOUS="+previous,
		"PYTHONDONTWRITEBYTECODE=1")
	if input != nil {
		data, err := json.Marshal(input)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = bytes.NewReader(data)
	}
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		errors.As(err, &exit)
		t.Fatalf("twin %s: %v\n%s", strings.Join(args, " "), err, exit.Stderr)
	}
	return out
}

// TwinAccount is an account in the Python application's JSON.
type TwinAccount struct {
	ID          string           `json:"id,omitempty"`
	UserID      string           `json:"user_id"`
	AccountName string           `json:"account_name"`
	IsActive    bool             `json:"is_active"`
	Credentials []TwinCredential `json:"credentials"`
}

// TwinCredential is a credential of a [TwinAccount].
type TwinCredential struct {
	ID             string  `json:"id,omitempty"`
	CredentialType string  `json:"credential_type"`
	APIKey         string  `json:"api_key"`
	SecretKey      string  `json:"secret_key"`
	IsActive       bool    `json:"is_active"`
	ExpiresAt      *string `json:"expires_at"`
	CreatedAt      string  `json:"created_at,omitempty"`
	UpdatedAt      string  `json:"updated_at,omitempty"`
}

// TwinSecrets are secrets that both languages must read from each other's rows.
// They include a NUL byte and invalid UTF-8 as far as JSON can carry them,
// because neither Postgres nor Python's str() excludes them.
var TwinSecrets = map[string][2]string{
	"plain":     {"PKTEST7UQ0NJ2IGT9A3Z", "9tzkSGWEMw5dnXyZ0aCrh3oLPuQvB1jF2sKiNlHt"},
	"empty":     {"", ""},
	"non-ASCII": {"ключ-密钥-🔑", "café\u0301"},
	"control":   {"a\x00b", "line\r\nbreak\t"},
	"longest":   {strings.Repeat("x", 303), strings.Repeat("密", 101)},
}
