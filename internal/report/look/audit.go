package look

import (
	"context"

	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/internal/report/trail"
)

// lookAudit verifies the audit trail.
func (l *looker) lookAudit(ctx context.Context) error {
	const (
		what     = "who read, wrote or removed which secret, and when"
		notSetUp = "the audit trail isn't set up"
	)
	if l.ring == nil {
		l.lacks(report.PartAudit, what, l.NoKey)
		return nil
	}
	l.step("the audit trail", 0, 0)
	found, err := trail.Look(ctx, l.db, l.Dialect, l.Keyring, l.Within)
	l.Audit = found.Audit
	for _, text := range found.Findings {
		l.find(report.PartAudit, "%s", text)
	}
	for _, text := range found.CouldNotLook {
		l.lacks(report.PartAudit, "a part of the trail", text)
	}
	switch {
	case err != nil:
		return err
	case !l.Audit.Present:
		l.gap(report.PartAudit, what, notSetUp)
	case l.Audit.Entries == 0:
		l.gap(report.PartAudit, what, notSetUp+": no service has written an entry")
	default:
		l.gap(report.PartAudit, "whether the newest entries of a chain, or a whole chain, were removed",
			"only a checkpoint that was kept outside of the database shows that: `credent audit verify --checkpoint`")
	}
	return nil
}
