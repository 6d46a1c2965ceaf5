package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/credenttest"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/open/libpq"
	"github.com/credent-go/credent/open/sqlite"
)

func TestMain(m *testing.M) { os.Exit(credenttest.Main(m)) }

// request sends a body to a service, and returns its answer.
func request(t *testing.T, service, method, path, user, body string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, service+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-User", user)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Error(err)
	}
	return response.StatusCode, strings.TrimSpace(string(data))
}

// open returns a client of a migrated database.
func open(t *testing.T, url string, opts ...credent.Option) *ent.Client {
	t.Helper()
	client, err := credent.Open(t.Context(), url, credent.Config{Keyring: credenttest.Keyring(t), Migrate: true},
		append(opts, credent.WithDriver(sqlite.Driver()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// TestReplaceAtOnce replaces a user's credential with 8 concurrent requests,
// while others read it. One is left, its halves belong together, and every
// reader saw exactly one.
func TestReplaceAtOnce(t *testing.T) {
	for name, client := range map[string]*ent.Client{
		"Postgres over pgx":    open(t, credenttest.URL(t)),
		"Postgres over lib/pq": open(t, credenttest.URL(t), credent.WithDriver(libpq.Driver())),
		"SQLite":               open(t, "sqlite:"+filepath.Join(t.TempDir(), "service.db")),
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(handler(&brokerKeys{client}))
			defer server.Close()
			const requests, rounds = 8, 10
			for round := range rounds {
				user := fmt.Sprint("user-", round/2) // a new user, then one with a credential
				var wg sync.WaitGroup
				for n := range requests {
					wg.Go(func() {
						body := fmt.Sprintf(`{"api_key": "PK-MADE-UP-%d-%d", "secret_key": "made-up-%[1]d-%[2]d"}`, round, n)
						if status, answer := request(t, server.URL, http.MethodPut, "/credentials/alpaca", user,
							body); status != http.StatusNoContent {
							t.Errorf("round %d: %d %s", round, status, answer)
						}
					})
					if round%2 == 0 {
						continue
					}
					wg.Go(func() {
						if status, answer := request(t, server.URL, http.MethodGet, "/credentials/alpaca", user,
							""); status != http.StatusOK {
							t.Errorf("round %d: read: %d %s", round, status, answer)
						}
					})
				}
				wg.Wait()
				apiKey, secretKey, err := (&brokerKeys{client}).load(t.Context(), user, "alpaca")
				if err != nil || strings.TrimPrefix(apiKey,
					"PK-MADE-UP-") != strings.TrimPrefix(secretKey, "made-up-") {
					t.Errorf("round %d: got %q, %q, %v", round, apiKey, secretKey, err)
				}
				accounts := client.UserAccount.Query().Where(useraccount.UserID(user)).CountX(t.Context())
				rows := client.UserCredential.Query().Where(usercredential.UserID(user)).CountX(t.Context())
				if accounts != 1 || rows != 1 {
					t.Errorf("round %d: %d accounts and %d credentials", round, accounts, rows)
				}
			}
		})
	}
}

// TestBadBodies checks status and field of errors that a client can fix, and
// that the answer contains nothing from the body.
func TestBadBodies(t *testing.T) {
	client := open(t, "sqlite:"+filepath.Join(t.TempDir(), "service.db"))
	server := httptest.NewServer(handler(&brokerKeys{client}))
	defer server.Close()
	const missing = `{"error":"missing required field","field":"`
	for name, test := range map[string]struct {
		body, want string
	}{
		"no api_key":      {`{"secret_key": "IN-VAIN"}`, missing + `api_key"}`},
		"api_key is null": {`{"api_key": null, "secret_key": "IN-VAIN"}`, missing + `api_key"}`},
		"no secret_key":   {`{"api_key": "IN-VAIN"}`, missing + `secret_key"}`},
		"nothing":         {`{}`, missing + `api_key"}`},
		"another field":   {`{"api_key": "IN-VAIN", "apikey": "IN-VAIN"}`, `{"error":"the body must be a JSON object with api_key and secret_key"}`},
		"a number":        {`{"api_key": 1, "secret_key": "IN-VAIN"}`, `{"error":"the body must be a JSON object with api_key and secret_key"}`},
		"no JSON":         {`api_key=IN-VAIN`, `{"error":"the body must be a JSON object with api_key and secret_key"}`},
		"what prints":     {`{"api_key": "[REDACTED]", "secret_key": "IN-VAIN"}`, `{"error":"the body must be a JSON object with api_key and secret_key"}`},
		"a long api_key":  {`{"api_key": "` + strings.Repeat("x", 304) + `", "secret_key": "IN-VAIN"}`, `"field":"api_key"}`},
	} {
		status, answer := request(t, server.URL, http.MethodPut, "/credentials/alpaca", "user-1", test.body)
		if status != http.StatusBadRequest || !strings.Contains(answer, test.want) ||
			strings.Contains(answer, "IN-VAIN") {
			t.Errorf("%s: got %d %s, want %s", name, status, answer, test.want)
		}
	}
	status, answer := request(t, server.URL, http.MethodPut, "/credentials/alpaca", "", `{"api_key": "a", "secret_key": "b"}`)
	if status != http.StatusBadRequest || answer != `{"error":"invalid","field":"user_id"}` {
		t.Errorf("without a user: got %d %s", status, answer)
	}
	if status, answer := request(t, server.URL, http.MethodGet, "/credentials/alpaca", "user-1",
		""); status != http.StatusNotFound {
		t.Errorf("before any: got %d %s", status, answer)
	}
	if n := client.UserAccount.Query().CountX(t.Context()); n != 0 {
		t.Errorf("refused requests left %d accounts", n)
	}
}

// start runs the service, and returns its URL and a function to stop it.
func start(t *testing.T, databaseURL, ownerURL string) (service string, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, databaseURL, ownerURL, address) }()
	for {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			_ = connection.Close()
			break
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
	}
	return "http://" + address, func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestRun starts the service twice on one database, and stops it: as the owner
// of the tables, and on Postgres also as a member of credent_app.
func TestRun(t *testing.T) {
	t.Setenv("ENCRYPTION_KEY", keyring.GenerateKey())
	owner := credenttest.URL(t)
	for name, urls := range map[string][2]string{
		"SQLite":   {"sqlite:" + filepath.Join(t.TempDir(), "service.db"), ""},
		"Postgres": {credenttest.URL(t), ""},
		"member":   {credenttest.AppURL(t, owner), owner},
	} {
		t.Run(name, func(t *testing.T) {
			for want := range 2 {
				service, stop := start(t, urls[0], urls[1])
				status, answer := request(t, service, http.MethodGet, "/credentials/alpaca", "user-1", "")
				if (status == http.StatusOK) != (want == 1) {
					t.Errorf("run %d: got %d %s", want, status, answer)
				}
				status, answer = request(t, service, http.MethodPut, "/credentials/alpaca", "user-1", `{"api_key": "PK-MADE-UP", "secret_key": "s"}`)
				if status != http.StatusNoContent {
					t.Errorf("run %d: got %d %s", want, status, answer)
				}
				if status, answer = request(t, service, http.MethodGet, "/credentials/alpaca", "user-2",
					""); status != http.StatusNotFound {
					t.Errorf("run %d: another user got %d %s", want, status, answer)
				}
				stop()
			}
		})
	}
	if err := run(t.Context(), owner+"&application_name=service", owner, "127.0.0.1:0"); !errors.Is(err,
		credent.ErrRowSecurity) {
		t.Errorf("as the owner: %v", err)
	}
}
