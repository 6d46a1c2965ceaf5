package paths

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
)

type requestKey struct{}

// observed collects reveals.
type observed struct {
	mu     sync.Mutex
	events []credent.Reveal
}

func (o *observed) observe(e credent.Reveal) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e)
}

// take returns the only reveal since the last call.
func (o *observed) take(t *testing.T) (e credent.Reveal) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.events) != 1 {
		t.Fatalf("observed %d reveals, want one", len(o.events))
	}
	e, o.events = o.events[0], nil
	return e
}

// Whatever path read a secret, the observer of its Reveal learns who queried:
// even after the query's context has ended, in another goroutine, and if it
// fails.
func TestRevealsHaveAReader(t *testing.T) {
	t.Parallel()
	testdb.ForEachDatabase(t, func(t *testing.T, env *testdb.Env) {
		for _, p := range readPaths() {
			if p.postgres && env.IsSQLite() {
				continue
			}
			for name, inTx := range map[string]bool{"alone": false, "in a transaction": true} {
				for _, ring := range []*keyring.Keyring{env.Ring, testdb.Keyring(t, keyring.GenerateKey())} {
					p.tellsReader(t, env, p.name+" "+name, ring, inTx)
				}
			}
		}
	})
}

func (p readPath) tellsReader(t *testing.T, env *testdb.Env, name string, ring *keyring.Keyring, inTx bool) {
	t.Helper()
	account, rows := env.Seed(t)
	var told observed
	client := env.OnPool(testopt.WithKeyring(ring), testopt.OnReveal(told.observe))
	r := &reader{env: env, client: client, account: account, rows: rows}
	ctx := credent.WithActor(context.WithValue(t.Context(), requestKey{}, name), "ada")
	user := ""
	if inTx && !env.IsSQLite() { // raw rows for a user need a transaction
		user = account.UserID
		ctx = credent.WithUser(ctx, user)
	}
	ctx, cancel := context.WithCancel(ctx)
	end := func() error { return nil }
	if inTx {
		tx, err := client.Tx(ctx)
		if err != nil {
			t.Fatal(err)
		}
		r.client, end = tx.Client(), tx.Commit
	}
	if err := errors.Join(p.read(ctx, r), end()); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	cancel()
	for _, s := range r.seen {
		if p.plain {
			s.secret = s.secret.OpenedBy(encrypted.OpenerOf(ring, columnOf[s.column], account.UserID,
				encrypted.ObservedBy(ctx, told.observe)))
		}
		var revealed error
		var wg sync.WaitGroup
		wg.Go(func() { _, revealed = s.secret.Reveal() })
		wg.Wait()
		if (revealed == nil) != (ring == env.Ring) {
			t.Errorf("%s: revealed: %v", name, revealed)
		}
		got := told.take(t)
		if got.Actor != "ada" || got.User != user || got.Context.Value(requestKey{}) != name ||
			got.Context.Err() != nil {
			t.Errorf("%s: observed actor %q, user %q, request %v, context %v; want %q, %q, %q", name,
				got.Actor, got.User, got.Context.Value(requestKey{}), got.Context.Err(), "ada", user, name)
		}
		if !errors.Is(revealed, got.Err) || (revealed == nil) != (got.Err == nil) || got.Plaintext {
			t.Errorf("%s: observed %v and plaintext %v, Reveal returned %v", name, got.Err, got.Plaintext, revealed)
		}
		if !p.nameless && (got.Table != "user_credentials" || got.Column != s.column) {
			t.Errorf("%s: observed %s.%s", name, got.Table, got.Column)
		}
		if want := s.id; !p.rowless && !p.plain && got.Row != want {
			t.Errorf("%s: observed row %q, want %q", name, got.Row, want)
		}
	}
}
