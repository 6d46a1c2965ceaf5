package rotate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/states"
)

// goalVersion is counted up when an operation comes to make something else of
// the same rows, keys and states.
const goalVersion = 2

// goal is all that decides on what an operation makes of a table's rows. What
// was done for one goal says nothing about another.
type goal struct {
	Version   int
	Operation string
	Keys      []string // IDs, the primary key's first
	Key       []string // the table's primary key
	Heap      bool     // it is gone through in the order of its heap
	Columns   []goalOfColumn
	Destroyed int64 // tenants with a destroyed key
}

type goalOfColumn struct {
	Name, Type, Index, Tenant, Was string
	Size, Bits                     int
	Bound, AcrossTenants, Expanded bool
	States                         states.Set
}

// goalOf returns a hash of an operation's goal for a table. The columns have
// nothing in it but what describe left them.
func (r *run) goalOf(ctx context.Context, t table) (string, error) {
	g := goal{Version: goalVersion, Operation: r.name, Keys: r.keyIDs(), Key: t.keyColumns(), Heap: t.heap}
	for i, c := range t.columns {
		of := goalOfColumn{
			Name: c.Name, Type: c.Type, Index: c.Index, Tenant: t.tenant, Was: c.Was, Size: c.Size,
			Bound: c.Bound, AcrossTenants: c.AcrossTenants, Expanded: t.sources[i].expanded,
			States: r.cfg.States.Given(&c),
		}
		if c.Index != "" {
			index, err := blindindex.Of(c)
			if err != nil {
				return "", err
			}
			of.Bits = index.Bits
		}
		g.Columns = append(g.Columns, of)
	}
	if r.keys != nil {
		err := r.db.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*) FROM %s WHERE %s IS NULL",
			quote(tenantkey.Table), quote(tenantkey.Column))).Scan(&g.Destroyed)
		if err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(g)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// isDescribed reports whether a goal says all about what becomes of a table's
// rows. A function that normalizes what a blind index finds says nothing about
// itself.
func (t table) isDescribed() bool {
	for _, c := range t.columns {
		if c.Index == "" {
			continue
		}
		if index, err := blindindex.Of(c); err != nil || index.Normalize != nil {
			return false
		}
	}
	return true
}
