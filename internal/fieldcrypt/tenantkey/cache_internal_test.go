package tenantkey

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	_ "modernc.org/sqlite"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

func newTestRing(t *testing.T) *keyring.Ring {
	t.Helper()
	ring, err := keyring.New(fernet.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// store is a [Store] for tests.
type store struct {
	on    dialect.ExecQuerier
	ring  *keyring.Ring
	tx    *Tx
	reads *atomic.Int64 // counts reads; may be nil
}

func (s store) Ring() (*keyring.Ring, error) { return s.ring, nil }
func (s store) Tx() *Tx                      { return s.tx }

func (s store) Read(ctx context.Context, ring *keyring.Ring, tenants []string) (map[string]Key, error) {
	if s.reads != nil {
		s.reads.Add(1)
	}
	return Read(ctx, s.on, ring, tenants)
}

func (s store) Make(ctx context.Context, ring *keyring.Ring, tenant string) error {
	return Make(ctx, s.on, ring, tenant)
}

// tenantTable returns a database with the tenant key table.
func tenantTable(t *testing.T) dialect.Driver {
	t.Helper()
	drv, err := entsql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "x.db")+"?_pragma=busy_timeout(60000)")
	if err != nil {
		t.Fatal(err)
	}
	drv.DB().SetMaxOpenConns(4)
	t.Cleanup(func() { _ = drv.Close() })
	run(t, drv, "CREATE TABLE credent_tenant_keys (tenant varchar PRIMARY KEY, wrapped varchar, created_at datetime, "+
		"destroyed_at datetime)")
	return entsql.NewDriver(dialect.SQLite, drv.Conn)
}

func run(t *testing.T, on dialect.ExecQuerier, query string, args ...any) {
	t.Helper()
	if err := on.Exec(t.Context(), query, append([]any{}, args...), nil); err != nil {
		t.Fatal(err)
	}
}

// Writers that race to make a tenant's key all use the same one.
func TestOneTenantKey(t *testing.T) {
	t.Parallel()
	on := store{on: tenantTable(t), ring: newTestRing(t)}
	const writers = 16
	tokens := make([]string, writers)
	var wait sync.WaitGroup
	for i := range writers {
		wait.Go(func() {
			found, err := NewCache(on).Seal(t.Context(), on, []string{"b", "a", "b"}, Made)
			if err != nil {
				t.Error(err)
				return
			}
			tokens[i] = found["a"].Keys.Encrypt("text")
		})
	}
	wait.Wait()
	read, err := Read(t.Context(), on.on, on.ring, []string{"a", "b", "c"})
	if err != nil {
		t.Fatal(err)
	}
	if read["b"].Data == nil || read["c"] != (Key{}) {
		t.Errorf("b has %v, c has %v", read["b"], read["c"])
	}
	for i, token := range tokens {
		if text, err := keyring.Of(read["a"].Data).Decrypt(token); text != "text" || err != nil {
			t.Errorf("writer %d: %v", i, err)
		}
	}
	if _, err := keyring.Of(read["b"].Data).Decrypt(tokens[0]); !errors.Is(err, fernet.ErrUnknownKey) {
		t.Errorf("another tenant's key opens it: %v", err)
	}
}

// After its lifetime, a key is gone from the cache and from all its holders.
func TestLifetime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testLifetime)
}

func testLifetime(t *testing.T) {
	t.Helper()
	on := store{on: tenantTable(t), ring: newTestRing(t)}
	cache := NewCache(on)
	if _, err := cache.Seal(t.Context(), on, []string{"a"}, Made); err != nil {
		t.Fatal(err)
	}
	ref := cache.NewRef(t.Context(), "a")
	held := ref.key.Load()
	all, own, err := ref.Keys(on.ring)
	if err != nil || len(own.Keys()) != 1 || own.Keys()[0] != all.Keys()[0] || len(all.Keys()) != 2 || held == nil ||
		!ref.IsKnown() {
		t.Fatalf("%v, %v", all, err)
	}
	if again, _, err := ref.Keys(on.ring); again != all || err != nil {
		t.Error("the set is built again each time")
	}
	run(t, on.on, "UPDATE credent_tenant_keys SET wrapped = NULL")
	time.Sleep(Lifetime)
	synctest.Wait()
	if held.state.Load() != nil || cache.lookup("a") != nil {
		t.Error("the key is held after its lifetime")
	}
	if ref.IsKnown() {
		t.Error("the key is known after its lifetime")
	}
	if _, _, err := ref.Keys(on.ring); !errors.Is(err, ErrShredded) || errors.Is(err, fernet.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	found, err := cache.Seal(t.Context(), on, []string{"a"}, Made)
	if err != nil || !errors.Is(found["a"].Err, ErrShredded) {
		t.Errorf("sealing: %v, %v", found["a"], err)
	}
}

// Keys live exactly as long as documented.
func TestLifetimeByTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		on := fakeStore{"a": {Err: ErrShredded}}
		cache := NewCache(on)
		if _, err := cache.open(t.Context(), on, nil, []string{"a"}, Known); err != nil {
			t.Fatal(err)
		}
		e := cache.lookup("a")
		time.Sleep(Lifetime - time.Nanosecond)
		synctest.Wait()
		if e.state.Load() == nil || cache.lookup("a") != e {
			t.Error("the key is gone too early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if e.state.Load() != nil || cache.lookup("a") != nil {
			t.Error("the key is still cached")
		}
	})
}

// fakeStore returns its own keys.
type fakeStore map[string]Key

func (s fakeStore) Ring() (*keyring.Ring, error) { return nil, keyring.ErrNoKey }
func (s fakeStore) Tx() *Tx                      { return nil }

func (s fakeStore) Read(_ context.Context, _ *keyring.Ring, tenants []string) (map[string]Key, error) {
	found := make(map[string]Key)
	for _, tenant := range tenants {
		found[tenant] = s[tenant]
	}
	return found, nil
}

func (s fakeStore) Make(context.Context, *keyring.Ring, string) error { return nil }

// A key that is being forgotten but is still in the cache is read again.
func TestForgottenMeanwhile(t *testing.T) {
	t.Parallel()
	on := store{on: tenantTable(t), ring: newTestRing(t)}
	cache := NewCache(on)
	if _, err := cache.Seal(t.Context(), on, []string{"a"}, Made); err != nil {
		t.Fatal(err)
	}
	ref := cache.NewRef(t.Context(), "a")
	cache.lookup("a").state.Store(nil) // forget does this first
	if all, _, err := ref.Keys(on.ring); err != nil || len(all.Keys()) != 2 {
		t.Errorf("revealing: %v", err)
	}
	cache = NewCache(on)
	cache.share("a", new(entry))
	if found, err := cache.Seal(t.Context(), on, []string{"a"}, Made); err != nil || found["a"].Err != nil ||
		len(found["a"].Keys.Keys()) != 2 {
		t.Errorf("sealing: %v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	cache := NewCache(nil)
	for i := range maxKnown + 10 {
		cache.share(fmt.Sprint(i), &entry{})
	}
	if n := len(cache.known); n != maxKnown {
		t.Errorf("%d entries are kept, want %d", n, maxKnown)
	}
}

// Keys that a transaction made, or read in a snapshot, aren't shared.
func TestTransactions(t *testing.T) {
	t.Parallel()
	drv, ring := tenantTable(t), newTestRing(t)
	on := store{on: drv, ring: ring}
	cache := NewCache(on)
	tx, err := drv.Tx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inTx := store{on: tx, ring: ring, tx: &Tx{}}
	first, err := cache.Seal(t.Context(), inTx, []string{"a"}, Made)
	if err != nil {
		t.Fatal(err)
	}
	again, err := cache.Seal(t.Context(), inTx, []string{"a"}, Made)
	if err != nil {
		t.Fatal(err)
	}
	if !fernet.Same(first["a"].Keys.Keys()[0], again["a"].Keys.Keys()[0]) {
		t.Error("the transaction has two keys")
	}
	if cache.lookup("a") != nil {
		t.Error("the key is known before it is committed")
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	after, err := cache.Seal(t.Context(), on, []string{"a"}, Made)
	if err != nil {
		t.Fatal(err)
	}
	if fernet.Same(first["a"].Keys.Keys()[0], after["a"].Keys.Keys()[0]) {
		t.Error("a key that was rolled back is used")
	}
	made := &Tx{}
	made.make("a")
	for name, test := range map[string]struct {
		tx     *Tx
		shared bool
	}{
		"a snapshot":       {&Tx{Snapshot: true}, false},
		"read committed":   {&Tx{}, true},
		"no transaction":   {nil, true},
		"one that made it": {made, false},
	} {
		fresh := NewCache(on)
		if _, err := fresh.open(t.Context(), store{on: drv, ring: ring, tx: test.tx}, ring, []string{"a"},
			Known); err != nil {
			t.Fatal(err)
		}
		if shared := fresh.lookup("a") != nil; shared != test.shared {
			t.Errorf("%s: shared %t, want %t", name, shared, test.shared)
		}
	}
}

// Replacing the keyring takes effect at once, also for cached keys.
func TestCacheFollowsTheKeyring(t *testing.T) {
	t.Parallel()
	on := store{on: tenantTable(t), ring: newTestRing(t)}
	cache := NewCache(on)
	found, err := cache.Seal(t.Context(), on, []string{"a"}, Made)
	if err != nil {
		t.Fatal(err)
	}
	data := found["a"].Keys.Keys()[0]
	next := keyring.Of(newTestRing(t).Primary(), on.ring.Primary())
	if _, err := on.ring.Replace(next); err != nil {
		t.Fatal(err)
	}
	all, _, err := cache.NewRef(t.Context(), "a").Keys(on.ring)
	if err != nil || len(all.Keys()) != 3 || !fernet.Same(all.Keys()[0], data) {
		t.Errorf("%d keys, %v", len(all.Keys()), err)
	}
	if _, _, err := NewCache(on).NewRef(context.Background(), "a").Keys(newTestRing(t)); !errors.Is(err,
		fernet.ErrUnknownKey) {
		t.Errorf("with another keyring: %v", err)
	}
}

// Without Made, Seal makes no keys, and reports destroyed ones.
func TestSealMakesNone(t *testing.T) {
	t.Parallel()
	on := store{on: tenantTable(t), ring: newTestRing(t)}
	if _, err := NewCache(on).Seal(t.Context(), on, []string{"a", "gone"}, Made); err != nil {
		t.Fatal(err)
	}
	run(t, on.on, "UPDATE credent_tenant_keys SET wrapped = NULL WHERE tenant = ?", "gone")
	cache := NewCache(on)
	for range 2 { // read, then cached
		found, err := cache.Seal(t.Context(), on, []string{"a", "gone", "none"}, Known)
		if err != nil {
			t.Fatal(err)
		}
		if s := found["a"]; s.Err != nil || len(s.Keys.Keys()) != 2 {
			t.Errorf("an existing key: got %+v", s)
		}
		if s := found["none"]; s.Err != nil || s.Keys != nil {
			t.Errorf("none: got %+v", s)
		}
		if !errors.Is(found["gone"].Err, ErrShredded) {
			t.Errorf("a destroyed key: %v", found["gone"].Err)
		}
	}
	read, err := Read(t.Context(), on.on, on.ring, []string{"none"})
	if err != nil || read["none"] != (Key{}) {
		t.Errorf("a key was made: %v, %v", read["none"], err)
	}
	// Tokens under the tenant's key still open.
	if all, _, err := cache.NewRef(t.Context(), "a").Keys(on.ring); err != nil || len(all.Keys()) != 2 {
		t.Errorf("got %v", err)
	}
}

// Prepared keys are used until the next transaction, without reading them
// again.
func TestPrepared(t *testing.T) {
	t.Parallel()
	on := store{
		on: tenantTable(t), ring: newTestRing(t), tx: &Tx{Snapshot: true, Prepared: true},
		reads: new(atomic.Int64),
	}
	cache := NewCache(on)
	first, err := cache.Seal(t.Context(), on, []string{"b", "a"}, Made)
	if err != nil {
		t.Fatal(err)
	}
	before := on.reads.Load()
	again, err := cache.Seal(t.Context(), on, []string{"a", "b"}, Made)
	if err != nil || first["a"].Wrapped == "" || *again["a"] != *first["a"] || on.reads.Load() != before {
		t.Errorf("got %v, %v after %d more reads", again, err, on.reads.Load()-before)
	}
	on.tx.Reset()
	if _, err := cache.Seal(t.Context(), on, []string{"a"}, Current); err != nil || on.reads.Load() == before {
		t.Errorf("keys of an earlier transaction are kept, or %v", err)
	}
}

// A transaction reads the key once from its server, even if the client has it
// cached. If the key differs, all statements use the new one from then on.
func TestCurrent(t *testing.T) {
	t.Parallel()
	on := store{on: tenantTable(t), ring: newTestRing(t), reads: new(atomic.Int64)}
	cache := NewCache(on)
	seal := func(on store, need Need) *Sealing {
		t.Helper()
		found, err := cache.Seal(t.Context(), on, []string{"a"}, need)
		if err != nil {
			t.Fatal(err)
		}
		return found["a"]
	}
	lost := seal(on, Made)
	ref := cache.NewRef(t.Context(), "a")
	run(t, on.on, "DELETE FROM credent_tenant_keys")
	if got := seal(on, Made); got.Wrapped != lost.Wrapped {
		t.Error("outside a transaction, the cached key isn't used")
	}
	in := on
	in.tx = new(Tx)
	made := seal(in, Made)
	if made.Wrapped == lost.Wrapped || fernet.Same(made.Own.Keys()[0], lost.Own.Keys()[0]) {
		t.Error("the key that the server lost is used")
	}
	if ref.IsKnown() {
		t.Error("refs still have the key that the server lost")
	}
	in.tx = new(Tx)
	before := on.reads.Load()
	for range 3 {
		if got := seal(in, Made); got.Wrapped != made.Wrapped {
			t.Error("it isn't the server's key")
		}
	}
	if n := on.reads.Load() - before; n != 1 {
		t.Errorf("a transaction reads the key %d times", n)
	}

	// Wrapped again, it is the same key, cached in its new form.
	key, _, err := Unwrap(on.ring, "a", made.Wrapped)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := Wrap(on.ring, "a", key)
	if err != nil {
		t.Fatal(err)
	}
	run(t, on.on, "UPDATE credent_tenant_keys SET wrapped = ?", wrapped)
	in.tx = new(Tx)
	if got := seal(in, Current); got.Wrapped != wrapped || !fernet.Same(got.Own.Keys()[0], made.Own.Keys()[0]) {
		t.Error("a key that was wrapped again differs")
	}
	if got := seal(on, Known); got.Wrapped != wrapped {
		t.Error("the old wrapped form is still cached")
	}
	in.tx = &Tx{Snapshot: true}
	run(t, on.on, "UPDATE credent_tenant_keys SET wrapped = NULL")
	if got := seal(in, Current); !errors.Is(got.Err, ErrShredded) {
		t.Errorf("destroyed: got %v", got.Err)
	}
}

// All keys of a result are read at once, even if they take several statements.
func TestFill(t *testing.T) {
	t.Parallel()
	on := store{on: tenantTable(t), ring: newTestRing(t), reads: new(atomic.Int64)}
	for i := range 3 {
		if err := Make(t.Context(), on.on, on.ring, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	cache := NewCache(on)
	refs := make(map[string]*Ref)
	for i := range maxAtOnce + 1 {
		refs[fmt.Sprint(i)] = cache.NewRef(t.Context(), fmt.Sprint(i))
	}
	if err := cache.Fill(t.Context(), on, refs); err != nil || on.reads.Load() != 1 {
		t.Errorf("got %v after %d reads", err, on.reads.Load())
	}
	for tenant, ref := range refs {
		want := 1
		if tenant < "3" && len(tenant) == 1 {
			want = 2
		}
		if all, _, err := ref.Keys(on.ring); !ref.IsKnown() || err != nil || len(all.Keys()) != want {
			t.Errorf("%s: got %v", tenant, err)
		}
	}
	if err := cache.Fill(t.Context(), on, refs); err != nil || on.reads.Load() != 1 {
		t.Errorf("once more: %v after %d reads", err, on.reads.Load())
	}
	run(t, on.on, "DROP TABLE credent_tenant_keys")
	if err := cache.Fill(t.Context(), on, map[string]*Ref{"new": cache.NewRef(t.Context(), "new")}); err == nil {
		t.Error("there is no error without the table")
	}
}
