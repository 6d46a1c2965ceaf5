package fieldcrypt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	_ "modernc.org/sqlite"
)

// tenantTable returns a database with the table of keys.
func tenantTable(t *testing.T) dialect.Driver {
	t.Helper()
	drv, err := entsql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "x.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	drv.DB().SetMaxOpenConns(4)
	t.Cleanup(func() { _ = drv.Close() })
	run(t, drv, "CREATE TABLE credent_tenant_keys (tenant varchar PRIMARY KEY, wrapped varchar, created_at datetime, destroyed_at datetime)")
	return entsql.NewDriver(dialect.SQLite, drv.Conn)
}

func run(t *testing.T, on dialect.ExecQuerier, query string, args ...any) {
	t.Helper()
	if err := on.Exec(t.Context(), query, append([]any{}, args...), nil); err != nil {
		t.Fatal(err)
	}
}

// Of writers who need a tenant's key at once, each ends with the same.
func TestOneTenantKey(t *testing.T) {
	t.Parallel()
	drv, ring := tenantTable(t), newTestRing(t, 1)
	const writers = 16
	tokens := make([]string, writers)
	var wait sync.WaitGroup
	for i := range writers {
		wait.Go(func() {
			found, err := newTenantKeys(drv).toSeal(t.Context(), drv, nil, ring, []string{"b", "a", "b"})
			if err != nil {
				t.Error(err)
				return
			}
			tokens[i] = encrypt(found["a"].keys.list[0], "text")
		})
	}
	wait.Wait()
	read, err := ReadTenantKeys(t.Context(), drv, ring, []string{"a", "b", "c"})
	if err != nil {
		t.Fatal(err)
	}
	if read["b"].Data == nil || read["c"] != (TenantKey{}) {
		t.Errorf("b has %v, c has %v", read["b"], read["c"])
	}
	for i, token := range tokens {
		if text, err := KeyringOf(read["a"].Data).Decrypt(token); text != "text" || err != nil {
			t.Errorf("writer %d: %v", i, err)
		}
	}
	if _, err := KeyringOf(read["b"].Data).Decrypt(tokens[0]); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("the key of another tenant opens it: %v", err)
	}
}

// A key that was read is gone when its lifetime is over, from the cache and from whoever holds it.
func TestTenantKeyLifetime(t *testing.T) {
	t.Parallel()
	drv, ring := tenantTable(t), newTestRing(t, 1)
	keys := newTenantKeys(drv)
	keys.lifetime = 300 * time.Millisecond
	if _, err := keys.toSeal(t.Context(), drv, nil, ring, []string{"a"}); err != nil {
		t.Fatal(err)
	}
	ref := keys.newRef(t.Context(), "a")
	held := ref.key.Load()
	all, err := ref.keys(ring)
	if err != nil || len(all.list) != 2 || held == nil {
		t.Fatalf("%v, %v", all, err)
	}
	if again, err := ref.keys(ring); again != all || err != nil {
		t.Error("the keys are made anew each time")
	}
	run(t, drv, "UPDATE credent_tenant_keys SET wrapped = NULL")
	for held.state.Load() != nil || keys.lookup("a") != nil {
		time.Sleep(10 * time.Millisecond)
	}
	if _, err := ref.keys(ring); !errors.Is(err, ErrShredded) || errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	found, err := keys.toSeal(t.Context(), drv, nil, ring, []string{"a"})
	if err != nil || !errors.Is(found["a"].err, ErrShredded) {
		t.Errorf("sealing: %v, %v", found["a"], err)
	}
}

// The lifetime is the one that is documented.
func TestTenantKeyLifetimeByTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		keys := newTenantKeys(nil)
		key := &tenantKey{}
		key.state.Store(&tenantState{TenantKey: TenantKey{Err: ErrShredded}})
		keys.share("a", key)
		keys.forgetAfter("a", key, time.Now())
		time.Sleep(TenantKeyLifetime - time.Nanosecond)
		synctest.Wait()
		if key.state.Load() == nil || keys.lookup("a") != key {
			t.Error("it is gone before")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if key.state.Load() != nil || keys.lookup("a") != nil {
			t.Error("it is still there")
		}
	})
}

func TestTenantKeysAreBounded(t *testing.T) {
	t.Parallel()
	keys := newTenantKeys(nil)
	for i := range maxTenantKeys + 10 {
		keys.share(fmt.Sprint(i), &tenantKey{})
	}
	if n := len(keys.known); n != maxTenantKeys {
		t.Errorf("%d are kept, want %d", n, maxTenantKeys)
	}
}

// What a transaction has made is not known to others, since it may be rolled back; and what a snapshot shows is not either.
func TestTenantKeysOfTransactions(t *testing.T) {
	t.Parallel()
	drv, ring := tenantTable(t), newTestRing(t, 1)
	keys := newTenantKeys(drv)
	tx, err := drv.Tx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	state := &tenantTx{}
	first, err := keys.toSeal(t.Context(), tx, state, ring, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := keys.toSeal(t.Context(), tx, state, ring, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	if !sameKey(first["a"].keys.list[0], again["a"].keys.list[0]) {
		t.Error("the transaction has two keys")
	}
	if keys.lookup("a") != nil {
		t.Error("the key is known before it is committed")
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	after, err := keys.toSeal(t.Context(), drv, nil, ring, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	if sameKey(first["a"].keys.list[0], after["a"].keys.list[0]) {
		t.Error("a key that was rolled back is used")
	}
	for name, test := range map[string]struct {
		tx     *tenantTx
		shared bool
	}{
		"a snapshot":       {&tenantTx{snapshot: true}, false},
		"read committed":   {&tenantTx{}, true},
		"no transaction":   {nil, true},
		"one that made it": {&tenantTx{made: map[string]bool{"a": true}}, false},
	} {
		fresh := newTenantKeys(drv)
		if _, err := fresh.toOpen(t.Context(), drv, test.tx, ring, []string{"a"}); err != nil {
			t.Fatal(err)
		}
		if shared := fresh.lookup("a") != nil; shared != test.shared {
			t.Errorf("%s: shared %t, want %t", name, shared, test.shared)
		}
	}
}

// A keyring that is replaced counts at once, also for keys that are known.
func TestTenantKeysFollowTheKeyring(t *testing.T) {
	t.Parallel()
	drv, ring := tenantTable(t), newTestRing(t, 1)
	keys := newTenantKeys(drv)
	found, err := keys.toSeal(t.Context(), drv, nil, ring, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	data := found["a"].keys.list[0]
	next := KeyringOf(newTestRing(t, 1).Primary(), ring.Primary())
	if _, err := ring.Replace(next); err != nil {
		t.Fatal(err)
	}
	all, err := keys.newRef(t.Context(), "a").keys(ring)
	if err != nil || len(all.list) != 3 || !sameKey(all.list[0], data) {
		t.Errorf("%d keys, %v", len(all.list), err)
	}
	other := newTestRing(t, 1)
	if _, err := newTenantKeys(drv).newRef(context.Background(), "a").keys(other); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("with another keyring: %v", err)
	}
}
