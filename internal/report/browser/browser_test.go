package main

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/pgserver"
)

// ratio is the contrast ratio of two colors, as in WCAG 2.2.
const ratio = `
  const rgb = (c) => (c.match(/[\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (one, other) => {
    const a = light(one), b = light(other);
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
`

// contrast returns the texts with a contrast to their background of less than
// 4.5 to 1 (WCAG 2.2, 1.4.3).
const contrast = `(() => {` + ratio + `
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const e of document.body.querySelectorAll('*')) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || e.closest('svg')) continue;
    const r = ratio(rgb(getComputedStyle(e).color), behind(e));
    if (r < 4.5) bad.push(e.tagName + '.' + e.className + ' ' + r.toFixed(2) + ': ' + e.textContent.trim().slice(0, 40));
  }
  return bad;
})()`

// TestPage checks a report's page in Chromium: on a phone, a tablet and a
// desktop, in light and dark, and on paper.
func TestPage(t *testing.T) {
	server, err := pgserver.Start(t.Context(), pgserver.Shared())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	}()
	r, err := newReport(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	b, err := newBrowser(t.Context(), filepath.Join(folder, "profile"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	if _, err := b.open(folder, r); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, width := range widths {
		for _, dark := range []bool{false, true} {
			name := fmt.Sprintf("%d, dark %v", width, dark)
			if err := b.show(width, 900, dark); err != nil {
				t.Fatal(err)
			}
			overflow, err1 := evaluate[int64](b,
				"document.documentElement.scrollWidth - document.documentElement.clientWidth")
			paper, err2 := evaluate[string](b, "getComputedStyle(document.body).backgroundColor")
			bad, err3 := evaluate[[]string](b, contrast)
			if err := errors.Join(err1, err2, err3); err != nil {
				t.Fatal(err)
			}
			if overflow > 0 {
				t.Errorf("%s: the page is %d pixels too wide", name, overflow)
			}
			if len(bad) > 0 {
				t.Errorf("%s: too little contrast:\n%s", name, strings.Join(bad, "\n"))
			}
			seen[paper] = true
			png, err := b.picture(width, 900, dark)
			if err != nil || !bytes.HasPrefix(png, []byte("\x89PNG")) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if len(seen) != 2 {
		t.Errorf("light and dark have the same paper: %v", seen)
	}
	pdf, err := b.pdf()
	if err != nil || !bytes.HasPrefix(pdf, []byte("%PDF-")) {
		t.Errorf("the print: %v", err)
	}
	if pages := bytes.Count(pdf, []byte("/Type /Page\n")); pages < 2 {
		t.Errorf("the print has %d pages", pages)
	}
	checkTree(t, b)
	checkHeard(t, b)
}

// checkHeard checks that pages logged nothing and made no network request.
func checkHeard(t *testing.T, b *browser) {
	t.Helper()
	said, requests := b.heard()
	if len(said) > 0 {
		t.Errorf("the console has: %s", strings.Join(said, "\n"))
	}
	for _, address := range requests {
		if !strings.HasPrefix(address, "file://") && !strings.HasPrefix(address, "data:") {
			t.Errorf("the page asks for %s", address)
		}
	}
}

// checkTree checks the accessibility tree.
func checkTree(t *testing.T, b *browser) {
	t.Helper()
	names, err := b.tree()
	if err != nil {
		t.Fatal(err)
	}
	for role, least := range map[string]int{
		"image": 8, "table": 8, "caption": 8, "heading": 9, "region": 15, "navigation": 1, "main": 1, "banner": 1,
		"contentinfo": 1, "columnheader": 20, "rowheader": 20, "link": 9, "RootWebArea": 1,
	} {
		if len(names[role]) < least {
			t.Errorf("%d of the role %s, want %d at least", len(names[role]), role, least)
		}
		unnamed := slices.Contains(names[role], "")
		if needs := !slices.Contains([]string{"main", "banner", "contentinfo", "caption"}, role); needs && unnamed {
			t.Errorf("an element of the role %s has no name", role)
		}
	}
	for name, want := range map[string]string{
		"RootWebArea": "Evidence report", "image": "user_credentials.api_key: ", "navigation": "Parts of the report",
	} {
		if !slices.ContainsFunc(names[name], func(s string) bool { return strings.HasPrefix(s, want) }) {
			t.Errorf("no %s is named %q: %q", name, want, names[name])
		}
	}
	language, err := evaluate[string](b, "document.documentElement.lang")
	if err != nil || language != "en" {
		t.Errorf("the language is %q, %v", language, err)
	}
}
