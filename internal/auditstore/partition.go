package auditstore

import (
	"context"
	"database/sql"
	"time"

	"entgo.io/ent/dialect"
)

// monthsAhead is the number of future months with a partition.
const monthsAhead = 3

// EnsurePartitions creates the partitions of the coming months on Postgres. If
// the role isn't allowed to, it does nothing, and the entries go to
// credent_audit_rest.
func EnsurePartitions(ctx context.Context, db Execer, d string) {
	if d == dialect.Postgres {
		_, _ = db.ExecContext(ctx, "SELECT credent_audit_partitions($1)", monthsAhead)
	}
}

// Month is a calendar month in UTC, from From up to and excluding To.
type Month struct{ From, To time.Time }

// MonthOf returns the month that contains the given time, in UTC.
func MonthOf(at time.Time) Month {
	at = at.UTC()
	from := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
	return Month{from, from.AddDate(0, 1, 0)}
}

// Partition returns the name of the month's partition.
func (m Month) Partition() string { return Table + m.From.Format("_2006_01") }

// Has reports whether the month contains a time in microseconds since 1970.
func (m Month) Has(at int64) bool { return at >= m.From.UnixMicro() && at < m.To.UnixMicro() }

// First returns the month of the oldest entry.
func First(ctx context.Context, db Queryer, d string) (m Month, some bool, err error) {
	var at sql.Null[moment]
	if err := One(ctx, db, d, "SELECT min(at) FROM "+Table, &at); err != nil {
		return m, false, err
	}
	return MonthOf(time.UnixMicro(int64(at.V))), at.Valid, nil
}
