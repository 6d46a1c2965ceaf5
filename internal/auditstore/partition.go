package auditstore

import (
	"context"
	"database/sql"
	"time"

	"entgo.io/ent/dialect"
)

// monthsAhead is how many months have a partition before they begin.
const monthsAhead = 3

// EnsurePartitions makes the partitions of the months to come, on Postgres.
// Where the role may not, entries go to credent_audit_rest, and nothing fails.
func EnsurePartitions(ctx context.Context, db Execer, d string) {
	if d == dialect.Postgres {
		_, _ = db.ExecContext(ctx, "SELECT credent_audit_partitions($1)", monthsAhead)
	}
}

// Month is a month of entries.
type Month struct{ From, To time.Time }

// MonthOf returns the month of a moment, in UTC.
func MonthOf(at time.Time) Month {
	at = at.UTC()
	from := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
	return Month{from, from.AddDate(0, 1, 0)}
}

// Partition is the name of the month's partition.
func (m Month) Partition() string { return Table + m.From.Format("_2006_01") }

// Has reports whether a moment, in microseconds since 1970, is in the month.
func (m Month) Has(at int64) bool { return at >= m.From.UnixMicro() && at < m.To.UnixMicro() }

// First returns the month of the oldest entry.
func First(ctx context.Context, db Queryer, d string) (m Month, some bool, err error) {
	var at sql.Null[moment]
	if err := One(ctx, db, d, "SELECT min(at) FROM "+Table, &at); err != nil {
		return m, false, err
	}
	return MonthOf(time.UnixMicro(int64(at.V))), at.Valid, nil
}
