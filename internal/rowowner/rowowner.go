// Package rowowner looks up whose a row is, and keeps that from changing until
// the transaction ends.
package rowowner

import (
	"context"
	"database/sql"
	"errors"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
)

// Database is where the row is.
type Database struct {
	On      dialect.ExecQuerier // the transaction
	Dialect string
	IsCitus bool
}

// Table names a table and two of its columns, the tenant's and the primary
// key's, as SQL does.
type Table struct{ Name, Tenant, Key string }

// tries is how often the row is looked up. Once is enough unless it was deleted
// and made again as another tenant's.
const tries = 3

// Find returns the tenant of the row with a key, as text, and false if there is
// no such row.
//
// A Citus cluster locks rows of one shard only. A row whose tenant isn't known
// may be on any, so there it is looked up first, and then locked as the
// tenant's.
func (d Database) Find(ctx context.Context, t Table, id any) (tenant sql.NullString, there bool, err error) {
	query := "SELECT CAST(" + t.Tenant + " AS TEXT) FROM " + t.Name + " WHERE " + t.Key + " = "
	const lock = " FOR NO KEY UPDATE"
	switch {
	case d.Dialect != dialect.Postgres:
		return d.first(ctx, query+"?", id)
	case !d.IsCitus:
		return d.first(ctx, query+"$1"+lock, id)
	}
	for range tries {
		tenant, there, err = d.first(ctx, query+"$1", id)
		if err != nil || !there || !tenant.Valid {
			return tenant, there, err
		}
		tenant, there, err = d.first(ctx, query+"$1 AND "+t.Tenant+" = $2"+lock, id, tenant.String)
		if err != nil || there {
			return tenant, there, err
		}
	}
	return sql.NullString{}, false, errMoves
}

var errMoves = errors.New("the row is deleted and made again all the time")

func (d Database) first(ctx context.Context, query string, args ...any) (tenant sql.NullString, there bool, err error) {
	rows := new(entsql.Rows)
	if err := d.On.Query(ctx, query, args, rows); err != nil {
		return tenant, false, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if !rows.Next() {
		return tenant, false, rows.Err()
	}
	return tenant, true, rows.Scan(&tenant)
}
