package kms_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/kms"
)

// envServer names a program that runs a real Vault. `make kms-test` builds it
// and runs this test with it. Otherwise the test uses fakeVault. Because the
// same test passes on both, fakeVault matches the real server.
const envServer = "CREDENT_TEST_VAULT_SERVER"

// vault is a server with the transit engine, and its operator's actions.
type vault struct {
	address string
	root    string // token
	stop    func()
}

func startVault(t *testing.T) *vault {
	t.Helper()
	program := os.Getenv(envServer)
	if program == "" {
		return startFakeVault(t)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "127.0.0.1:0")
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	stop := func() { cancel(); _ = cmd.Wait() }
	t.Cleanup(stop)
	line, _ := bufio.NewReader(out).ReadString('\n') // address and token
	fields := strings.Fields(line)
	if len(fields) != 2 {
		stop()
		t.Fatalf("%s printed %q: %s", program, line, log.String())
	}
	return &vault{address: fields[0], root: fields[1], stop: stop}
}

// do sends a request as an operator and returns the answer's data or auth
// field.
func (v *vault) do(t *testing.T, method, path string, body any) map[string]any {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, v.address+"/v1/"+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", v.root)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	var answer struct{ Data, Auth map[string]any }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if answer.Auth != nil {
		return answer.Auth
	}
	return answer.Data
}

// setUp creates the engine, a key, and a token that may only decrypt.
func (v *vault) setUp(t *testing.T) (serviceToken string) {
	t.Helper()
	v.do(t, http.MethodPost, "sys/mounts/transit", map[string]any{"type": "transit"})
	v.do(t, http.MethodPost, "transit/keys/credent", nil)
	v.do(t, http.MethodPut, "sys/policies/acl/service", map[string]any{
		"policy": `path "transit/decrypt/credent" { capabilities = ["update"] }`,
	})
	auth := v.do(t, http.MethodPost, "auth/token/create", map[string]any{"policies": []string{"service"}})
	token, _ := auth["client_token"].(string)
	if token == "" {
		t.Fatal("no token")
	}
	t.Setenv("VAULT_ADDR", v.address)
	for _, name := range []string{"VAULT_SERVER_URL", "VAULT_SERVER_TOKEN", "VAULT_TOKEN_FILE", "VAULT_NAMESPACE"} {
		t.Setenv(name, "")
	}
	return token
}

// altered returns a wrapped keyring with one byte changed in its ciphertext,
// which has the form vault:v1:BASE64.
func altered(t *testing.T, text string) string {
	t.Helper()
	const prefix, inner = "credent-keyring-1.", len("vault:v1:") + 30
	ciphertext, err := base64.URLEncoding.DecodeString(strings.TrimPrefix(text, prefix))
	if err != nil || !strings.HasPrefix(string(ciphertext), "vault:v") || len(ciphertext) <= inner {
		t.Fatalf("the ciphertext is %.9q…, %v", ciphertext, err)
	}
	ciphertext[inner] = map[bool]byte{true: 'A', false: 'B'}[ciphertext[inner] != 'A']
	return prefix + base64.URLEncoding.EncodeToString(ciphertext)
}

const vaultURL = "hashivault://credent"

// refused fails the test unless an error is the wanted one, has the wanted
// status, and shows no key.
func refused(t *testing.T, what string, err, want error, status int) {
	t.Helper()
	var e *kms.Error
	if !errors.Is(err, want) || !errors.As(err, &e) || e.Status != status || e.Scheme != "hashivault" {
		t.Errorf("%s: got %v, want %v with status %d", what, err, want, status)
		return
	}
	noSecrets(t, what, printed(err))
	if strings.Contains(printed(err), os.Getenv("VAULT_TOKEN")) {
		t.Errorf("%s: the error has the token", what)
	}
	t.Logf("%s: %v", what, err)
}

// TestVault covers a wrapped keyring's life on a server: wrap, unwrap, rotate
// the transit key, refuse, shut down.
func TestVault(t *testing.T) {
	v := startVault(t)
	service := v.setUp(t)
	as := func(token string) { t.Setenv("VAULT_TOKEN", token) }
	ctx := t.Context()

	as(v.root)
	text := wrapped(t, vaultURL, keyA, keyB)
	as(service)
	ring, err := kms.Unwrap(ctx, vaultURL, text)
	if err != nil || idsOf(ring) != idOf(t, keyA)+" "+idOf(t, keyB) {
		t.Fatalf("unwrapped %s, %v", idsOf(ring), err)
	}
	_, err = kms.Wrap(ctx, vaultURL, keyA)
	refused(t, "wrap with a token that may decrypt only", err, kms.ErrRefused, http.StatusForbidden)
	_, err = kms.Unwrap(ctx, "hashivault://other", text)
	refused(t, "a key that the token may not use", err, kms.ErrRefused, http.StatusForbidden)

	as(v.root)
	_, err = kms.Unwrap(ctx, "hashivault://other", text)
	refused(t, "a key that is not there", err, kms.ErrRefused, http.StatusBadRequest)
	_, err = kms.Unwrap(ctx, vaultURL+"?engine=none", text)
	refused(t, "an engine that is not there", err, kms.ErrRefused, http.StatusNotFound)
	if _, err := kms.Unwrap(ctx, vaultURL, text); err != nil {
		t.Errorf("the engine of one URL is kept for the next: %v", err)
	}
	_, err = kms.Unwrap(ctx, vaultURL, seal(t, "not of this server"))
	refused(t, "a text of another service", err, kms.ErrRefused, http.StatusBadRequest)

	_, err = kms.Unwrap(ctx, vaultURL, altered(t, text))
	refused(t, "an altered text", err, kms.ErrRefused, http.StatusBadRequest)

	v.do(t, http.MethodPost, "transit/keys/credent/rotate", nil)
	as(service)
	if _, err := kms.Unwrap(ctx, vaultURL, text); err != nil {
		t.Errorf("after the rotation of the transit key: %v", err)
	}
	as(v.root)
	newText, err := kms.Rewrap(ctx, vaultURL, text, vaultURL)
	if err != nil {
		t.Fatal(err)
	}
	v.do(t, http.MethodPost, "transit/keys/credent/config", map[string]any{"min_decryption_version": 2})
	_, err = kms.Unwrap(ctx, vaultURL, text)
	refused(t, "a version of the transit key that is retired", err, kms.ErrRefused, http.StatusBadRequest)
	if _, err := kms.Unwrap(ctx, vaultURL, newText); err != nil {
		t.Errorf("rewrapped: %v", err)
	}

	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(service+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	as("")
	t.Setenv("VAULT_TOKEN_FILE", tokenFile)
	if _, err := kms.Unwrap(ctx, vaultURL, newText); err != nil {
		t.Errorf("with a token in a file: %v", err)
	}
	t.Setenv("VAULT_TOKEN_FILE", "")

	as(service)
	t.Setenv(kms.EnvURL, vaultURL)
	t.Setenv(kms.EnvKeyring, newText)
	t.Setenv("ENCRYPTION_KEY", "")
	source := kms.EnvSource()
	if _, err := source(ctx); err != nil {
		t.Fatal(err)
	}
	v.do(t, http.MethodPost, "auth/token/revoke", map[string]any{"token": service})
	_, err = kms.Unwrap(ctx, vaultURL, newText)
	refused(t, "a token that was revoked", err, kms.ErrRefused, http.StatusForbidden)
	v.stop()
	_, err = kms.Unwrap(ctx, vaultURL, newText)
	refused(t, "a server that is down", err, kms.ErrUnavailable, 0)
	if ring, err := source(ctx); err != nil || len(ring.Keys()) != 2 {
		t.Errorf("a source whose text is the same needs no server: %v", err)
	}
}

// TestVaultHangs waits for a server only until the context ends, although the
// driver would wait longer.
func TestVaultHangs(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }() // never accepts; the kernel does
	t.Setenv("VAULT_ADDR", "http://"+listener.Addr().String())
	t.Setenv("VAULT_TOKEN", "made-up")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = kms.Unwrap(ctx, vaultURL, wrapped(t, localURL, keyA))
	refused(t, "a server that hangs", err, kms.ErrUnavailable, 0)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > time.Minute {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	_, err = keyring.Watch(ctx, kms.Source(vaultURL, func(context.Context) (string, error) {
		return wrapped(t, localURL, keyA), nil
	}), keyring.WatchConfig{})
	if !errors.Is(err, kms.ErrUnavailable) {
		t.Errorf("watched: %v", err)
	}
}

// TestEchoingServer uses a server that echoes requests, as a debugging proxy
// may: no error from wrapping shows the keys.
func TestEchoingServer(t *testing.T) {
	for _, status := range []int{
		http.StatusBadRequest, http.StatusOK, http.StatusInternalServerError,
		http.StatusNotFound,
	} {
		server := echoServer(t, status)
		t.Setenv("VAULT_ADDR", server)
		t.Setenv("VAULT_TOKEN", "made-up")
		_, err := kms.Wrap(t.Context(), vaultURL, keyA, keyB)
		var e *kms.Error
		if !errors.As(err, &e) {
			t.Fatalf("status %d: %v", status, err)
		}
		noSecrets(t, "the error", printed(err))
	}
}
