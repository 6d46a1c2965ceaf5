// Package boundkey derives the keys of bound tokens: one for each table, column
// and tenant, so that no key opens a token anywhere else.
package boundkey

import (
	"sync"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// Location is where a bound token belongs. It is comparable, so that a lookup
// doesn't allocate.
type Location struct{ Table, Column, Tenant string }

// Cache remembers the keys derived for locations. The zero value is ready for
// use. It is safe for concurrent use.
type Cache struct {
	mu    sync.RWMutex
	known map[derived]*keyring.Set
}

type derived struct {
	from *keyring.Set
	Location
}

// maxDerived is the number of locations that a Cache remembers before it starts
// over. A derivation takes some microseconds, ten times as long as encrypting a
// token, and 5 KiB.
const maxDerived = 1024

// Of returns the keys of a location's bound tokens: HKDF-SHA-256 (RFC 5869) of
// each key, without salt. The label has a version, in case the derivation
// changes. Names of tables and columns have no NUL byte, so no two locations
// have the same info.
func (c *Cache) Of(set *keyring.Set, at Location) (*keyring.Set, error) {
	of := derived{set, at}
	c.mu.RLock()
	known := c.known[of]
	c.mu.RUnlock()
	if known != nil {
		return known, nil
	}
	info := "credent bound token v1\x00" + at.Table + "\x00" + at.Column + "\x00" + at.Tenant
	bound, err := set.Derive(func(k *fernet.Key) (*fernet.Key, error) { return fernet.Derive(k, info) })
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxDerived {
		c.known = make(map[derived]*keyring.Set)
	}
	c.known[of] = bound
	return bound, nil
}
