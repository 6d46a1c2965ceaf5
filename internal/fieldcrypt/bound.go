package fieldcrypt

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/fernet/fernet-go"
)

// boundLabel begins what a bound token's key is derived from. It has a version, so that another derivation can be told apart.
const boundLabel = "credent bound token v1"

// place of bound tokens. It is a comparable type, so that looking one up allocates nothing.
type boundTo struct{ table, column, tenant string }

// info is the HKDF info (RFC 5869) of a place. Neither the name of a table nor that of a column can have a NUL byte in it, so
// that no two places have the same.
func (b boundTo) info() string {
	return boundLabel + "\x00" + b.table + "\x00" + b.column + "\x00" + b.tenant
}

// derive returns the key of bound tokens: HKDF-SHA-256 of all 32 bytes of the key, without salt. It has the key's ID.
func (k *Key) derive(to boundTo) (*Key, error) {
	raw, err := hkdf.Key(sha256.New, k.fernet()[:], nil, to.info(), KeySize)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	return newKey(fernet.Key(raw), k.id)
}

// maxBound is the number of places of which derived keys are kept. One costs ten times what a token's encryption does, some
// microseconds, and 5 KiB, so the whole is dropped when there are more.
const maxBound = 1024

// boundKeys keeps derived keys. The zero value is empty. It is safe for concurrent use.
type boundKeys struct {
	mu    sync.RWMutex
	known map[boundTo]*keys
}

// bind returns the keys of bound tokens of a place. Which of them fitted last is taken over from those they are derived from.
func (k *keys) bind(to boundTo) (*keys, error) {
	k.bound.mu.RLock()
	known := k.bound.known[to]
	k.bound.mu.RUnlock()
	if known != nil {
		return known, nil
	}
	derived := &keys{list: make([]*Key, len(k.list))}
	for i, key := range k.list {
		var err error
		if derived.list[i], err = key.derive(to); err != nil {
			return nil, err
		}
	}
	derived.fitted.Store(k.fitted.Load())
	k.bound.mu.Lock()
	defer k.bound.mu.Unlock()
	if k.bound.known == nil || len(k.bound.known) >= maxBound {
		k.bound.known = make(map[boundTo]*keys)
	}
	k.bound.known[to] = derived
	return derived, nil
}

// Bind returns the keyring of the bound tokens of a column and a tenant: each key is derived from one of r's, in the same order,
// and has its ID. A token that it makes opens nowhere else. It has the keys that r has now; a later [Keyring.Replace] of r does
// not reach it. Errors: [ErrNoKey] for a nil keyring.
func (r *Keyring) Bind(column ColumnInfo, tenant string) (*Keyring, error) {
	k, err := r.load()
	if err != nil {
		return nil, err
	}
	bound, err := k.bind(boundTo{column.Table, column.Name, tenant})
	if err != nil {
		return nil, err
	}
	return newKeyring(bound), nil
}
