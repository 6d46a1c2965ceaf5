// Package trail tests that every way to read, write and move secrets leaves its
// entry in the audit trail, over each driver.
package trail

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/internal/testdb"
)

// TestMain can be the command credent.
func TestMain(m *testing.M) { testdb.Main(m) }

// world is a database with a trail, and a client that has it.
type world struct {
	*testdb.Env
	trail  *audit.Trail
	client *ent.Client
	seen   map[string]bool // IDs of entries
}

func newWorld(t *testing.T, env *testdb.Env, cfg credent.Config) *world {
	t.Helper()
	return worldOf(t, env, cfg, audit.Config{})
}

// worldOf is newWorld with a trail of its own configuration.
func worldOf(t *testing.T, env *testdb.Env, cfg credent.Config, of audit.Config) *world {
	t.Helper()
	w := &world{Env: env, trail: openTrail(t, env, of), seen: make(map[string]bool)}
	cfg.Keyring, cfg.Trail = env.Ring, w.trail
	client, err := credent.NewClient(env.Pool(t), env.Dialect(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.client = client
	return w
}

func openTrail(t *testing.T, env *testdb.Env, cfg audit.Config) *audit.Trail {
	t.Helper()
	cfg.Keyring = env.Ring
	trail, err := audit.Open(t.Context(), env.Pool(t), env.Dialect(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := trail.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return trail
}

// as returns the context of what the tests do.
func as(t *testing.T) context.Context {
	t.Helper()
	return audit.WithRequestID(credent.WithActor(t.Context(), "ada"), "request-1")
}

// entries returns what the trail was told since the last call, a row each, in
// any order of what happened together. What chains are made of is left out.
func (w *world) entries(t *testing.T) []audit.Entry {
	t.Helper()
	if err := w.trail.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all []audit.Entry
	for _, e := range stored(t, w.DB) {
		if w.seen[e.ID.String()] {
			continue
		}
		w.seen[e.ID.String()] = true
		e.ID, e.At = [16]byte{}, time.Time{}
		rows := strings.Split(e.Row, "\n")
		if len(rows) > 1 {
			e.Rows = 1
		}
		for _, e.Row = range rows {
			all = append(all, e)
		}
	}
	return all
}

// stored returns the entries in the database, without the chain's own.
func stored(t *testing.T, db *sql.DB) (all []audit.Entry) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT id, action, actor, tenant, table_name, column_name, row_id, "+
		"row_count, key_id, outcome, request, note FROM credent_audit WHERE action NOT IN ('open', 'close', 'link', "+
		"'checkpoint') ORDER BY at, id")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var e audit.Entry
		if err := rows.Scan(&e.ID, &e.Action, &e.Actor, &e.Tenant, &e.Table, &e.Column, &e.Row, &e.Rows, &e.KeyID,
			&e.Outcome, &e.Request, &e.Note); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// want compares the entries since the last call with the given ones. Empty
// fields take their values from as and the keyring.
func (w *world) want(t *testing.T, what string, want ...audit.Entry) {
	t.Helper()
	for i := range want {
		e := &want[i]
		e.Actor, e.Request = cmp.Or(e.Actor, "ada"), cmp.Or(e.Request, "request-1")
		e.Outcome, e.Rows = cmp.Or(e.Outcome, audit.OutcomeOK), max(e.Rows, 1)
		if e.KeyID == "key" {
			e.KeyID = w.Ring.Primary().ID()
		}
	}
	order := func(a, b audit.Entry) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.Table, b.Table), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Row, b.Row), cmp.Compare(a.Note, b.Note))
	}
	got := w.entries(t)
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("%s: the entries differ (-want +got):\n%s", what, diff)
	}
}

// credential makes a credential of an account by the world's client.
func (w *world) credential(t *testing.T, account *ent.UserAccount, apiKey string) *ent.UserCredential {
	t.Helper()
	row, err := w.create(w.client, account, apiKey).Save(as(t))
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func (w *world) create(client *ent.Client, account *ent.UserAccount, apiKey string) *ent.UserCredentialCreate {
	return client.UserCredential.Create().SetAccount(account).SetUserID(account.UserID).SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret(apiKey)).SetSecretKey(credent.NewSecret("secret of " + apiKey))
}

const (
	accounts    = "user_accounts"
	credentials = "user_credentials"

	accountFields    = "account_name,created_at,is_active,updated_at,user_id"
	credentialFields = "api_key,created_at,credential_type,is_active,secret_key,updated_at,user_account_id,user_id"
)
