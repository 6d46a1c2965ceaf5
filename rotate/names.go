package rotate

import (
	"encoding/hex"
	"slices"

	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

// isRenamed reports whether a token of a row, or its digest, was made under an
// earlier name of its column.
func (p *pass) isRenamed(opens *engine.Ring, r row, i int, place seal.Place) bool {
	if place.Column.Was == "" || !r.values[i].Valid {
		return false
	}
	if p.locate.IsEarlier(opens, place, r.values[i].String) {
		return true
	}
	if place.Column.Index == "" || !r.indexes[i].Valid {
		return false
	}
	plaintext, err := p.locate.DecryptAt(opens, place, r.values[i].String)
	if err != nil {
		return false // the rewriting says why
	}
	digests, err := p.digests.All(p.ring, place.Column, plaintext)
	is := slices.IndexFunc(digests, func(d []byte) bool { return hex.EncodeToString(d) == r.indexes[i].String })
	return err == nil && is >= len(p.ring.Keys())
}

func (c *ColumnCount) addEarlier(is bool) {
	if is {
		c.Earlier++
	}
}
