package look

import (
	"context"

	"github.com/credent-go/credent/internal/report"
)

// auditTable has the entries of the audit trail.
const auditTable = "credent_audit"

// lookAudit looks for the audit trail.
func (l *looker) lookAudit(ctx context.Context) error {
	query := "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '" + auditTable + "'"
	if l.isPostgres() {
		query = "SELECT CASE WHEN to_regclass('" + auditTable + "') IS NULL THEN 0 ELSE 1 END"
	}
	var n int
	if err := l.db.QueryRowContext(ctx, query).Scan(&n); err != nil {
		return err
	}
	if l.Audit.Present = n > 0; !l.Audit.Present {
		l.gap(report.PartAudit, "who read, wrote or removed which secret, and when", "the audit trail isn't set up")
	}
	return nil
}
