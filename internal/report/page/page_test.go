package page_test

import (
	"html/template"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/credent-go/credent/internal/report"
	"github.com/credent-go/credent/internal/report/page"
)

// hostile is a text that would do harm unescaped.
const hostile = `<script>alert(1)</script>"'><img src="https://example.com/x">{{.}}`

// full returns a report with content in every part.
func full() *report.Report {
	at := time.Date(2026, 11, 24, 3, 4, 5, 0, time.UTC)
	before := at.AddDate(-1, 0, 0)
	under := map[string]int64{"0a1b2c3d": 999_990, "4e5f6071": 5, "tenant-key": 3, "shredded": 1, "unknown": 1}
	return &report.Report{
		Format: 1, MadeAt: at, Version: "v1",
		Database: report.Database{Kind: "Postgres", Version: "15.1", Layout: "single"},
		Findings: []report.Finding{{Part: report.PartKeys, Text: hostile}, {Part: report.PartAudit, Text: "gone"}},
		Gaps:     []report.Gap{{Part: report.PartAudit, What: "all", Why: hostile}},
		Tables: []report.Table{{
			Name: "t", Rows: report.Count{N: 1_000_000, Known: true}, Sampled: 3, Columns: []report.Column{
				{Table: "t", Column: "secret", Type: "string", Index: "secret_index"},
				{Table: "t", Column: "empty", Sample: report.Sample{Opened: true, Under: map[string]int64{}}},
			},
		}},
		Keys: []report.Key{
			{ID: "0a1b2c3d", Use: "primary", Oldest: &before, Newest: &at},
			{ID: "4e5f6071", Use: "earlier", Oldest: &before, Newest: &before},
			{ID: "8899aabb", Use: "unknown"},
			{ID: "tenants' data keys", Use: "tenants"},
		},
		Protections: []report.Protection{{Column: "t.secret", Protection: "binding", State: "write", ChangedAt: &at}},
		Verifications: []report.Verification{
			{Column: "t.secret", Runs: []report.Run{
				{At: before, Secrets: 10, Failed: 2},
				{At: at, Secrets: 1_000_000, Ready: true, Primary: "0a1b2c3d", Under: under},
			}},
			{Column: "t.empty"},
		},
		Migrations: report.Migrations{
			Current: "1", Applied: []report.Revision{{Version: "1", AppliedAt: at}}, Compared: true,
		},
		RowSecurity: report.RowSecurity{
			Supported: true, Tables: []report.SecuredTable{{Name: "t", Owner: "o", Enabled: true}},
			Policies: []report.RowPolicy{{Table: "t", Name: "p", Command: "ALL", Permissive: true, Using: "true"}},
			Roles: []report.Role{{Name: hostile, Kinds: []string{"owner"}, Access: []report.Access{
				{Table: "t", Privileges: []string{"SELECT"}, Held: true, Alone: report.SeesNothing},
				{Table: "u", Cause: "it owns the table"},
			}}},
		},
		Audit: report.Audit{Present: true, Entries: 7, Writers: 1, First: &before, Last: &at},
		Tenants: report.Tenants{
			Known: true, Keys: 3, Destroyed: 2,
			Months: []report.Month{{Month: "2026-10", N: 1}, {Month: "2026-11", N: 1}},
			Last:   []report.Destroyed{{At: at, Tenant: hostile}, {At: before}}, More: 1,
		},
	}
}

func write(t *testing.T, r *report.Report) string {
	t.Helper()
	var b strings.Builder
	if err := page.Write(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The page needs no network, whatever its texts contain.
func TestPageIsClosed(t *testing.T) {
	t.Parallel()
	text := write(t, full())
	escaped := template.HTMLEscapeString(hostile)
	if n := strings.Count(text, escaped); n != 5 {
		t.Errorf("the hostile text occurs %d times", n)
	}
	rest := strings.ReplaceAll(text, escaped, "")
	for _, bad := range []string{
		"<script", "<img", "http://", "src=", "style=\"", "onload", "onclick", "@import", "url(", "ZgotmplZ",
	} {
		if at := strings.Index(rest, bad); at >= 0 {
			t.Errorf("the page has %q: …%s…", bad, rest[max(at-80, 0):min(at+80, len(rest))])
		}
	}
	if !strings.Contains(text, "default-src &#39;none&#39;") && !strings.Contains(text, "default-src 'none'") {
		t.Error("the page has no Content-Security-Policy")
	}
	for _, want := range []string{
		"999,990 under key 0a1b2c3d", "1 under no known key, or altered", "about 1,000,000", "2025-11-24 to 2026-11-24",
		"no secrets", "1 finding", "no verification is recorded", "not looked at", "1 earlier ones are left out",
	} {
		if !strings.Contains(text, want) && !strings.Contains(text, strings.ToUpper(want[:1])+want[1:]) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// Table headings have a scope, charts have names, and each link has a target.
func TestPageIsAccessible(t *testing.T) {
	t.Parallel()
	text := write(t, full())
	for _, tag := range regexp.MustCompile(`<(?:th|svg|table|section|nav)\b[^>]*>`).FindAllString(text, -1) {
		switch {
		case strings.HasPrefix(tag, "<th ") && strings.Contains(tag, "scope="),
			strings.HasPrefix(tag, "<svg ") && strings.Contains(tag, `role="img" aria-label="`),
			strings.HasPrefix(tag, "<svg ") && strings.Contains(tag, `aria-hidden="true"`),
			strings.HasPrefix(tag, "<section ") && strings.Contains(tag, "aria-labelledby="),
			strings.HasPrefix(tag, "<nav ") && strings.Contains(tag, "aria-label="), strings.HasPrefix(tag, "<table"):
		default:
			t.Errorf("%s has no name", tag)
		}
	}
	if tables, captions := strings.Count(text, "<table"), strings.Count(text, "<caption>"); tables != captions {
		t.Errorf("%d tables and %d captions", tables, captions)
	}
	ids := make(map[string]bool)
	for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if ids[m[1]] {
			t.Errorf("the id %s occurs twice", m[1])
		}
		ids[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`(?:href="#|aria-labelledby=")([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if !ids[m[1]] {
			t.Errorf("there is no id %s", m[1])
		}
	}
}

// An empty report is rendered too.
func TestEmptyPage(t *testing.T) {
	t.Parallel()
	text := write(t, &report.Report{Database: report.Database{Kind: "SQLite"}})
	for _, want := range []string{
		"has no row-level security", "audit trail isn’t set up, or was not looked at", "could not be read",
	} {
		if !strings.Contains(text, want) && !strings.Contains(text, strings.ReplaceAll(want, "’", "'")) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", 10_000_000: "10,000,000",
	} {
		if got := page.Number(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
