package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/testdb"
	"github.com/credent-go/credent/internal/testopt"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// TestKeyringSwappedUnderLoad performs whole rotations of a running service,
// each step a reload, while many goroutines store and read secrets: every one
// opens, including secrets read before a reload and revealed after it.
func TestKeyringSwappedUnderLoad(t *testing.T) {
	t.Parallel()
	const (
		workers   = 8
		rows      = 30
		rotations = 2
	)
	testdb.ForEachDriver(t, func(t *testing.T, env *testdb.Env) {
		service := startReloading(t, env)
		account := env.Account(t, "u1")
		ids := make([]*ent.UserCredential, rows)
		for i := range ids {
			ids[i] = env.Credential(t, account, fmt.Sprintf("PK-%d-0", i), fmt.Sprintf("s-%d-0", i))
		}
		load := &load{client: service.client, rows: ids, tokens: make(chan credent.Secret, 64)}
		var running sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for worker := range workers {
			running.Go(func() { load.work(ctx, t, worker) })
		}
		stop := sync.OnceFunc(func() { cancel(); running.Wait() })
		defer stop()

		drain := func() {
			if err := load.drain(); err != nil {
				t.Error(err)
			}
		}
		primary := env.Key
		for range rotations {
			next := keyring.GenerateKey()
			service.reload(t, primary, next) // to read
			service.reload(t, next, primary)
			drain() // wait until writes under the old key reach the database
			if _, err := rotate.Run(t.Context(), env.DB, service.ring, rotate.Config{Batch: 7}); err != nil {
				t.Fatal(err)
			}
			drain() // wait until tokens read under the old key are revealed
			service.reload(t, next)
			primary = next
		}
		stop()
		if load.written.Load() < 100 || load.revealed.Load() < 100 {
			t.Errorf("only %d writes and %d reads took place", load.written.Load(), load.revealed.Load())
		}
		t.Logf("%d writes and %d reads beside %d reloads", load.written.Load(), load.revealed.Load(), 3*rotations)
		counts, err := rotate.Verify(t.Context(), env.DB, testdb.Keyring(t, primary))
		if err != nil || counts.Err() != nil {
			t.Errorf("not all under the last key: %v, %v", err, counts.Err())
		}
	})
}

// reloading is a service with a keyring that is refreshed from the test's
// source.
type reloading struct {
	client *ent.Client
	ring   *keyring.Keyring
	keys   atomic.Pointer[[]string]
	events chan keyring.Event
}

func startReloading(t *testing.T, env *testdb.Env) *reloading {
	t.Helper()
	s := &reloading{events: make(chan keyring.Event)}
	s.keys.Store(&[]string{env.Key})
	source := func(context.Context) (*keyring.Keyring, error) {
		keys := *s.keys.Load()
		return keyring.New(keys[0], keys[1:]...)
	}
	var err error
	s.ring, err = keyring.Watch(t.Context(), source, keyring.WatchConfig{
		Interval: time.Millisecond,
		Observe: func(e keyring.Event) {
			select {
			case s.events <- e:
			case <-t.Context().Done():
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.client = env.OnPool(testopt.WithKeyring(s.ring))
	return s
}

// reload changes the source and waits for the service to follow.
func (s *reloading) reload(t *testing.T, keys ...string) {
	t.Helper()
	s.keys.Store(&keys)
	e := <-s.events
	if e.Err != nil || len(e.After) != len(keys) || e.After[0] != testdb.Keyring(t, keys[0]).Primary().ID() {
		t.Fatalf("reload: %+v", e)
	}
}

// load is the service's work meanwhile.
type load struct {
	client            *ent.Client
	rows              []*ent.UserCredential
	tokens            chan credent.Secret // read, to be revealed by another worker
	written, revealed atomic.Int64

	// Each operation read-locks underWay from its first to its last use of a
	// key or a token.
	underWay sync.RWMutex
}

// drain waits for running operations to end, as an operator does between the
// steps of a rotation.
func (l *load) drain() error {
	l.underWay.Lock()
	defer l.underWay.Unlock()
	for len(l.tokens) > 0 {
		if err := l.reveal(<-l.tokens, "s-"); err != nil {
			return err
		}
	}
	return nil
}

func (l *load) work(ctx context.Context, t *testing.T, worker int) {
	t.Helper()
	for n := 0; ctx.Err() == nil; n++ {
		if err := l.step(worker, n); err != nil && ctx.Err() == nil {
			t.Errorf("worker %d, step %d: %v", worker, n, err)
			return
		}
	}
}

// step stores a secret in a row, and reads every row and the tokens that other
// workers read.
func (l *load) step(worker, n int) error {
	l.underWay.RLock()
	defer l.underWay.RUnlock()
	ctx := context.Background() // a statement cancelled halfway would show nothing about keys
	i := (worker*7 + n) % len(l.rows)
	secret := fmt.Sprintf("PK-%d-%d-%d", i, worker, n)
	update := l.client.UserCredential.UpdateOneID(l.rows[i].ID).SetAPIKey(credent.NewSecret(secret))
	if err := update.Exec(ctx); err != nil {
		return err
	}
	l.written.Add(1)
	read, err := l.client.UserCredential.Query().
		Where(usercredential.IDIn(l.rows[i].ID, l.rows[(i+1)%len(l.rows)].ID)).All(ctx)
	if err != nil {
		return err
	}
	for _, row := range read {
		at := slices.IndexFunc(l.rows, func(r *ent.UserCredential) bool { return r.ID == row.ID })
		if err := l.reveal(row.APIKey, fmt.Sprintf("PK-%d-", at)); err != nil {
			return err
		}
		select {
		case l.tokens <- row.SecretKey:
		case kept := <-l.tokens:
			if err := l.reveal(kept, "s-"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *load) reveal(s credent.Secret, prefix string) error {
	got, err := s.Reveal()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(got, prefix) {
		return fmt.Errorf("a secret that should begin with %s has %d other bytes", prefix, len(got))
	}
	l.revealed.Add(1)
	return nil
}
