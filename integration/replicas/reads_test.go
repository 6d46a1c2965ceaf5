//go:build linux || darwin

package replicas_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/useraccount"
	"github.com/credent-go/credent/ent/usercredential"
)

// forEachDriver runs a test over both drivers of Postgres.
func forEachDriver(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, driver := range []string{"pgx", "libpq"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, driver))
		})
	}
}

// secrets returns what a context's user sees, opened.
func secrets(ctx context.Context, t *testing.T, c *ent.Client) []string {
	t.Helper()
	rows, err := c.UserCredential.Query().All(ctx)
	must(t, err)
	found := []string{}
	for _, row := range rows {
		text, err := row.SecretKey.Reveal()
		if err != nil {
			t.Error(err)
		}
		found = append(found, text)
	}
	slices.Sort(found)
	return found
}

// TestReadReplica stores and reads beside a standby that has stopped to replay,
// as a member of credent_app with tenants' keys. A request sees what it wrote,
// and another one what the standby has; no user sees another's rows, on either
// server.
func TestReadReplica(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		for _, verify := range []bool{false, true} {
			w.checkLag(t, credent.Config{RequireRowSecurity: true, TenantKeys: credent.Require, VerifyOnRead: verify},
				map[bool]string{false: "a", true: "b"}[verify])
		}
	})
}

func (w *world) checkLag(t *testing.T, cfg credent.Config, prefix string) {
	t.Helper()
	c := w.open(t, w.app, cfg)
	must(t, credent.Check(within(t), c))
	request := func(user string) context.Context {
		return credent.WithRequest(credent.WithUser(within(t), user))
	}
	want := func(ctx context.Context, when string, want ...string) {
		t.Helper()
		if got := secrets(ctx, t, c); !slices.Equal(got, append([]string{}, want...)) {
			t.Errorf("%s: got %v, want %v", when, got, want)
		}
	}
	first, second := prefix+"-1", prefix+"-2"
	_, err := add(request(first), c, first, "there")
	must(t, err)
	must(t, w.standby.WaitFor(within(t), w.primary))
	must(t, w.standby.PauseReplay(within(t)))

	wrote := request(first)
	_, err = add(wrote, c, first, "new")
	must(t, err)
	want(wrote, "the request that wrote", "new", "there")
	want(credent.WithStaleReads(wrote), "if it may be stale", "there")
	want(request(first), "another request", "there")
	want(credent.WithUser(within(t), first), "no request", "new", "there")
	want(credent.WithPrimary(request(first)), "the primary", "new", "there")

	// The standby has never seen this tenant's key.
	wrote = request(second)
	made, err := add(wrote, c, second, "key made a moment ago")
	must(t, err)
	want(wrote, "a tenant's first request", "key made a moment ago")
	want(request(second), "a tenant's second request")
	lookup := func(ctx context.Context) int {
		t.Helper()
		n, err := c.UserCredential.Query().
			Where(usercredential.APIKeyIs(credent.NewSecret("key key made a moment ago"))).Count(ctx)
		must(t, err)
		return n
	}
	if n, other := lookup(wrote), lookup(request(second)); n != 1 || other != 0 {
		t.Errorf("the lookup finds %d and %d rows", n, other)
	}
	// The hook of the credential reads the account of another request.
	err = c.UserCredential.Create().SetUserAccountID(made.UserAccountID).SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("s")).Exec(request(second))
	must(t, err)

	must(t, w.standby.ResumeReplay(within(t)))
	must(t, w.standby.WaitFor(within(t), w.primary))
	want(request(first), "after the replay", "new", "there")
	want(request(second), "after the replay", "key made a moment ago", "s")
	if n := lookup(request(second)); n != 1 {
		t.Errorf("the lookup finds %d rows", n)
	}
	account, err := c.UserAccount.Query().WithCredentials().Where(useraccount.HasCredentials()).Only(request(first))
	must(t, err)
	if got := len(account.Edges.Credentials); got != 2 {
		t.Errorf("%d credentials with the account", got)
	}
	want(credent.WithRequest(within(t)), "nobody")
	want(request("nobody"), "a user without rows")
}

// TestReaderOfOwner refuses a standby if the role bypasses row-level security,
// when the client opens.
func TestReaderOfOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "pgx")
	told := 0
	cfg := credent.Config{Keyring: w.ring, RequireRowSecurity: true, OnReaderError: func(context.Context,
		error,
	) {
		told++
	}}
	_, err := credent.Open(within(t), w.url(t, w.primary, w.app), cfg, credent.WithReader(w.url(t, w.standby, nil)))
	if !errors.Is(err, credent.ErrRowSecurity) || told > 0 {
		t.Errorf("got %v, told %d times", err, told)
	}
	_, err = credent.Open(within(t), w.url(t, w.primary, nil), credent.Config{Keyring: w.ring},
		credent.WithReader("postgres://nobody:secret@127.0.0.1:1/none"))
	if !errors.Is(err, credent.ErrReader) || strings.Contains(err.Error(), "secret") ||
		strings.Contains(err.Error(), "nobody") {
		t.Errorf("got %v", err)
	}
}

// TestWritingQueries: what turns out to write is the primary's, and the request
// has written.
func TestWritingQueries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "pgx")
	c := w.open(t, nil, credent.Config{OnReaderError: func(_ context.Context, err error) { t.Errorf("told %v", err) }})
	ctx := credent.WithRequest(within(t))
	_, err := add(ctx, c, "u", "s")
	must(t, err)
	must(t, w.standby.WaitFor(within(t), w.primary))
	inRecovery := func(ctx context.Context) (is bool) {
		t.Helper()
		rows, err := c.QueryContext(credent.WithReadOnlySQL(ctx), "SELECT pg_is_in_recovery()")
		must(t, err)
		defer func() { must(t, rows.Close()) }()
		for rows.Next() {
			must(t, rows.Scan(&is))
		}
		must(t, rows.Err())
		return is
	}
	count := func(ctx context.Context, query string) (n int) {
		t.Helper()
		rows, err := c.QueryContext(credent.WithReadOnlySQL(ctx), query)
		must(t, err)
		defer func() { must(t, rows.Close()) }()
		for rows.Next() {
			n++
		}
		must(t, rows.Err())
		return n
	}
	if ctx := credent.WithRequest(within(t)); !inRecovery(ctx) || inRecovery(credent.WithPrimary(ctx)) ||
		inRecovery(within(t)) {
		t.Error("raw SQL that reads went to another server")
	}
	for name, query := range map[string]string{
		"update":   "UPDATE user_accounts SET account_name = 'other' RETURNING id",
		"function": "SELECT set_config('x.y', 'z', false) FROM user_accounts FOR UPDATE",
	} {
		ctx := credent.WithRequest(within(t))
		n := count(ctx, query)
		if n != 1 || inRecovery(ctx) {
			t.Errorf("%s: %d rows, and the next query in recovery: %v", name, n, inRecovery(ctx))
		}
	}
	must(t, w.standby.WaitFor(within(t), w.primary))
	if got := c.UserAccount.Query().OnlyX(credent.WithRequest(within(t))).AccountName; got != "other" {
		t.Errorf("the name is %q", got)
	}

	// A transaction that only reads is no write.
	ctx = credent.WithRequest(within(t))
	tx, err := c.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	must(t, err)
	must(t, tx.Rollback())
	if !inRecovery(ctx) {
		t.Error("a read-only transaction counts as a write")
	}

	// A lookup of a row without a digest stores it.
	_, err = c.ExecContext(within(t), "UPDATE user_credentials SET api_key_index = NULL")
	must(t, err)
	must(t, w.standby.WaitFor(within(t), w.primary))
	for range 2 {
		n, err := c.UserCredential.Query().Where(usercredential.APIKeyIs(credent.NewSecret("key s"))).
			Count(credent.WithRequest(within(t)))
		if n != 1 || err != nil {
			t.Errorf("found %d, %v", n, err)
		}
	}
}

// told keeps what a client was told.
type told struct {
	mu   sync.Mutex
	errs []error
}

func (o *told) add(_ context.Context, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.errs = append(o.errs, err)
}

func (o *told) n() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.errs)
}
