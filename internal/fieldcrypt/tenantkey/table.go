package tenantkey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
	"github.com/credent-go/credent/internal/fieldcrypt/keyring"
)

// The table that holds wrapped keys has the columns tenant, wrapped,
// created_at and destroyed_at. In the row of a destroyed key, wrapped is
// NULL.
const (
	Table  = "credent_tenant_keys"
	Tenant = "tenant"
	Column = "wrapped"
)

// Size is the length of the column for wrapped keys, in characters.
const Size = 500

// maxAtOnce is the number of tenants' keys that one statement reads.
const maxAtOnce = 500

// Read returns a key for each tenant. If one key can't be unwrapped, its Err
// says why, and the others are still returned.
func Read(ctx context.Context, on dialect.ExecQuerier, ring *keyring.Ring, tenants []string) (map[string]Key, error) {
	found := make(map[string]Key, len(tenants))
	for _, tenant := range tenants {
		found[tenant] = Key{}
	}
	for part := range slices.Chunk(tenants, maxAtOnce) {
		if err := read(ctx, on, ring, part, found); err != nil {
			return nil, fmt.Errorf("read the tenant's key: %w", err)
		}
	}
	return found, nil
}

func read(
	ctx context.Context, on dialect.ExecQuerier, ring *keyring.Ring, tenants []string, found map[string]Key,
) (err error) {
	places, args := make([]string, len(tenants)), make([]any, len(tenants))
	for i, tenant := range tenants {
		places[i], args[i] = "$"+strconv.Itoa(i+1), tenant
	}
	rows := &entsql.Rows{}
	if err := on.Query(ctx, `SELECT "tenant", "wrapped" FROM "`+Table+`" WHERE "tenant" IN (`+strings.Join(places, ", ")+")",
		args, rows); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			tenant  string
			wrapped entsql.NullString
			key     Key
		)
		if err := rows.Scan(&tenant, &wrapped); err != nil {
			return err
		}
		if key.Wrapped = wrapped.String; !wrapped.Valid {
			key.Err = ErrShredded
		} else if key.Data, _, key.Err = Unwrap(ring, tenant, wrapped.String); key.Err != nil {
			key.Err = fmt.Errorf("open the tenant's key: %w", key.Err)
		}
		found[tenant] = key
	}
	return rows.Err()
}

// Make stores a new key, unless the tenant has a row already.
func Make(ctx context.Context, on dialect.ExecQuerier, ring *keyring.Ring, tenant string) error {
	key, err := fernet.ParseKey(fernet.GenerateKey())
	if err != nil {
		return err
	}
	wrapped, err := Wrap(ring, tenant, key)
	if err != nil {
		return err
	}
	if err := on.Exec(ctx, `INSERT INTO "`+Table+`" ("tenant", "wrapped") VALUES ($1, $2) ON CONFLICT DO NOTHING`,
		[]any{tenant, wrapped}, nil); err != nil {
		return fmt.Errorf("store the tenant's key: %w", err)
	}
	return nil
}
