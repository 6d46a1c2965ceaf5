package rotate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
)

// tenantPage is how many tenants [AllTenants] reads at a time.
const tenantPage = 1000

// AllTenants returns the tenants with a data key or a destroyed one, sorted,
// from the one after the given ID; "" for all. It reads them page by page on
// demand, so it needs little memory however many there are. It needs no
// keyring. An error ends the sequence: [ErrNoTable], [ErrHidden].
func AllTenants(ctx context.Context, db *sql.DB, after string) iter.Seq2[Tenant, error] {
	return func(yield func(Tenant, error) bool) {
		s, err := storeOf(ctx, db)
		var keys *tenants
		if err == nil {
			keys, err = openKeys(ctx, db, s, nil)
		}
		if err != nil {
			yield(Tenant{}, err)
			return
		}
		for {
			page, err := keys.list(ctx, after)
			if err != nil {
				yield(Tenant{}, fmt.Errorf("rotate: list the tenants: %w", err))
				return
			}
			for _, tenant := range page {
				if !yield(tenant, nil) {
					return
				}
				after = tenant.ID
			}
			if len(page) < tenantPage {
				return
			}
		}
	}
}

func (t *tenants) list(ctx context.Context, after string) (page []Tenant, err error) {
	where, args := "", []any{}
	if after != "" {
		where, args = " WHERE tenant > $1", []any{after}
	}
	rows, err := t.db.QueryContext(ctx, "SELECT tenant, created_at, destroyed_at FROM "+quote(t.table.name)+where+
		fmt.Sprintf(" ORDER BY tenant LIMIT %d", tenantPage), args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			tenant    Tenant
			destroyed sql.NullTime
		)
		if err := rows.Scan(&tenant.ID, &tenant.CreatedAt, &destroyed); err != nil {
			return nil, err
		}
		if tenant.CreatedAt = tenant.CreatedAt.UTC(); destroyed.Valid {
			at := destroyed.Time.UTC()
			tenant.DestroyedAt = &at
		}
		page = append(page, tenant)
	}
	return page, rows.Err()
}
