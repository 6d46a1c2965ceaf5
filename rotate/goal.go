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

// goalVersion is incremented when an operation starts to produce a different
// result from the same rows, keys and states.
const goalVersion = 2

// goal is everything that determines an operation's result for a table's rows.
// Progress towards one goal says nothing about another.
type goal struct {
	Version   int
	Operation string
	Keys      []string // key IDs, primary key first
	Key       []string // the table's primary key
	Heap      bool     // in heap order
	Columns   []goalOfColumn
	Destroyed int64 // tenants with a destroyed key
}

type goalOfColumn struct {
	Name, Type, Index, Tenant, Was string
	Size, Bits                     int
	Bound, AcrossTenants, Expanded bool
	States                         states.Set
}

// goalOf returns a hash of an operation's goal for a table. Of the columns, it
// includes only what describe left.
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

// isDescribed reports whether a goal determines the result for a table's rows.
// It doesn't if a blind index has a normalizing function, which can't be
// hashed.
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
