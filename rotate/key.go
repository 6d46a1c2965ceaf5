package rotate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// scopedKey is a row's primary key in a table with the key (tenant, key), as a
// database value.
type scopedKey struct{ scope, key any }

// setKey sets the primary key's columns, in order. A key of the tenant's column
// and another column is treated as the form (tenant, key), because the tenant
// selects the partition or shard.
func (t *table) setKey(names []string) error {
	switch {
	case len(names) == 1:
		t.key, t.scoped = names[0], false
		return nil
	case len(names) == 2 && t.tenant != "" && names[0] == t.tenant:
		t.key, t.scoped = names[1], true
		return nil
	case len(names) == 0:
		return fmt.Errorf("%w: it has none", ErrPrimaryKey)
	case len(names) == 2 && t.tenant == "":
		return fmt.Errorf("%w: it has (%s), and its columns declare no tenant", ErrPrimaryKey,
			strings.Join(names, ", "))
	}
	return fmt.Errorf("%w: it has (%s)", ErrPrimaryKey, strings.Join(names, ", "))
}

// keyColumns returns the primary key's columns of the table t, in order.
func (t table) keyColumns() []string {
	if t.scoped {
		return []string{"t." + quote(t.tenant), "t." + quote(t.key)}
	}
	return []string{"t." + quote(t.key)}
}

// keyValues returns a row's key values in the order of keyColumns.
func keyValues(key any) []any {
	if k, ok := key.(scopedKey); ok {
		return []any{k.scope, k.key}
	}
	return []any{key}
}

// place identifies a row within its table.
func (t table) place(r row) string {
	if t.scoped {
		return r.tenant.String + "\x00" + r.id
	}
	return r.id
}

// groups returns changes grouped by tenant if the table's key starts with it,
// and otherwise in one group.
func (t table) groups(changes []change) [][]change {
	if !t.scoped {
		return [][]change{changes}
	}
	sorted := slices.SortedStableFunc(slices.Values(changes), func(a, b change) int {
		return strings.Compare(a.tenant.String, b.tenant.String)
	})
	var groups [][]change
	for i, c := range sorted {
		if i == 0 || c.tenant.String != sorted[i-1].tenant.String {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], c)
	}
	return groups
}

// castTenant returns the SQL cast of a text to the tenant column's type, or ""
// if the cast may fail. Casting the column instead would hide it from the
// planner, which would then read every partition and whole indexes. none means
// that no row has this tenant, because the type never prints such a value.
func (t table) castTenant(tenant string) (cast string, none bool) {
	switch {
	case t.tenantIsText:
		return "::text::" + t.tenantType, false
	case t.tenantType == "uuid":
		id, err := uuid.Parse(tenant)
		return "::text::uuid", err != nil || id.String() != tenant
	}
	bits := map[string]int{"smallint": 16, "integer": 32, "bigint": 64}[t.tenantType]
	if bits == 0 {
		return "", false
	}
	n, err := strconv.ParseInt(tenant, 10, bits)
	return "::text::" + t.tenantType, err != nil || strconv.FormatInt(n, 10) != tenant
}
