package rotate

import (
	"slices"
	"sync"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// rings caches the keyrings that contain a tenant's key. A [seal.Locator]
// caches derived keys by keyring, so a new keyring for each token would derive
// them for each token. The zero value is ready to use. It is safe for
// concurrent use.
type rings struct {
	mu    sync.Mutex
	known map[ringOf]*engine.Ring
}

// ringOf is a tenant's key as read for a page, and its position in the keyring.
type ringOf struct {
	data  *fernet.Key
	place ringPlace
}

type ringPlace int

const (
	alone ringPlace = iota
	first
	last
)

// maxRings limits the cached keyrings; beyond it, the cache is emptied.
const maxRings = 4096

// of returns a keyring with the tenant's key and, depending on place, ring's
// keys.
func (r *rings) of(ring *engine.Ring, data *fernet.Key, place ringPlace) *engine.Ring {
	if data == nil {
		return ring
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.known[ringOf{data, place}]; known != nil {
		return known
	}
	if r.known == nil || len(r.known) >= maxRings {
		r.known = make(map[ringOf]*engine.Ring)
	}
	var made *engine.Ring
	switch place {
	case alone:
		made = engine.Of(data)
	case first:
		made = engine.Of(slices.Concat([]*fernet.Key{data}, ring.Keys())...)
	default:
		made = engine.With(ring, data)
	}
	r.known[ringOf{data, place}] = made
	return made
}
