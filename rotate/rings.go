package rotate

import (
	"slices"
	"sync"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// rings keeps the keyrings that have a tenant's key. A [seal.Locator] remembers
// derived keys by the keyring, so with a new one for each token it would derive
// them for each. The zero value is ready, and safe for concurrent use.
type rings struct {
	mu    sync.Mutex
	known map[ringOf]*engine.Ring
}

// ringOf is a tenant's key, as it was read for a page, and its place among the
// keys of the rings.
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

// maxRings is how many keyrings are kept; with more it starts over.
const maxRings = 4096

// of returns the keyring of a tenant's key and, unless it is alone, ring's.
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
