// Package owner looks up a row's tenant by the row's ID, and keeps the tenant
// from changing until the transaction ends.
package owner

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/seal"
)

// Errors of looking up a row by its ID.
var (
	// ErrSeveralRows means that several rows have the ID. The table's key is
	// (tenant, ID), so rows of two tenants can have the same ID.
	ErrSeveralRows = errors.New("several rows have this id: the table's primary key also has the tenant's column")

	// ErrMoving means that the row moved to another tenant before each attempt
	// to lock it.
	ErrMoving = errors.New("other transactions keep moving the row to another tenant")
)

// Tables remembers which Postgres tables have a primary key of the tenant's
// column and the ID. The zero value is ready for use. It is safe for concurrent
// use.
type Tables struct{ scopes sync.Map }

// scope returns the SQL type of the tenant's column if it leads the table's
// primary key, or "".
func (t *Tables) scope(ctx context.Context, on dialect.ExecQuerier, of column.Column) (string, error) {
	key := of.Quoted() + "." + of.Tenant
	if known, ok := t.scopes.Load(key); ok {
		return known.(string), nil
	}
	rows := new(entsql.Rows)
	if err := on.Query(ctx, `SELECT format_type(CASE y.typtype WHEN 'd' THEN y.typbasetype ELSE y.oid END, -1) FROM pg_index i
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] JOIN pg_type y ON y.oid = a.atttypid
		WHERE i.indisprimary AND i.indnkeyatts = 2 AND i.indrelid = to_regclass($1::text) AND a.attname = $2::text`,
		[]any{of.Quoted(), of.Tenant}, rows); err != nil {
		return "", err
	}
	scope, err := one(rows)
	if err == nil || errors.Is(err, sql.ErrNoRows) {
		t.scopes.Store(key, scope.String)
		return scope.String, nil
	}
	return "", err
}

// Scoped reports whether a table's primary key begins with the tenant's column.
func (t *Tables) Scoped(ctx context.Context, on dialect.ExecQuerier, d string, of column.Column) (bool, error) {
	if d != dialect.Postgres || of.Tenant == "" {
		return false, nil
	}
	scope, err := t.scope(ctx, on, of)
	return scope != "", err
}

// one returns a result's only value. Errors: sql.ErrNoRows, [ErrSeveralRows].
func one(rows *entsql.Rows) (value sql.NullString, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return value, err
		}
		return value, sql.ErrNoRows
	}
	if err := rows.Scan(&value); err != nil {
		return value, err
	}
	if rows.Next() {
		return value, ErrSeveralRows
	}
	return value, rows.Err()
}

// tries is how often Of looks up a row that moves to another tenant before it
// is locked.
const tries = 10

// Of returns the tenant of the row with an ID, and whether the row exists. On
// Postgres it locks the row. If the tenant leads the key, it reads the tenant
// first, and locks the row by both: that selects the row's partition, and a
// sharded table can't lock a row without its tenant. Errors: [ErrSeveralRows],
// [ErrMoving], [seal.ErrNoTenant].
func (t *Tables) Of(
	ctx context.Context, on dialect.ExecQuerier, d string, of column.Column, id any,
) (tenant string, is bool, err error) {
	query := fmt.Sprintf("SELECT CAST(%s AS TEXT) FROM %s WHERE %s = ", column.QuoteName(of.Tenant), of.Quoted(),
		column.QuoteName(of.Key()))
	if d != dialect.Postgres {
		return read(ctx, on, query+"?", id)
	}
	query += "$1"
	const lock = " FOR NO KEY UPDATE"
	scope, err := t.scope(ctx, on, of)
	if err != nil {
		return "", false, err
	}
	if scope == "" {
		return read(ctx, on, query+lock, id)
	}
	for range tries {
		if tenant, is, err = read(ctx, on, query, id); err != nil || !is {
			return "", false, err
		}
		locked := fmt.Sprintf("%s AND %s = $2::text::%s%s", query, column.QuoteName(of.Tenant), scope, lock)
		if tenant, is, err = read(ctx, on, locked, id, tenant); err != nil || is {
			return tenant, is, err
		}
	}
	return "", false, ErrMoving
}

func read(ctx context.Context, on dialect.ExecQuerier, query string, args ...any) (tenant string, is bool, err error) {
	rows := new(entsql.Rows)
	if err := on.Query(ctx, query, args, rows); err != nil {
		return "", false, err
	}
	text, err := one(rows)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", false, nil
	case err != nil:
		return "", false, err
	case !text.Valid:
		return "", false, fmt.Errorf("%w: it is NULL", seal.ErrNoTenant)
	}
	return text.String, true, nil
}
