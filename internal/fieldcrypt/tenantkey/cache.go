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

// Lifetime is how long a client uses a tenant's key before reading it again. A
// destroyed key is gone from every process after that time.
const Lifetime = time.Minute

const (
	// maxKnown is the number of tenants' keys that a cache keeps, not counting
	// the keys held by secrets that were read.
	maxKnown = 4096
	// timeout bounds the wait of a Reveal that has to read a key again: its
	// pool may have no free connection.
	timeout = 5 * time.Second
)

// Store reads and makes keys over the connection of the statement that needs
// them, so that it never waits for another connection.
type Store interface {
	// Ring returns the client's keyring.
	Ring() (*keyring.Ring, error)
	// Read is [Read] over the connection.
	Read(ctx context.Context, ring *keyring.Ring, tenants []string) (map[string]Key, error)
	// Make is [Make] over the connection.
	Make(ctx context.Context, ring *keyring.Ring, tenant string) error
	// Tx returns the connection's transaction, or nil if there is none.
	Tx() *Tx
}

// Lookup reports a cache's use to an observer.
type Lookup struct {
	Known int // keys found in the cache
	Read  int // keys read from the database
	Kept  int // change of the number of cached keys; negative if it fell
}

// Cache keeps tenants' keys for a limited time. It is safe for concurrent use.
type Cache struct {
	// Observe, if not nil, is called at each use. Set it before the first.
	Observe func(Lookup)

	pool Store // to read keys again

	mu    sync.Mutex
	known map[string]*entry
}

// NewCache returns an empty cache, which reads forgotten keys again from pool.
func NewCache(pool Store) *Cache {
	return &Cache{pool: pool, known: make(map[string]*entry)}
}

// Sealing holds the keys that encrypt a tenant's secrets in one statement, the
// encrypting key first, or the reason why there are none. It is zero for a
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
	// Known returns cached keys, and reads others; a tenant may have none.
	Known Need = iota
	// Current returns the keys that the server has now.
	Current
	// Made is Current in a transaction, else Known. It makes missing keys.
	Made
)

// entry holds a tenant's key as read at one time. It is emptied after the
// lifetime, even while others hold it.
type entry struct{ state atomic.Pointer[state] }

// state is a key, and a set of it and the keyring's keys, since rows that
// weren't re-encrypted may still be under the keyring.
type state struct {
	Key
	ring, all, own *keyring.Set // own has the key only
}

// keys returns all keys that open the tenant's tokens, the encrypting key
// first, and the tenant's own key, or nil. ok is false if the entry is nil or
// was emptied.
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

// sealing returns nil if the tenant has no key, or the entry was emptied.
func (e *entry) sealing(ring *keyring.Set) *Sealing {
	all, own, ok, err := e.keys(ring)
	if !ok || err == nil && own == nil {
		return nil
	}
	return &Sealing{all, own, e.wrapped(), err}
}

// wrapped returns the key as stored, or "".
func (e *entry) wrapped() string {
	if e != nil {
		if s := e.state.Load(); s != nil {
			return s.Wrapped
		}
	}
	return ""
}

// Tx is a transaction, as far as a cache needs to know it; nil means none. The
// cache doesn't share keys that the transaction made, since it may be rolled
// back, or keys read in a snapshot, since they may have been destroyed after it
// was taken. Keys read in the transaction are used until it ends: its server
// has the key, and gets the commit later.
type Tx struct {
	Snapshot bool
	// Prepared keeps every key read, even one that the transaction made, for
	// rows that are sealed while the connection is busy.
	Prepared bool
	Locked   atomic.Bool // the transaction has written already

	made, read sync.Map // tenants, and tenants' entries
}

// Reset clears t for another transaction.
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

// keep remembers an entry for the transaction. A key that the transaction made
// is read again, since a rollback to a savepoint may have undone it.
func (t *Tx) keep(tenant string, e *entry) {
	if t != nil && (t.Prepared || e.wrapped() != "" && !t.isMade(tenant)) {
		t.read.Store(tenant, e)
	}
}

// kept returns the entry that the transaction remembers, or nil.
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
	if e := c.known[tenant]; e != nil && e.state.Load() != nil { // nil while it is being forgotten
		return e
	}
	return nil
}

func (c *Cache) tell(l Lookup) {
	if c.Observe != nil && l != (Lookup{}) {
		c.Observe(l)
	}
}

// change calls by with the lock held, and reports the change of size.
func (c *Cache) change(by func()) {
	c.mu.Lock()
	before := len(c.known)
	by()
	kept := len(c.known) - before
	c.mu.Unlock()
	c.tell(Lookup{Kept: kept})
}

// share keeps an entry for other statements.
func (c *Cache) share(tenant string, e *entry) {
	c.change(func() { c.put(tenant, e) })
}

// put keeps an entry, and makes room for it first.
func (c *Cache) put(tenant string, e *entry) {
	for other := range c.known {
		if len(c.known) < maxKnown {
			break
		}
		delete(c.known, other)
	}
	c.known[tenant] = e
}

// forget empties an entry for all its holders, and removes it from the cache.
func (c *Cache) forget(tenant string, e *entry) {
	e.state.Store(nil)
	c.change(func() {
		if c.known[tenant] == e {
			delete(c.known, tenant)
		}
	})
}

// open returns tenants' entries, and reads those that aren't cached. A tenant
// without a key is no error.
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

// note replaces a tenant's entry with what was read.
func (c *Cache) note(tx *Tx, tenant string, key Key, since time.Time, old *entry) *entry {
	e := &entry{}
	e.state.Store(&state{Key: key})
	if tx == nil || !tx.Prepared {
		time.AfterFunc(time.Until(since.Add(Lifetime)), func() { c.forget(tenant, e) })
	}
	if old != nil && (tx == nil || !tx.Snapshot) {
		c.forget(tenant, old) // the server has lost it, or it was wrapped again
	}
	// Don't share that there is none: another client may make one any time.
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

// seal returns a tenant's keys. The known entry may have been emptied by now.
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
