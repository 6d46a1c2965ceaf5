package clouds_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gocloud.dev/secrets"

	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/kms"
	_ "github.com/credent-go/credent/kms/clouds"
)

func TestSchemes(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"awskms", "gcpkms", "azurekeyvault", "hashivault", "base64key"} {
		if !secrets.DefaultURLMux().ValidKeeperScheme(scheme) {
			t.Errorf("%s has no driver", scheme)
		}
	}
}

// TestAWS runs the AWS driver against a server that returns the API's
// documented JSON. It shows that URL, driver and error classification fit
// together, not how AWS behaves.
func TestAWS(t *testing.T) {
	fault, status := "", http.StatusBadRequest
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Plaintext, CiphertextBlob []byte }
		_ = json.NewDecoder(r.Body).Decode(&body)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		if fault != "" {
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(map[string]string{
				"__type": fault, "message": fmt.Sprintf("%s %s", body.Plaintext,
					base64.StdEncoding.EncodeToString(body.Plaintext)),
			})
			return
		}
		answer := map[string][]byte{"CiphertextBlob": append([]byte("sealed"), body.Plaintext...)}
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".Decrypt") {
			answer = map[string][]byte{"Plaintext": body.CiphertextBlob[len("sealed"):]}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	defer server.Close()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": server.URL, "AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up",
		"AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none",
		"AWS_MAX_ATTEMPTS": "1",
	} {
		t.Setenv(name, value)
	}
	const url = "awskms://alias/credent?region=eu-central-1"
	key := keyring.GenerateKey()
	text, err := kms.Wrap(t.Context(), url, key)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := kms.Unwrap(t.Context(), url, text)
	if err != nil || len(ring.Keys()) != 1 {
		t.Fatalf("unwrapped %v, %v", ring, err)
	}
	for _, test := range []struct {
		fault  string
		status int
		want   error
	}{
		{"AccessDeniedException", http.StatusBadRequest, kms.ErrRefused},
		{"NotFoundException", http.StatusBadRequest, kms.ErrRefused},
		{"InvalidCiphertextException", http.StatusBadRequest, kms.ErrRefused},
		{"ThrottlingException", http.StatusBadRequest, kms.ErrUnavailable},
		{"KMSInternalException", http.StatusInternalServerError, kms.ErrUnavailable},
	} {
		fault, status = test.fault, test.status
		limit := time.Minute
		if errors.Is(test.want, kms.ErrUnavailable) {
			limit = 300 * time.Millisecond // the driver retries temporary errors
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := kms.Unwrap(ctx, url, text)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", fault, err, test.want)
		}
		_, err = kms.Wrap(ctx, url, key)
		cancel()
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), key[:12]) {
			t.Errorf("%s: no error, or one with the key", fault)
		}
	}
	fault = ""
	server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := kms.Unwrap(ctx, url, text); !errors.Is(err, kms.ErrUnavailable) {
		t.Errorf("a server that is down: %v", err)
	}
}
