// Package trail verifies the audit trail for a report.
package trail

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/keyring"
)

// Table is the audit trail's table.
const Table = "credent_audit"

// maxFindings limits the findings and gaps listed.
const maxFindings = 20

// Found is the result of Look.
type Found struct {
	report.Audit
	Findings     []string
	CouldNotLook []string
}

// Look verifies the trail for a limited time. If the table is missing, the
// result says that there is no trail.
func Look(
	ctx context.Context, db *sql.DB, entDialect string, ring *keyring.Keyring, within time.Duration,
) (f Found, err error) {
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	got, err := audit.Verify(limited, db, entDialect, ring, audit.VerifyOptions{})
	if errors.Is(err, audit.ErrNoTable) {
		return f, nil
	}
	f.Present = true
	switch {
	case err != nil && limited.Err() != nil:
		return f, fmt.Errorf("credent: verification takes longer than %s: `credent audit verify` has no limit", within)
	case err != nil:
		return f, err
	}
	f.Verified = got.Err() == nil
	f.Writers, f.Entries, f.Unlinked = int64(got.Writers), got.Entries, got.Unlinked
	f.CouldNotLook = got.CouldNotLook[:min(len(got.CouldNotLook), maxFindings)]
	if n := int64(len(got.CouldNotLook)-len(f.CouldNotLook)) + got.MoreCouldNotLook; n > 0 {
		f.CouldNotLook = append(f.CouldNotLook, fmt.Sprintf("and %d more", n))
	}
	for i, finding := range got.Findings {
		if i == maxFindings {
			f.Findings = append(f.Findings, fmt.Sprintf("and %d more", int64(len(got.Findings)-i)+got.More))
			break
		}
		f.Findings = append(f.Findings, finding.String())
	}
	if f.First, err = timeOf(ctx, db, entDialect, "ASC"); err == nil {
		f.Last, err = timeOf(ctx, db, entDialect, "DESC")
	}
	return f, err
}

// timeOf returns the first or last entry's time, or nil.
func timeOf(ctx context.Context, db *sql.DB, entDialect, order string) (*time.Time, error) {
	// SQLite stores a text that is RFC 3339 up to the seconds.
	expression := "at"
	if entDialect != dialect.Postgres {
		expression = "substr(at, 1, 19)"
	}
	var stored any
	err := db.QueryRowContext(ctx, "SELECT "+expression+" FROM "+Table+" ORDER BY at "+order+" LIMIT 1").
		Scan(&stored)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	at, ok := stored.(time.Time)
	if !ok {
		text := fmt.Sprintf("%s", stored)
		at, err = time.Parse(time.DateTime, strings.Replace(text, "T", " ", 1))
	}
	at = at.UTC()
	return &at, err
}
