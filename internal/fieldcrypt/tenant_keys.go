package fieldcrypt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"entgo.io/ent/dialect"
)

// TenantKeyLifetime is how long a client uses the data key of a tenant before it reads it again. A key that is destroyed is gone
// from every process after that time.
const TenantKeyLifetime = time.Minute

const (
	// maxTenantKeys is the number of tenants whose keys a client keeps, beside those of secrets that were read.
	maxTenantKeys = 4096
	// tenantKeyTimeout is how long a Reveal waits for a key that it has to read again: its pool may have no free connection.
	tenantKeyTimeout = 5 * time.Second
)

// tenantKeys are the data keys of a client's tenants. Keys are read and made over the connection of the statement that needs them,
// before it is run or after its rows are read, so that no other connection is waited for; and kept for a limited time. It is safe
// for concurrent use.
type tenantKeys struct {
	pool     dialect.ExecQuerier
	lifetime time.Duration
	readOnly bool // secrets are sealed under the keyring

	mu       sync.Mutex
	known    map[string]*tenantKey
	prepared map[string]*sealKeys // of a Sealer
}

// sealKeys are the keys of a tenant for one statement, the one that seals first; or the reason why there are none.
type sealKeys struct {
	keys *keys
	err  error
}

// keySource gives the keys of tenants for a statement that is about to be run.
type keySource func(ctx context.Context, tenants []string) (map[string]*sealKeys, error)

func newTenantKeys(pool dialect.ExecQuerier) *tenantKeys {
	return &tenantKeys{pool: pool, lifetime: TenantKeyLifetime, known: make(map[string]*tenantKey)}
}

// tenantKey is what was read of a tenant at a time. It forgets it after the lifetime, whoever holds it.
type tenantKey struct {
	state atomic.Pointer[tenantState] // nil once forgotten
}

// TenantKey is what is known of a tenant's data key. The zero value is that of a tenant that has none yet.
type TenantKey struct {
	Data *Key
	Err  error // [ErrShredded], or why the key cannot be had
}

// tenantState is a key and what was made with it.
type tenantState struct {
	TenantKey

	// The data key and those of the keyring, which may still be those of rows that were not rewritten.
	ring, all *keys
}

// keys returns the keys that open the tenant's tokens, the one that seals them first.
func (s *tenantState) keys(ring *keys) (*keys, error) {
	switch {
	case s.Err != nil:
		return nil, s.Err
	case s.Data == nil:
		return ring, nil
	case s.ring == ring:
		return s.all, nil
	}
	return &keys{list: append([]*Key{s.Data}, ring.list...)}, nil
}

// keys is that of the state, and remembers what it made. It reports false if the key is forgotten.
func (t *tenantKey) keys(ring *keys) (all *keys, ok bool, err error) {
	if t == nil {
		return nil, false, nil
	}
	state := t.state.Load()
	if state == nil {
		return nil, false, nil
	}
	if all, err = state.keys(ring); err == nil && state.Data != nil && state.ring != ring {
		t.state.CompareAndSwap(state, &tenantState{TenantKey: state.TenantKey, ring: ring, all: all})
	}
	return all, true, err
}

// lookup returns what is known of a tenant, or nil.
func (t *tenantKeys) lookup(tenant string) *tenantKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known[tenant]
}

// share keeps what was read of a tenant for other statements.
func (t *tenantKeys) share(tenant string, key *tenantKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for other := range t.known {
		if len(t.known) < maxTenantKeys {
			break
		}
		delete(t.known, other)
	}
	t.known[tenant] = key
}

// forgetAfter makes what was read of a tenant at a time be forgotten when its lifetime is over.
func (t *tenantKeys) forgetAfter(tenant string, key *tenantKey, since time.Time) {
	time.AfterFunc(time.Until(since.Add(t.lifetime)), func() {
		key.state.Store(nil)
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.known[tenant] == key {
			delete(t.known, tenant)
		}
	})
}

// tenantTx is what has to be known of a transaction. Keys that it made are not shared, for it may be rolled back, and neither are
// those that it reads in a snapshot, which may be older than their destruction.
type tenantTx struct {
	snapshot bool

	mu   sync.Mutex
	made map[string]bool
}

func (t *tenantTx) make(tenant string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.made == nil {
		t.made = make(map[string]bool)
	}
	t.made[tenant] = true
}

// shares reports whether what a statement reads of a tenant is so for others. A nil tenantTx is no transaction.
func (t *tenantTx) shares(tenant string) bool {
	if t == nil {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.snapshot && !t.made[tenant]
}

// toOpen returns what is known of tenants, and reads what is not. A tenant without a key has no error.
func (t *tenantKeys) toOpen(
	ctx context.Context, on dialect.ExecQuerier, tx *tenantTx, ring *Keyring, tenants []string,
) (map[string]*tenantKey, error) {
	found := make(map[string]*tenantKey, len(tenants))
	var missing []string
	for _, tenant := range tenants {
		if key := t.lookup(tenant); key != nil {
			found[tenant] = key
		} else {
			missing = append(missing, tenant)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	read, err := t.read(ctx, on, tx, ring, missing)
	maps.Copy(found, read)
	return found, err
}

// toSeal returns the keys that tenants' secrets are sealed with, and makes those that are missing. Of two that make one at once,
// both end with that of the first.
func (t *tenantKeys) toSeal(
	ctx context.Context, on dialect.ExecQuerier, tx *tenantTx, ring *Keyring, tenants []string,
) (map[string]*sealKeys, error) {
	bare, err := ring.load()
	if err != nil {
		return nil, err
	}
	tenants = slices.Compact(slices.Sorted(slices.Values(tenants))) // in one order, or two transactions could wait for each other
	found, err := t.toOpen(ctx, on, tx, ring, tenants)
	if err != nil {
		return nil, err
	}
	result := make(map[string]*sealKeys, len(tenants))
	for _, tenant := range tenants {
		if result[tenant] = found[tenant].toSeal(bare); result[tenant] != nil {
			if t.readOnly {
				result[tenant].keys = bare
			}
			continue
		}
		if !t.readOnly {
			tx.make(tenant)
			if err := MakeTenantKey(ctx, on, ring, tenant); err != nil {
				return nil, err
			}
		}
		// Also where nothing was made: what was known may have been forgotten in this moment.
		read, err := t.read(ctx, on, tx, ring, []string{tenant})
		if err != nil {
			return nil, err
		}
		if t.readOnly {
			if state := read[tenant].state.Load(); state != nil {
				result[tenant] = &sealKeys{bare, state.Err}
				continue
			}
		}
		if result[tenant] = read[tenant].toSeal(bare); result[tenant] == nil {
			return nil, errors.New("the key of the tenant is not there")
		}
	}
	return result, nil
}

// toSeal returns nil if there is no key, or none any more.
func (t *tenantKey) toSeal(ring *keys) *sealKeys {
	all, ok, err := t.keys(ring)
	if !ok || err == nil && all == ring {
		return nil
	}
	return &sealKeys{all, err}
}

// prepare makes the keys of tenants known, whatever becomes of the transaction that they are in.
func (t *tenantKeys) prepare(keys map[string]*sealKeys) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prepared = keys
}

func (t *tenantKeys) preparedFor(tenant string) *sealKeys {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.prepared[tenant]
}

// sealKeys is the keySource of a connection: what it needs is read and made over itself, before the statement.
func (c conn) sealKeys(ctx context.Context, tenants []string) (map[string]*sealKeys, error) {
	result := make(map[string]*sealKeys, len(tenants))
	var missing []string
	for _, tenant := range tenants {
		if result[tenant] = c.codec.tenants.preparedFor(tenant); result[tenant] == nil {
			missing = append(missing, tenant)
		}
	}
	if len(missing) == 0 {
		return result, nil
	}
	ring, err := c.codec.keyring()
	if err != nil {
		return nil, err
	}
	found, err := c.codec.tenants.toSeal(ctx, c.next, c.tx, ring, missing)
	maps.Copy(result, found)
	return result, err
}

// giveKeys gives the owners of a statement's secrets their keys.
func (c *codec) giveKeys(ctx context.Context, owners []owner, source keySource) error {
	if c.tenants == nil {
		return nil
	}
	var tenants []string
	for _, of := range owners {
		if of.known && !slices.Contains(tenants[max(0, len(tenants)-1):], of.tenant) {
			tenants = append(tenants, of.tenant)
		}
	}
	if len(tenants) == 0 {
		return nil
	}
	found, err := source(ctx, tenants)
	if err != nil {
		return &Error{Op: "encrypt", Err: err}
	}
	for i := range owners {
		owners[i].keys = found[owners[i].tenant]
	}
	return nil
}

// read reads the rows of tenants. What is wrong with one of them is in its state.
func (t *tenantKeys) read(
	ctx context.Context, on dialect.ExecQuerier, tx *tenantTx, ring *Keyring, tenants []string,
) (map[string]*tenantKey, error) {
	since := time.Now()
	states, err := ReadTenantKeys(ctx, on, ring, tenants)
	if err != nil {
		return nil, err
	}
	found := make(map[string]*tenantKey, len(tenants))
	for tenant, state := range states {
		key := &tenantKey{}
		key.state.Store(&tenantState{TenantKey: state})
		found[tenant] = key
		t.forgetAfter(tenant, key, since)
		// Not that there is none: another may make one and store rows under it at any moment.
		if (state.Data != nil || errors.Is(state.Err, ErrShredded)) && tx.shares(tenant) {
			t.share(tenant, key)
		}
	}
	return found, nil
}

// tenantRef is what the secrets of one result have in common that are of one tenant. It holds the key for its lifetime, and then
// reads it again.
type tenantRef struct {
	tenant string
	of     *tenantKeys
	ctx    func() context.Context // the query's values, without its end
	key    atomic.Pointer[tenantKey]
}

func (t *tenantKeys) newRef(ctx context.Context, tenant string) *tenantRef {
	ref := &tenantRef{tenant: tenant, of: t, ctx: func() context.Context { return context.WithoutCancel(ctx) }}
	ref.key.Store(t.lookup(tenant))
	return ref
}

// isKnown reports whether the key can be used without reading it first.
func (r *tenantRef) isKnown() bool {
	key := r.key.Load()
	return key != nil && key.state.Load() != nil
}

// keys returns the keys that open the tenant's tokens. Errors: [ErrNoKey], [ErrShredded], and those of reading the key.
func (r *tenantRef) keys(ring *Keyring) (*keys, error) {
	bare, err := ring.load()
	if err != nil {
		return nil, err
	}
	for range 2 {
		if all, ok, err := r.key.Load().keys(bare); ok {
			return all, err
		}
		if err := r.read(ring); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("read the tenant's key: %w", context.DeadlineExceeded) // it took longer than its lifetime
}

func (r *tenantRef) read(ring *Keyring) error {
	ctx, cancel := context.WithTimeout(r.ctx(), tenantKeyTimeout)
	defer cancel()
	found, err := r.of.toOpen(ctx, r.of.pool, nil, ring, []string{r.tenant})
	if err != nil {
		return err
	}
	r.key.Store(found[r.tenant])
	return nil
}
