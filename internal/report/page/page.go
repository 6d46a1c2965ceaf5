// Package page renders a report as an HTML page, for a browser and for paper.
// The page contains its style and charts, runs no scripts, and has a content
// security policy that forbids requests.
package page

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/report"
)

var (
	//go:embed page.gohtml
	text string
	//go:embed page.css
	style string
)

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"count": Number, "day": day, "stamp": stamp, "join": strings.Join, "number": number,
	"parts": func(name string) []string { return strings.Split(name, ".") },
	"last":  func(c []column) int { return len(c) - 1 },
}).Parse(text))

// view is the template's data.
type view struct {
	*report.Report
	Style    template.CSS
	Policy   string // Content-Security-Policy
	Sections []section
	Secrets  int64 // stored secrets
	Counted  bool  // Secrets is exact
	Verified string
	Under    underChart
	Ages     []ageRow
	Trends   []trend
	Months   []column
}

// section is the heading of a part.
type section struct {
	Part, Title string
	Findings    []report.Finding
	Gaps        []report.Gap
}

// Status summarizes a part's findings in words.
func (s section) Status() string {
	var texts []string
	for _, n := range []struct {
		n    int
		noun string
	}{{len(s.Findings), "finding"}, {len(s.Gaps), "gap"}} {
		switch n.n {
		case 0:
		case 1:
			texts = append(texts, "1 "+n.noun)
		default:
			texts = append(texts, strconv.Itoa(n.n)+" "+n.noun+"s")
		}
	}
	if len(s.Findings) == 0 {
		texts = append([]string{"nothing found"}, texts...)
	}
	return strings.Join(texts, ", ")
}

// titles are the parts' titles, in the order of the page.
var titles = [][2]string{
	{report.PartInventory, "Inventory"},
	{report.PartKeys, "Keys"},
	{report.PartProtections, "Protections"},
	{report.PartVerification, "Verification"},
	{report.PartMigrations, "Migrations and drift"},
	{report.PartRowSecurity, "Row-level security"},
	{report.PartAudit, "Audit trail"},
	{report.PartTenants, "Tenants"},
}

// Write writes a report's page.
func Write(w io.Writer, r *report.Report) error {
	sum := sha256.Sum256([]byte(style))
	v := &view{
		Report: r, Style: template.CSS(style), //nolint:gosec // this package's own style
		Policy: "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; style-src 'sha256-" +
			base64.StdEncoding.EncodeToString(sum[:]) + "'",
		Under: newUnderChart(r), Ages: newAges(r.Keys), Trends: newTrends(r.Verifications),
		Months: newMonths(r.Tenants.Months, r.MadeAt), Counted: true,
	}
	for _, t := range titles {
		s := section{Part: t[0], Title: t[1]}
		for _, f := range r.Findings {
			if f.Part == s.Part {
				s.Findings = append(s.Findings, f)
			}
		}
		for _, g := range r.Gaps {
			if g.Part == s.Part {
				s.Gaps = append(s.Gaps, g)
			}
		}
		v.Sections = append(v.Sections, s)
	}
	for _, t := range r.Tables {
		if t.Name == tenantkey.Table { // keys aren't user secrets
			continue
		}
		for _, c := range t.Columns {
			v.Secrets += c.Stored.N
			v.Counted = v.Counted && c.Stored.Exact
		}
	}
	v.Verified = lastVerified(r.Verifications)
	if err := page.Execute(w, v); err != nil {
		return fmt.Errorf("credent: write the page: %w", err)
	}
	return nil
}

// Section returns the heading of a part.
func (v *view) Section(part string) section {
	return v.Sections[slices.IndexFunc(v.Sections, func(s section) bool { return s.Part == part })]
}

// Named reports whether the report names tenants.
func (v *view) Named() bool {
	return slices.ContainsFunc(v.Tenants.Last, func(d report.Destroyed) bool { return d.Tenant != "" })
}

// MostShredded is the largest number of destructions in a month.
func (v *view) MostShredded() (most int64) {
	for _, m := range v.Tenants.Months {
		most = max(most, m.N)
	}
	return most
}

// lastVerified returns the oldest of the columns' last verifications: not all
// columns have been verified since.
func lastVerified(all []report.Verification) string {
	var oldest time.Time
	for _, v := range all {
		last, ok := v.Last()
		if !ok {
			return "never"
		}
		if oldest.IsZero() || last.At.Before(oldest) {
			oldest = last.At
		}
	}
	if oldest.IsZero() {
		return "never"
	}
	return day(oldest)
}

// Number formats a number with commas.
func Number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// number formats a count, and marks an estimate.
func number(c report.Count) string {
	switch {
	case !c.Known:
		return "not known"
	case !c.Exact:
		return "about " + Number(c.N)
	}
	return Number(c.N)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
