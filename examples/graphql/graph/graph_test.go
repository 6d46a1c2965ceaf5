package graph_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"entgo.io/ent/dialect"
	_ "github.com/jackc/pgx/v5/stdlib" // a database driver
	_ "modernc.org/sqlite"             // a database driver

	"example.com/graphql/ent"
	"example.com/graphql/graph"
	"example.com/graphql/store"
	"example.com/graphql/webhook"
	"github.com/credent-go/credent/credenttest"
	"github.com/credent-go/credent/keyring"
)

func TestMain(m *testing.M) { os.Exit(credenttest.Main(m)) }

// service is a service served over HTTP.
type service struct {
	t      *testing.T
	url    string
	client *ent.Client
	db     *sql.DB
	seen   strings.Builder // all responses
}

func serve(t *testing.T, databaseDialect string) *service {
	t.Helper()
	ring, err := keyring.New(keyring.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t}
	if databaseDialect == dialect.SQLite {
		s.client, s.db, err = store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "db"), ring)
	} else {
		if s.db, err = sql.Open("pgx", credenttest.EmptyURL(t)); err != nil {
			t.Fatal(err)
		}
		s.client, err = store.Open(t.Context(), s.db, databaseDialect, ring)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.db.Close() })
	server := httptest.NewServer(graph.NewHandler(s.client))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// ask sends a query over HTTP, decodes the data, and returns the errors.
func (s *service) ask(into any, query string, variables map[string]any) string {
	s.t.Helper()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		s.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Data   json.RawMessage
		Errors json.RawMessage
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		s.t.Fatal(err)
	}
	_, _ = s.seen.WriteString(string(answer.Data) + string(answer.Errors))
	if len(answer.Errors) == 0 && into != nil {
		if err := json.Unmarshal(answer.Data, into); err != nil {
			s.t.Fatal(err)
		}
	}
	return string(answer.Errors)
}

// do is ask without errors.
func (s *service) do(into any, query string, variables map[string]any) {
	s.t.Helper()
	if problems := s.ask(into, query, variables); problems != "" {
		s.t.Fatalf("%s: %s", query, problems)
	}
}

const create = `mutation($input: CreateIntegrationInput!) { createIntegration(input: $input) { id provider } }`

const update = `mutation($id: ID!, $input: UpdateIntegrationInput!) {
	updateIntegration(id: $id, input: $input) { id provider }
}`

// addAccount returns the ID of a new account.
func (s *service) addAccount(name string) string {
	s.t.Helper()
	var added struct{ CreateAccount struct{ ID string } }
	add := `mutation($name: String!) { createAccount(input: {name: $name}) { id } }`
	s.do(&added, add, map[string]any{"name": name})
	return added.CreateAccount.ID
}

func TestAPI(t *testing.T) {
	t.Parallel()
	for _, databaseDialect := range []string{dialect.SQLite, dialect.Postgres} {
		t.Run(databaseDialect, func(t *testing.T) {
			t.Parallel()
			s := serve(t, databaseDialect)
			account := s.addAccount("Ada")
			input := map[string]any{
				"accountID": account, "provider": "example", "apiKey": "CANARY-api-key-1234",
				"certificate": "Q0FOQVJZLf8A", "paidUntil": "2031-05-06T09:08:07.5+02:00",
				"webhook": `{"url":"https://example.com","secret":"CANARY-webhook"}`,
			}
			var made struct{ CreateIntegration struct{ ID, Provider string } }
			s.do(&made, create, map[string]any{"input": input})
			hook := webhook.Config{URL: "https://example.com", Secret: "CANARY-webhook"}
			checkStored(t, s, "CANARY-api-key-1234", hook)

			var listed struct {
				Accounts struct {
					Edges []struct {
						Node struct {
							Name         string
							Integrations struct {
								Edges []struct {
									Node struct{ ID, Provider, APIKeyHint string }
								}
							}
						}
					}
				}
			}
			s.do(&listed, `{
				accounts(first: 5, orderBy: {field: NAME}, where: {hasIntegrationsWith: [{provider: "example"}]}) {
					edges { node { name integrations(orderBy: {field: PROVIDER}) { edges { node {
						id provider apiKeyHint
					} } } } }
				}
			}`, nil)
			if len(listed.Accounts.Edges) != 1 || len(listed.Accounts.Edges[0].Node.Integrations.Edges) != 1 {
				t.Fatalf("the list has %+v", listed)
			}
			got := listed.Accounts.Edges[0].Node.Integrations.Edges[0].Node
			if got.ID != made.CreateIntegration.ID || got.APIKeyHint != "…1234" {
				t.Errorf("the list has %+v", got)
			}

			var found struct{ IntegrationByAPIKey *struct{ ID string } }
			byKey := `query($key: String!) { integrationByAPIKey(apiKey: $key) { id } }`
			s.do(&found, byKey, map[string]any{"key": "CANARY-api-key-1234"})
			if found.IntegrationByAPIKey == nil || found.IntegrationByAPIKey.ID != got.ID {
				t.Errorf("its API key found %+v", found)
			}

			s.do(nil, update, map[string]any{"id": got.ID, "input": map[string]any{
				"apiKey": "CANARY-second-5678", "webhook": `{"url":"https://example.org"}`,
			}})
			checkStored(t, s, "CANARY-second-5678", webhook.Config{URL: "https://example.org"})
			s.do(&found, byKey, map[string]any{"key": "CANARY-api-key-1234"})
			if found.IntegrationByAPIKey != nil {
				t.Error("the replaced API key is found")
			}
			clears := map[string]any{"clearWebhook": true, "clearPaidUntil": true}
			s.do(nil, update, map[string]any{"id": got.ID, "input": clears})
			row := s.client.Integration.Query().OnlyX(t.Context())
			if !row.Webhook.IsZero() || !row.PaidUntil.IsZero() || row.Certificate.IsZero() {
				t.Errorf("cleared: %v %v %v", row.Webhook.IsZero(), row.PaidUntil.IsZero(), row.Certificate.IsZero())
			}

			var nodes struct{ Nodes []struct{ Provider string } }
			s.do(&nodes, `query($ids: [ID!]!) { nodes(ids: $ids) { ... on Integration { provider } } }`,
				map[string]any{"ids": []string{got.ID}})
			if len(nodes.Nodes) != 1 || nodes.Nodes[0].Provider != "example" {
				t.Errorf("nodes: %+v", nodes)
			}
			if strings.Contains(s.seen.String(), "CANARY") || strings.Contains(s.seen.String(), "gAAAA") {
				t.Error("a response contains a secret or a token")
			}
		})
	}
}

// checkStored checks that the mutations' values are encrypted, and read back.
func checkStored(t *testing.T, s *service, apiKey string, hook webhook.Config) {
	t.Helper()
	row := s.client.Integration.Query().OnlyX(t.Context())
	if got, err := row.APIKey.Reveal(); err != nil || got != apiKey {
		t.Errorf("the API key differs from the mutation's: %v", err)
	}
	if got, err := row.Certificate.Reveal(); err != nil || string(got) != "CANARY-\xff\x00" {
		t.Errorf("the certificate is %d bytes, %v", len(got), err)
	}
	want := time.Date(2031, 5, 6, 7, 8, 7, 500_000_000, time.UTC)
	if got, err := row.PaidUntil.Reveal(); err != nil || !got.Equal(want) {
		t.Errorf("it is paid until %v, %v", got, err)
	}
	if got, err := row.Webhook.Reveal(); err != nil || got != hook {
		t.Errorf("the webhook differs from the mutation's: %v", err)
	}
	if got, err := row.SigningKey.Reveal(); err != nil || len(got) < 20 {
		t.Errorf("the service's own secret has %d bytes, %v", len(got), err)
	}
	for _, c := range ent.EncryptedColumns() {
		var stored string
		if err := s.db.QueryRowContext(t.Context(), "SELECT "+c.Name+" FROM "+c.Table).Scan(&stored); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(stored, "gAAAA") {
			t.Errorf("%s holds no token", c.Name)
		}
	}
}

// An input of the wrong type, or the text that redacted secrets print, is an
// error that doesn't quote it, and nothing is stored.
func TestMalformedInputs(t *testing.T) {
	t.Parallel()
	s := serve(t, dialect.SQLite)
	account := s.addAccount("Ada")
	for _, test := range []struct{ field, value, says string }{
		{"certificate", "CANARY is no base64", "encode or decode as its type (base64 of bytes)"},
		{"paidUntil", "CANARY tomorrow", "encode or decode as its type (time.Time)"},
		{"webhook", `{"url": CANARY`, "encode or decode as its type"},
		{"webhook", `["CANARY"]`, "encode or decode as its type (webhook.Config)"},
		{"webhook", "[REDACTED]", "redaction marker"},
		{"apiKey", "[REDACTED]", "redaction marker"},
		{"apiKey", strings.Repeat("CANARY", 100), "303"},
		{"paidUntil", "[REDACTED]", "redaction marker"},
	} {
		input := map[string]any{"accountID": account, "provider": "example", "apiKey": "CANARY"}
		input[test.field] = test.value
		if problems := s.ask(nil, create, map[string]any{"input": input}); !strings.Contains(problems, test.says) {
			t.Errorf("%s %.30q: got %q, want %q", test.field, test.value, problems, test.says)
		}
	}
	for _, missing := range []any{nil, []string{"a"}} {
		input := map[string]any{"accountID": account, "provider": "example", "apiKey": missing}
		if problems := s.ask(nil, create, map[string]any{"input": input}); problems == "" {
			t.Errorf("the API key %v was accepted", missing)
		}
	}
	if strings.Contains(s.seen.String(), "CANARY") {
		t.Error("an error quotes a secret")
	}
	if n := s.client.Integration.Query().CountX(t.Context()); n != 0 {
		t.Errorf("%d rows were stored", n)
	}
}

// A mutation that fails after storing a secret leaves nothing behind.
func TestTransaction(t *testing.T) {
	t.Parallel()
	s := serve(t, dialect.SQLite)
	account := s.addAccount("Ada")
	input := map[string]any{"accountID": account, "provider": "example", "apiKey": "CANARY-unique"}
	both := `mutation($input: CreateIntegrationInput!) {
		a: createIntegration(input: $input) { id }
		b: createIntegration(input: $input) { id }
	}`
	problems := s.ask(nil, both, map[string]any{"input": input})
	if problems == "" || strings.Contains(problems, "CANARY") {
		t.Errorf("the same API key twice: got %q", problems)
	}
	if n := s.client.Integration.Query().CountX(t.Context()); n != 0 {
		t.Errorf("%d rows were stored", n)
	}
}
