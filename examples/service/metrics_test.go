package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/credent-go/credent/keyring"
)

// TestMetrics scrapes the service over HTTP: stored and read secrets are
// counted, and nothing names a user or a secret.
func TestMetrics(t *testing.T) {
	t.Setenv("ENCRYPTION_KEY", keyring.GenerateKey())
	service, stop := start(t, "sqlite:"+filepath.Join(t.TempDir(), "service.db"), "")
	defer stop()
	for _, of := range []struct{ method, broker, body string }{
		{http.MethodPut, "alpaca", `{"api_key": "CANARY-1", "secret_key": "CANARY-2"}`},
		{http.MethodGet, "alpaca", ""},
		{http.MethodPut, "polygon", `{"api_key": "CANARY-3", "secret_key": "CANARY-4"}`},
		{http.MethodPut, "polygon", `{"api_key": null, "secret_key": "CANARY-5"}`}, // refused
	} {
		request(t, service, of.method, "/credentials/"+of.broker, "CANARY-USER", of.body)
	}
	status, page := request(t, service, http.MethodGet, "/metrics", "", "")
	if status != http.StatusOK || strings.Contains(page, "CANARY") {
		t.Errorf("got %d %s", status, page)
	}
	for _, line := range []string{
		`credent_seals_total{credent_column="user_credentials.api_key",credent_stored="token"} 2`,
		`credent_seals_total{credent_column="user_credentials.secret_key",credent_stored="token"} 2`,
		`credent_opens_total{credent_column="user_credentials.api_key",credent_stored="token"} 1`,
		`credent_keyring_loads_total 1`,
		`credent_keyring_keys 1`,
		`credent_credentials_expiring{credent_within="0d"} 0`,
		`credent_credentials_expiring{credent_within="30d"} 0`,
	} {
		if !strings.Contains(page+"\n", line+"\n") {
			t.Errorf("the page lacks %s:\n%s", line, page)
		}
	}
	if !strings.Contains(page, "credent_keyring_age_seconds ") {
		t.Errorf("the page lacks the keyring's age:\n%s", page)
	}
}
