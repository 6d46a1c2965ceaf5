package rotate

import (
	"encoding/hex"
	"slices"

	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

// isRenamed reports whether a row's token or digest was made under an earlier
// name of its column.
func (p *pass) isRenamed(opens *engine.Ring, r row, i int, place seal.Place) bool {
	if place.Column.Was == "" || !r.values[i].Valid {
		return false
	}
	o, err := p.locate.OpenAt(opens, place, r.values[i].String)
	switch {
	case err != nil: // rewriting reports the reason
		return false
	case o.Earlier:
		return true
	case place.Column.Index == "" || !r.indexes[i].Valid:
		return false
	}
	digests, err := p.digests.All(p.ring, place.Column, o.Plaintext)
	is := slices.IndexFunc(digests, func(d []byte) bool { return hex.EncodeToString(d) == r.indexes[i].String })
	return err == nil && is >= len(p.ring.Keys())
}

// addPlace counts what an opened token is bound to.
func (c *ColumnCount) addPlace(o seal.Opened) {
	if o.Bound {
		c.Bound++
	}
	if o.Earlier {
		c.Earlier++
	}
}
