package tenantkey

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// Lifetime is how long a client uses a tenant's key before it reads it again.
// A destroyed key is gone from every process after that time.
const Lifetime = time.Minute

const (
	// maxKnown is the number of tenants' keys that a cache keeps, besides the
	// keys of secrets that were read.
	maxKnown = 4096
	// timeout bounds the wait of a Reveal that has to read a key again: its
	// pool may have no free connection.
	timeout = 5 * time.Second
)

// Store reads and makes keys, over the connection of the statement that needs
// them: no other connection is waited for.
type Store interface {
	// Ring returns the client's keyring.
	Ring() (*keyring.Ring, error)
	// Read is [Read] over the connection.
	Read(ctx context.Context, ring *keyring.Ring, tenants []string) (map[string]Key, error)
	// Make is [Make] over the connection.
	Make(ctx context.Context, ring *keyring.Ring, tenant string) error
	// Tx returns the connection's transaction, or nil if it is in none.
	Tx() *Tx
}

// Lookup tells an observer what a cache was asked for.
type Lookup struct {
	Known int // tenants with keys that it had
	Read  int // tenants with keys read from the database
	Kept  int // how many more tenants it knows now; negative if it forgot some
}

// Cache keeps tenants' keys for a limited time. It is safe for concurrent use.
type Cache struct {
	// Observe is told what the cache is asked for; nil for nobody. It must be
	// set before the cache is used.
	Observe func(Lookup)

	pool Store // to read keys again

	mu    sync.Mutex
	known map[string]*entry
}

// NewCache returns an empty cache, which reads forgotten keys again from pool.
func NewCache(pool Store) *Cache {
	return &Cache{pool: pool, known: make(map[string]*entry)}
}

// Sealing is the keys that encrypt a tenant's secrets in one statement, the
// encrypting key first, or the reason why there are none. All are nil for a
// tenant without a key, if none was to be made.
type Sealing struct {
	Keys    *keyring.Set
	Own     *keyring.Set // has the tenant's key only
	Wrapped string       // the key as it is stored
	Err     error
}

// Need says which keys [Cache.Seal] returns.
type Need int

const (
	// Known takes the known keys; a tenant may have none.
	Known Need = iota
	// Current takes the keys that the server has now.
	Current
	// Made is Current in a transaction and else Known, and makes missing ones.
	Made
)

// entry is what was read about a tenant at one time. It forgets that after the
// lifetime, whoever holds it.
type entry struct{ state atomic.Pointer[state] }

// state is a key, and the set made of it and the keyring's keys, which rows
// that were not rewritten may still be under.
type state struct {
	Key
	ring, all, own *keyring.Set // own has the key only
}

// keys returns the keys that open the tenant's tokens, the encrypting key
// first, and the tenant's own, or nil. It reports false if the key is
// forgotten.
func (e *entry) keys(ring *keyring.Set) (all, own *keyring.Set, ok bool, err error) {
	if e == nil {
		return nil, nil, false, nil
	}
	s := e.state.Load()
	switch {
	case s == nil:
		return nil, nil, false, nil
	case s.Err != nil:
		return nil, nil, true, s.Err
	case s.Data == nil:
		return ring, nil, true, nil
	case s.ring == ring:
		return s.all, s.own, true, nil
	}
	fresh := &state{Key: s.Key, ring: ring, all: ring.Prepend(s.Data), own: s.own}
	if fresh.own == nil {
		if fresh.own, err = keyring.Load(keyring.Of(s.Data)); err != nil {
			return nil, nil, true, err
		}
	}
	e.state.CompareAndSwap(s, fresh)
	return fresh.all, fresh.own, true, nil
}

// sealing returns nil if there is no key, or none any more.
func (e *entry) sealing(ring *keyring.Set) *Sealing {
	all, own, ok, err := e.keys(ring)
	if !ok || err == nil && own == nil {
		return nil
	}
	return &Sealing{all, own, e.wrapped(), err}
}

// wrapped returns the key as it was stored, or "".
func (e *entry) wrapped() string {
	if e != nil {
		if s := e.state.Load(); s != nil {
			return s.Wrapped
		}
	}
	return ""
}

// Tx is what a cache has to know about a transaction; nil is none. It doesn't
// share keys that the transaction made, since it may be rolled back, nor keys
// read in a snapshot, which may be older than their destruction. What it has
// read counts until it ends: its server has the key, and gets the commit later.
type Tx struct {
	Snapshot bool
	// Prepared keeps what is read, also keys that the transaction made, for
	// rows that are sealed while its connection isn't free.
	Prepared bool
	Locked   atomic.Bool // it is one that writes already

	made, read sync.Map // tenants, and tenants' entries
}

// Reset makes it another transaction.
func (t *Tx) Reset() {
	t.made.Clear()
	t.read.Clear()
}

func (t *Tx) make(tenant string) {
	if t != nil {
		t.made.Store(tenant, true)
	}
}

func (t *Tx) shares(tenant string) bool { return t == nil || !t.Snapshot && !t.isMade(tenant) }

func (t *Tx) isMade(tenant string) bool {
	_, made := t.made.Load(tenant)
	return made
}

// keep keeps what was read. A key that the transaction made may be undone by a
// savepoint, and is read again.
func (t *Tx) keep(tenant string, e *entry) {
	if t != nil && (t.Prepared || e.wrapped() != "" && !t.isMade(tenant)) {
		t.read.Store(tenant, e)
	}
}

// kept returns what was read in the transaction, or nil.
func (t *Tx) kept(tenant string) *entry {
	if t != nil {
		if e, ok := t.read.Load(tenant); ok && e.(*entry).state.Load() != nil {
			return e.(*entry)
		}
	}
	return nil
}

func (c *Cache) lookup(tenant string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.known[tenant]; e != nil && e.state.Load() != nil { // or it is just being forgotten
		return e
	}
	return nil
}

func (c *Cache) tell(l Lookup) {
	if c.Observe != nil && l != (Lookup{}) {
		c.Observe(l)
	}
}

// change changes what the cache knows, by a function that has the lock.
func (c *Cache) change(by func()) {
	c.mu.Lock()
	before := len(c.known)
	by()
	kept := len(c.known) - before
	c.mu.Unlock()
	c.tell(Lookup{Kept: kept})
}

// share keeps what was read about a tenant for other statements.
func (c *Cache) share(tenant string, e *entry) {
	c.change(func() { c.put(tenant, e) })
}

// put makes room, and keeps an entry.
func (c *Cache) put(tenant string, e *entry) {
	for other := range c.known {
		if len(c.known) < maxKnown {
			break
		}
		delete(c.known, other)
	}
	c.known[tenant] = e
}

// forget makes everybody forget an entry.
func (c *Cache) forget(tenant string, e *entry) {
	e.state.Store(nil)
	c.change(func() {
		if c.known[tenant] == e {
			delete(c.known, tenant)
		}
	})
}

// open returns what is known about tenants, and reads what isn't. A tenant
// without a key has no error.
func (c *Cache) open(
	ctx context.Context, on Store, ring *keyring.Ring, tenants []string, need Need,
) (map[string]*entry, error) {
	found := make(map[string]*entry, len(tenants))
	missing := slices.DeleteFunc(slices.Clone(tenants), func(tenant string) bool {
		e := on.Tx().kept(tenant)
		if e == nil && (need == Known || need == Made && on.Tx() == nil) {
			e = c.lookup(tenant)
		}
		if e != nil {
			found[tenant] = e
		}
		return e != nil
	})
	c.tell(Lookup{Known: len(found)})
	if len(missing) == 0 {
		return found, nil
	}
	fresh, err := c.read(ctx, on, ring, missing)
	maps.Copy(found, fresh)
	return found, err
}

func (c *Cache) read(ctx context.Context, on Store, ring *keyring.Ring, tenants []string) (map[string]*entry, error) {
	c.tell(Lookup{Read: len(tenants)})
	since := time.Now()
	keys, err := on.Read(ctx, ring, tenants)
	if err != nil {
		return nil, err
	}
	found := make(map[string]*entry, len(tenants))
	for tenant, key := range keys {
		e := c.lookup(tenant)
		if key.Wrapped == "" || e.wrapped() != key.Wrapped {
			e = c.note(on.Tx(), tenant, key, since, e)
		}
		found[tenant] = e
		on.Tx().keep(tenant, e)
	}
	return found, nil
}

// note replaces what the cache knew about a tenant by what was read.
func (c *Cache) note(tx *Tx, tenant string, key Key, since time.Time, old *entry) *entry {
	e := &entry{}
	e.state.Store(&state{Key: key})
	if tx == nil || !tx.Prepared {
		time.AfterFunc(time.Until(since.Add(Lifetime)), func() { c.forget(tenant, e) })
	}
	if old != nil && (tx == nil || !tx.Snapshot) {
		c.forget(tenant, old) // the server has lost it, or it was wrapped again
	}
	// A missing key isn't cached: somebody may make one at any moment.
	if (key.Data != nil || errors.Is(key.Err, ErrShredded)) && tx.shares(tenant) {
		c.share(tenant, e)
	}
	return e
}

// Seal returns the keys that encrypt tenants' secrets. If two clients race to
// make one, both use the first key stored.
func (c *Cache) Seal(ctx context.Context, on Store, tenants []string, need Need) (map[string]*Sealing, error) {
	result := make(map[string]*Sealing, len(tenants))
	tenants = slices.Compact(slices.Sorted(slices.Values(tenants))) // in one order, or two transactions could deadlock
	ring, err := on.Ring()
	if err != nil {
		return nil, err
	}
	bare, err := keyring.Load(ring)
	if err != nil {
		return nil, err
	}
	found, err := c.open(ctx, on, ring, tenants, need)
	for _, tenant := range tenants {
		if err != nil {
			return nil, err
		}
		result[tenant], err = c.seal(ctx, on, ring, bare, tenant, found[tenant], need == Made)
	}
	return result, err
}

// seal returns a tenant's keys. The cache may have forgotten it by now.
func (c *Cache) seal(
	ctx context.Context, on Store, ring *keyring.Ring, bare *keyring.Set, tenant string, known *entry, makes bool,
) (*Sealing, error) {
	if keys := known.sealing(bare); keys != nil {
		return keys, nil
	}
	if makes {
		on.Tx().make(tenant)
		if err := on.Make(ctx, ring, tenant); err != nil {
			return nil, err
		}
	}
	fresh, err := c.read(ctx, on, ring, []string{tenant})
	if err != nil {
		return nil, err
	}
	switch keys := fresh[tenant].sealing(bare); {
	case keys != nil:
		return keys, nil
	case makes:
		return nil, errors.New("the tenant's key is missing")
	}
	return &Sealing{}, nil
}
