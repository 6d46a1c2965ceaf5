package look

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/report"
)

// maxDestroyed limits the destructions listed, and maxMonths the months in
// which they are counted.
const maxDestroyed, maxMonths = 100, 36

// lookTenants counts tenants' keys and lists the latest destructions.
func (l *looker) lookTenants(ctx context.Context) error {
	t := &l.Tenants
	t.Months, t.Last = []report.Month{}, []report.Destroyed{}
	if err := l.checkVisible(ctx, column.Column{Table: tenantkey.Table}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, l.Within)
	defer cancel()
	from := " FROM " + column.QuoteName(tenantkey.Table)
	err := l.db.QueryRowContext(ctx, "SELECT count(*) - count(destroyed_at), count(destroyed_at)"+from).
		Scan(&t.Keys, &t.Destroyed)
	if err != nil {
		return err
	}
	t.Known = true
	month := "strftime('%Y-%m', destroyed_at)"
	if l.isPostgres() {
		month = "to_char(destroyed_at, 'YYYY-MM')"
	}
	err = each(ctx, l.db, func(scan func(...any) error) error {
		var m report.Month
		if err := scan(&m.Month, &m.N); err != nil {
			return err
		}
		t.Months = append([]report.Month{m}, t.Months...)
		return nil
	}, fmt.Sprintf("SELECT %s AS month, count(*)%s WHERE destroyed_at IS NOT NULL GROUP BY 1 ORDER BY 1 DESC LIMIT %d",
		month, from, maxMonths))
	if err != nil {
		return err
	}
	err = each(ctx, l.db, func(scan func(...any) error) error {
		var (
			d  report.Destroyed
			at sql.NullTime
		)
		if err := scan(&d.Tenant, &at); err != nil {
			return err
		}
		if d.At = at.Time.UTC(); !l.Names {
			d.Tenant = ""
		}
		t.Last = append(t.Last, d)
		return nil
	}, fmt.Sprintf("SELECT tenant, destroyed_at%s WHERE destroyed_at IS NOT NULL ORDER BY destroyed_at DESC LIMIT %d",
		from, maxDestroyed))
	t.More = t.Destroyed - int64(len(t.Last))
	return err
}

// each calls f for each row of a query's result.
func each(ctx context.Context, db *sql.DB, f func(scan func(...any) error) error, query string) (err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
