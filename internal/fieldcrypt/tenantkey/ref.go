package tenantkey

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// Ref is shared by the secrets of one tenant in one result. It holds the key
// for its lifetime, and then reads it again.
type Ref struct {
	tenant string
	of     *Cache
	ctx    func() context.Context // the query's context, without its cancellation
	key    atomic.Pointer[entry]
	early  atomic.Pointer[entry] // an entry read before the query, or one without a key
}

// NewRef returns a tenant's ref. ctx is the query's context.
func (c *Cache) NewRef(ctx context.Context, tenant string) *Ref {
	ref := &Ref{tenant: tenant, of: c, ctx: func() context.Context { return context.WithoutCancel(ctx) }}
	ref.key.Store(c.lookup(tenant))
	ref.early.Store(ref.key.Load())
	if ref.early.Load() != nil {
		c.tell(Lookup{Known: 1})
	}
	return ref
}

// Again reads a key again, once, if it was read before the query or was
// missing. It reports whether the pool's server has a different one.
func (r *Ref) Again(ring *keyring.Ring) bool {
	old := r.early.Swap(nil)
	if old == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(r.ctx(), timeout)
	defer cancel()
	found, err := r.of.read(ctx, r.of.pool, ring, []string{r.tenant})
	if err == nil {
		r.key.Store(found[r.tenant])
	}
	return err == nil && found[r.tenant] != old
}

// IsKnown reports whether the key can be used without reading it first.
func (r *Ref) IsKnown() bool {
	e := r.key.Load()
	return e != nil && e.state.Load() != nil
}

// Fill reads the missing keys of refs, over a free connection.
func (c *Cache) Fill(ctx context.Context, on Store, refs map[string]*Ref) error {
	tenants := slices.DeleteFunc(slices.Collect(maps.Keys(refs)),
		func(tenant string) bool { return refs[tenant].IsKnown() })
	ring, err := on.Ring()
	if err != nil || len(tenants) == 0 {
		return nil //nolint:nilerr // without a keyring the Reveal fails
	}
	found, err := c.open(ctx, on, ring, tenants, Known)
	for tenant, key := range found {
		refs[tenant].key.Store(key)
		if key.wrapped() == "" { // a standby may lack it
			refs[tenant].early.Store(key)
		}
	}
	return err
}

// Keys returns all keys that open the tenant's tokens, and the tenant's own
// key, or nil. Errors: [keyring.ErrNoKey], [ErrShredded], and the database's.
func (r *Ref) Keys(ring *keyring.Ring) (all, own *keyring.Set, err error) {
	bare, err := keyring.Load(ring)
	if err != nil {
		return nil, nil, err
	}
	if all, own, ok, err := r.key.Load().keys(bare); ok {
		return all, own, err
	}
	ctx, cancel := context.WithTimeout(r.ctx(), timeout)
	defer cancel()
	found, err := r.of.open(ctx, r.of.pool, ring, []string{r.tenant}, Known)
	if err != nil {
		return nil, nil, err
	}
	r.key.Store(found[r.tenant])
	if all, own, ok, err := found[r.tenant].keys(bare); ok {
		return all, own, err
	}
	// Reading took longer than the key's lifetime.
	return nil, nil, fmt.Errorf("read the tenant's key: %w", context.DeadlineExceeded)
}
