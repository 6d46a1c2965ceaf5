package kms_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// fakeVault implements the part of Vault's HTTP API that the driver and
// TestVault use. Its answers, including error texts, are the ones that Vault
// 1.21.0 gave to the same requests; answers to operators contain only the
// fields that are used. It does no cryptography: a ciphertext is a random name
// for its plaintext.
type fakeVault struct {
	mu      sync.Mutex
	root    string
	service string            // token that may decrypt with the key credent; "" if revoked
	mounted bool              // the transit engine is mounted
	version int               // version of the key credent, 0 if it doesn't exist
	minimum int               // lowest version that may decrypt
	sealed  map[string]string // plaintexts by ciphertext
}

func startFakeVault(t *testing.T) *vault {
	t.Helper()
	f := &fakeVault{root: "hvs." + rand.Text(), sealed: make(map[string]string), minimum: 1}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return &vault{address: server.URL, root: f.root, stop: server.Close}
}

// ServeHTTP implements http.Handler.
func (f *fakeVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var body map[string]any
	if data, err := io.ReadAll(r.Body); err != nil || len(data) > 0 && json.Unmarshal(data, &body) != nil {
		fail(w, http.StatusBadRequest, "failed to parse JSON input")
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	token := r.Header.Get("X-Vault-Token")
	if token != f.root && (token == "" || token != f.service || path != "transit/decrypt/credent") {
		message := "permission denied"
		if token != f.service || token == "" {
			message = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"
		} else {
			message = "1 error occurred:\n\t* " + message + "\n\n"
		}
		fail(w, http.StatusForbidden, message)
		return
	}
	if !f.operate(w, path, body) {
		f.transit(w, path, body)
	}
}

// operate handles operators' requests.
func (f *fakeVault) operate(w http.ResponseWriter, path string, body map[string]any) bool {
	switch path {
	case "sys/mounts/transit":
		f.mounted = true
	case "sys/policies/acl/service":
	case "auth/token/create":
		f.service = "hvs." + rand.Text()
		answer(w, map[string]any{"auth": map[string]any{"client_token": f.service}})
		return true
	case "auth/token/revoke":
		f.service = ""
	case "transit/keys/credent":
		f.version = 1
		answer(w, map[string]any{"data": map[string]any{"name": "credent", "latest_version": 1}})
		return true
	case "transit/keys/credent/rotate":
		f.version++
		answer(w, map[string]any{"data": map[string]any{"name": "credent", "latest_version": f.version}})
		return true
	case "transit/keys/credent/config":
		f.minimum = int(body["min_decryption_version"].(float64))
		answer(w, map[string]any{"data": map[string]any{"min_decryption_version": f.minimum}})
		return true
	default:
		return false
	}
	w.WriteHeader(http.StatusNoContent)
	return true
}

// transit handles the driver's requests.
func (f *fakeVault) transit(w http.ResponseWriter, path string, body map[string]any) {
	engine, rest, _ := strings.Cut(path, "/")
	operation, key, _ := strings.Cut(rest, "/")
	if engine != "transit" || !f.mounted {
		fail(w, http.StatusNotFound, fmt.Sprintf("no handler for route %q. route entry not found.", path))
		return
	}
	if operation == "encrypt" {
		plaintext, _ := body["plaintext"].(string)
		ciphertext := fmt.Sprintf("vault:v%d:%s", f.version,
			base64.StdEncoding.EncodeToString([]byte(rand.Text()+rand.Text())))
		f.sealed[ciphertext] = plaintext
		answer(w, map[string]any{"data": map[string]any{"ciphertext": ciphertext, "key_version": f.version}})
		return
	}
	ciphertext, _ := body["ciphertext"].(string)
	var version int
	_, err := fmt.Sscanf(ciphertext, "vault:v%d:", &version)
	plaintext, ok := f.sealed[ciphertext]
	switch {
	case key != "credent":
		fail(w, http.StatusBadRequest, "encryption key not found")
	case err != nil:
		fail(w, http.StatusBadRequest, "invalid ciphertext: no prefix")
	case version < f.minimum:
		fail(w, http.StatusBadRequest, "ciphertext or signature version is disallowed by policy (too old)")
	case !ok:
		fail(w, http.StatusBadRequest, "cipher: message authentication failed")
	default:
		answer(w, map[string]any{"data": map[string]any{"plaintext": plaintext}})
	}
}

func answer(w http.ResponseWriter, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	all := map[string]any{
		"request_id": "5abf18b8-2df4-dc99-297f-1176aaf0782e", "lease_id": "", "renewable": false, "lease_duration": 0,
		"data": nil, "wrap_info": nil, "warnings": nil, "auth": nil, "mount_type": "transit",
	}
	maps.Copy(all, body)
	_ = json.NewEncoder(w).Encode(all)
}

func fail(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{message}})
}

// echoServer answers every request with the request's own text, as an error and
// as data.
func echoServer(t *testing.T, status int) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Plaintext string }
		data, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(data, &body)
		plaintext, _ := base64.StdEncoding.DecodeString(body.Plaintext)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"errors": []string{string(plaintext), body.Plaintext}, "data": map[string]any{"wrong": string(plaintext)},
		})
	}))
	t.Cleanup(server.Close)
	return server.URL
}
