package record

import (
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
	"github.com/credent-go/credent/internal/states"
)

// Key is the key that sealed a statement's secrets.
type Key struct {
	ID    string // "" for none or several
	known bool
}

// Note notes a secret's key, if the client has a trail.
func (k *Key) Note(p *seal.Policy, c *column.Column, of seal.Owner) {
	if p.Record == nil {
		return
	}
	id := keyOf(p, c, of)
	if k.known && k.ID != id {
		id = ""
	}
	k.ID, k.known = id, true
}

func keyOf(p *seal.Policy, c *column.Column, of seal.Owner) string {
	s := p.States.Of(c)
	switch {
	case s.Encryption < states.Write:
		return ""
	case s.TenantKeys >= states.Write && of.Keys != nil && of.Keys.Keys != nil:
		return of.Keys.Keys.Keys()[0].ID()
	}
	ring, err := p.Keyring()
	if err != nil || ring.Primary() == nil {
		return ""
	}
	return ring.Primary().ID()
}
