package credent_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// comparison is the content of docs/comparison.md.
type comparison struct {
	systems []string
	rows    map[string][]string // cells by capability
	apart   map[string][]string // cells by system, in the table of systems that aren't ORMs
	marks   map[string]int      // how often a mark is used on the page
	sources map[string]string   // each mark's definition
	commits []string            // first digits of the commits that were read
}

var (
	marksOf   = regexp.MustCompile(`\[\^([a-z0-9-]+)\]`)
	sourceOf  = regexp.MustCompile(`^\[\^([a-z0-9-]+)\]: (.+)$`)
	commitOf  = regexp.MustCompile("at `([0-9a-f]{12})`")
	linkOf    = regexp.MustCompile(`\]\(([^)]+)\)`)
	blobOf    = regexp.MustCompile(`^https://github\.com/[\w-]+/[\w-]+/(?:blob|tree)/([0-9a-f]{40})/`)
	testOf    = regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	headingOf = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// Each cell of docs/comparison.md has a source, each source is defined once and
// used, and sources in this repository exist.
func TestComparisonHasSources(t *testing.T) {
	t.Parallel()
	page := readComparison(t)
	if len(page.systems) < 7 || len(page.rows) < 20 || len(page.commits) < 8 {
		t.Fatalf("the page has %d systems, %d rows and %d commits", len(page.systems), len(page.rows),
			len(page.commits))
	}
	for capability, cells := range page.rows {
		for i, cell := range cells {
			text := strings.TrimSpace(marksOf.ReplaceAllString(cell, ""))
			marks := marksOf.FindAllStringSubmatch(cell, -1)
			if text == "" || len(marks) == 0 {
				t.Errorf("%s, %s: %q has no text or no source", capability, page.systems[i], cell)
			}
			var sources string
			for _, mark := range marks {
				sources += page.sources[mark[1]]
			}
			absent := strings.Contains(text, "not found") || strings.Contains(text, "not documented")
			if absent && !strings.Contains(sources, "looked in") {
				t.Errorf("%s, %s: %q does not say where its author looked", capability, page.systems[i], text)
			}
		}
	}
	if len(page.apart) < 4 {
		t.Errorf("the table of systems that aren't ORMs has %d rows", len(page.apart))
	}
	for system, cells := range page.apart {
		for _, cell := range cells {
			if !marksOf.MatchString(cell) {
				t.Errorf("%s: %q has no source", system, cell)
			}
		}
	}
	for mark := range page.marks {
		if page.sources[mark] == "" {
			t.Errorf("the source %s is not defined", mark)
		}
	}
	tests := testNames(t)
	for mark, source := range page.sources {
		if page.marks[mark] == 0 {
			t.Errorf("the source %s is not used", mark)
		}
		links := linkOf.FindAllStringSubmatch(source, -1)
		named := testOf.FindAllStringSubmatch(source, -1)
		if len(links)+len(named) == 0 {
			t.Errorf("the source %s has no link and names no test", mark)
		}
		for _, test := range named {
			if !tests[test[1]] {
				t.Errorf("the source %s: %s does not exist", mark, test[1])
			}
		}
		for _, link := range links {
			checkSource(t, page, mark, link[1])
		}
	}
}

// checkSource reports a link to a missing file of this repository, or to
// another repository at a commit that the page doesn't name.
func checkSource(t *testing.T, page comparison, mark, link string) {
	t.Helper()
	if strings.HasPrefix(link, "https://github.com/") && !strings.Contains(link, "/issues/") {
		commit := blobOf.FindStringSubmatch(link)
		if commit == nil || !slices.Contains(page.commits, commit[1][:12]) {
			t.Errorf("the source %s: %s is not at a commit that was read", mark, link)
		}
	}
	if strings.HasPrefix(link, "https://") {
		return
	}
	path, anchor, _ := strings.Cut(link, "#")
	data, err := os.ReadFile(filepath.Join("docs", filepath.FromSlash(path)))
	if err != nil {
		t.Errorf("the source %s: %v", mark, err)
		return
	}
	if anchor != "" && !slices.Contains(anchors(string(data)), anchor) {
		t.Errorf("the source %s: %s has no heading #%s", mark, path, anchor)
	}
}

// The README's table contains rows of docs/comparison.md for the same systems,
// in shorter words.
func TestReadmeComparison(t *testing.T) {
	t.Parallel()
	page := readComparison(t)
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(readme), "\n## Compared with others\n")
	section, _, ok2 := strings.Cut(section, "\n## ")
	if !ok || !ok2 || !strings.Contains(section, "(docs/comparison.md)") {
		t.Fatal("the README has no section with a link to docs/comparison.md")
	}
	systems, rows := tables(t, section, "capability")
	if !slices.Equal(systems, page.systems) {
		t.Errorf("the README compares %q, and the page %q", systems, page.systems)
	}
	if len(rows) < 5 || len(rows) > 14 {
		t.Errorf("the README has %d rows", len(rows))
	}
	for capability, cells := range rows {
		if page.rows[capability] == nil {
			t.Errorf("%q is not on the page", capability)
			continue
		}
		for i, cell := range cells {
			if n := utf8.RuneCountInString(cell); n == 0 || n > 24 {
				t.Errorf("%s, %s: %q has %d characters", capability, systems[i], cell, n)
			}
			// "Not found" must not become a plain no, or vice versa.
			for _, word := range []string{"not found", "not documented"} {
				if strings.HasPrefix(cell, word) != strings.HasPrefix(page.rows[capability][i], word) {
					t.Errorf("%s, %s: %q, but the page has %q", capability, systems[i], cell, page.rows[capability][i])
				}
			}
		}
	}
}

// readComparison reads docs/comparison.md.
func readComparison(t *testing.T) comparison {
	t.Helper()
	data, err := os.ReadFile("docs/comparison.md")
	if err != nil {
		t.Fatal(err)
	}
	page := comparison{marks: make(map[string]int), sources: make(map[string]string)}
	page.systems, page.rows = tables(t, string(data), "capability")
	_, section, _ := strings.Cut(string(data), "\n## A proxy")
	section, _, _ = strings.Cut(section, "\n## ")
	_, page.apart = tables(t, section, "system")
	for line := range strings.Lines(string(data)) {
		if source := sourceOf.FindStringSubmatch(strings.TrimSpace(line)); source != nil {
			if page.sources[source[1]] != "" {
				t.Errorf("the source %s is defined twice", source[1])
			}
			page.sources[source[1]] = source[2]
			continue
		}
		for _, mark := range marksOf.FindAllStringSubmatch(line, -1) {
			page.marks[mark[1]]++
		}
		for _, commit := range commitOf.FindAllStringSubmatch(line, -1) {
			page.commits = append(page.commits, commit[1])
		}
	}
	return page
}

// tables reads the Markdown tables with the given heading of the first column.
// It returns the other headings, which must be the same in all tables, and each
// row's cells.
func tables(t *testing.T, text, heading string) (systems []string, rows map[string][]string) {
	t.Helper()
	rows = make(map[string][]string)
	inside := false
	for line := range strings.Lines(text) {
		row, ok := strings.CutPrefix(strings.TrimSpace(line), "|")
		if !ok {
			inside = false
			continue
		}
		cells := strings.Split(strings.TrimSuffix(row, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case cells[0] == heading:
			if systems != nil && !slices.Equal(systems, cells[1:]) {
				t.Errorf("a table compares %q, and another %q", cells[1:], systems)
			}
			systems, inside = cells[1:], true
		case !inside || cells[0] == "---":
		case len(cells) != len(systems)+1 || cells[0] == "" || rows[cells[0]] != nil:
			t.Errorf("the row %q has %d cells, or no name of its own", cells[0], len(cells))
		default:
			rows[cells[0]] = cells[1:]
		}
	}
	return systems, rows
}

// testNames returns the names of the repository's tests, fuzz tests and
// benchmarks.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	tests := make(map[string]bool)
	declaration := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		for _, match := range declaration.FindAllStringSubmatch(string(data), -1) {
			tests[match[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}
