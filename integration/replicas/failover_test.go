//go:build linux || darwin

package replicas_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/pgreplica"
)

// TestReaderKilled kills the standby. Its queries fail, or are the primary's
// and somebody is told; the primary's are as ever.
func TestReaderKilled(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		var heard told
		fails := w.open(t, nil, credent.Config{})
		fallsBack := w.open(t, nil, credent.Config{OnReaderError: heard.add})
		_, err := add(within(t), fails, "u", "s")
		must(t, err)
		must(t, w.standby.WaitFor(within(t), w.primary))
		request := func() context.Context { return credent.WithRequest(within(t)) }
		if got := secrets(request(), t, fails); !slices.Equal(got, secrets(request(), t, fallsBack)) || len(got) != 1 {
			t.Fatalf("got %v", got)
		}
		must(t, w.standby.Kill())
		for i := range 3 {
			if _, err := fails.UserCredential.Query().All(request()); !errors.Is(err, credent.ErrReader) {
				t.Errorf("got %v", err)
			}
			if got := secrets(request(), t, fallsBack); !slices.Equal(got, []string{"s"}) || heard.n() != i+1 {
				t.Errorf("got %v, told %d times", got, heard.n())
			}
			if got := secrets(within(t), t, fails); !slices.Equal(got, []string{"s"}) {
				t.Errorf("no request: got %v", got)
			}
		}
		for _, err := range heard.errs {
			if !errors.Is(err, credent.ErrReader) {
				t.Errorf("told %v", err)
			}
		}
	})
}

// TestPreferStandby has a URL of both servers for the reader: the primary is
// the one that is left.
func TestPreferStandby(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		both, err := pgreplica.URL(w.database, w.primary, w.standby)
		must(t, err)
		for wish, standby := range map[string]bool{
			"any": false, "read-write": false, "primary": false,
			"read-only": true, "standby": true, "prefer-standby": true,
		} {
			db, _, err := credent.OpenDB(strings.Replace(both, "=read-write", "="+wish, 1), w.opts...)
			must(t, err)
			var got bool
			err = db.QueryRowContext(within(t), "SELECT pg_is_in_recovery()").Scan(&got)
			if err = errors.Join(err, db.Close()); err != nil || got != standby {
				t.Errorf("%s leads to the standby: %t, %v", wish, got, err)
			}
		}
		reader := strings.Replace(both, "target_session_attrs=read-write", "target_session_attrs=prefer-standby", 1)
		c := w.openAt(t, w.url(t, w.primary, nil), reader, credent.Config{})
		_, err = add(within(t), c, "u", "s")
		must(t, err)
		must(t, w.standby.WaitFor(within(t), w.primary))
		must(t, w.standby.PauseReplay(within(t)))
		_, err = add(within(t), c, "u", "t")
		must(t, err)
		request := credent.WithRequest(within(t))
		if got := secrets(request, t, c); !slices.Equal(got, []string{"s"}) {
			t.Errorf("got %v", got)
		}
		must(t, w.standby.Kill())
		for ctx := within(t); ; { // each connection of the pool says once that it is cut
			n, err := c.UserCredential.Query().Count(request)
			if n == 2 && err == nil {
				break
			}
			if !errors.Is(err, credent.ErrReader) || ctx.Err() != nil {
				t.Fatalf("got %d, %v", n, err)
			}
		}
	})
}

// TestReaderPromoted kills the primary after a tenant's key that the standby
// never got, and promotes the standby. The same client goes on: what is
// acknowledged then opens, over both of its pools and with a client that knows
// nothing.
func TestReaderPromoted(t *testing.T) {
	t.Parallel()
	forEachDriver(t, func(t *testing.T, w *world) {
		cfg := credent.Config{TenantKeys: credent.Require}
		primary, err := pgreplica.URL(w.database, w.primary, w.standby)
		must(t, err)
		reader := w.url(t, w.standby, nil)
		c := w.openAt(t, primary, reader, cfg)
		old, err := add(within(t), c, "u", "old")
		must(t, err)
		must(t, w.standby.WaitFor(within(t), w.primary))
		read := func() []string {
			t.Helper()
			return secrets(credent.WithRequest(within(t)), t, c)
		}
		if got := read(); !slices.Equal(got, []string{"old"}) {
			t.Errorf("got %v", got)
		}
		must(t, w.standby.StopReceiving(within(t)))
		lost := c.UserAccount.Create().SetUserID("v").SetAccountName("n").SaveX(within(t))
		store := func(ctx context.Context, secret string) error {
			return c.UserCredential.Create().SetUserAccountID(old.UserAccountID).SetUserID("u").
				SetCredentialType("alpaca").
				SetAPIKey(credent.NewSecret("key " + secret)).SetSecretKey(credent.NewSecret(secret)).Exec(ctx)
		}
		must(t, c.UserCredential.Create().SetAccount(lost).SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("lost")).Exec(within(t)))
		must(t, store(within(t), "lost too"))
		must(t, errors.Join(w.primary.Kill(), w.standby.Promote(within(t))))

		// The reader's connections may have been cut, the primary's are.
		for ctx := within(t); ; {
			if err = store(ctx, "kept"); err == nil {
				break
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
		account, err := c.UserAccount.Create().SetUserID("v").SetAccountName("n").Save(within(t))
		must(t, err)
		must(t, c.UserCredential.Create().SetAccount(account).SetCredentialType("alpaca").
			SetAPIKey(credent.NewSecret("k")).SetSecretKey(credent.NewSecret("under another key")).Exec(within(t)))
		want := []string{"kept", "old", "under another key"}
		if got := read(); !slices.Equal(got, want) {
			t.Errorf("the reader: got %v", got)
		}
		if got := secrets(within(t), t, c); !slices.Equal(got, want) {
			t.Errorf("the primary: got %v", got)
		}
		fresh := w.openAt(t, primary, reader, cfg)
		if got := secrets(credent.WithRequest(within(t)), t, fresh); !slices.Equal(got, want) {
			t.Errorf("a client that knows nothing: got %v", got)
		}
		n, err := c.UserCredential.Query().Where(usercredential.APIKeyIs(credent.NewSecret("k"))).
			Count(credent.WithRequest(within(t)))
		if n != 1 || err != nil {
			t.Errorf("the lookup finds %d rows, %v", n, err)
		}
	})
}
