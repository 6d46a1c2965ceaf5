package fieldcrypt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
)

// The table that holds the data keys of tenants, which has tenant, wrapped, created_at and destroyed_at. A row with NULL for
// wrapped is of a tenant whose key was destroyed.
const (
	TenantKeyTable  = "credent_tenant_keys"
	TenantKeyTenant = "tenant"
	TenantKeyColumn = "wrapped"
)

// TenantKeySize is the size in characters of the column that holds wrapped keys.
const TenantKeySize = 500

// maxTenantsAtOnce is the number of tenants whose keys are read in one statement.
const maxTenantsAtOnce = 500

// ReadTenantKeys reads the data keys of tenants, for each of which there is one in the result. What is wrong with one of them is
// its error, and not that of the whole.
func ReadTenantKeys(ctx context.Context, on dialect.ExecQuerier, ring *Keyring, tenants []string) (map[string]TenantKey, error) {
	found := make(map[string]TenantKey, len(tenants))
	for _, tenant := range tenants {
		found[tenant] = TenantKey{}
	}
	for part := range slices.Chunk(tenants, maxTenantsAtOnce) {
		if err := readTenantKeys(ctx, on, ring, part, found); err != nil {
			return nil, fmt.Errorf("read the tenant's key: %w", err)
		}
	}
	return found, nil
}

func readTenantKeys(
	ctx context.Context, on dialect.ExecQuerier, ring *Keyring, tenants []string, found map[string]TenantKey,
) (err error) {
	places, args := make([]string, len(tenants)), make([]any, len(tenants))
	for i, tenant := range tenants {
		places[i], args[i] = "$"+strconv.Itoa(i+1), tenant
	}
	rows := &entsql.Rows{}
	if err := on.Query(ctx, `SELECT "tenant", "wrapped" FROM "`+TenantKeyTable+`" WHERE "tenant" IN (`+strings.Join(places, ", ")+")",
		args, rows); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			tenant  string
			wrapped entsql.NullString
			key     TenantKey
		)
		if err := rows.Scan(&tenant, &wrapped); err != nil {
			return err
		}
		if !wrapped.Valid {
			key.Err = ErrShredded
		} else if key.Data, _, key.Err = ring.UnwrapTenantKey(tenant, wrapped.String); key.Err != nil {
			key.Err = fmt.Errorf("open the tenant's key: %w", key.Err)
		}
		found[tenant] = key
	}
	return rows.Err()
}

// MakeTenantKey stores a new data key, unless the tenant has a row already.
func MakeTenantKey(ctx context.Context, on dialect.ExecQuerier, ring *Keyring, tenant string) error {
	key, err := ParseKey(GenerateKey())
	if err != nil {
		return err
	}
	wrapped, err := ring.WrapTenantKey(tenant, key)
	if err != nil {
		return err
	}
	if err := on.Exec(ctx, `INSERT INTO "`+TenantKeyTable+`" ("tenant", "wrapped") VALUES ($1, $2) ON CONFLICT DO NOTHING`,
		[]any{tenant, wrapped}, nil); err != nil {
		return fmt.Errorf("store the tenant's key: %w", err)
	}
	return nil
}
