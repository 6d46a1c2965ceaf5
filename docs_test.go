package credent_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every test that the threat model and the guarantees name exists.
func TestDocsNameTests(t *testing.T) {
	t.Parallel()
	tests := testNames(t)
	for _, path := range []string{"docs/threat-model.md", "docs/guarantees.md"} {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(string(page), -1)
		if len(named) < 20 {
			t.Errorf("%s names %d tests", path, len(named))
		}
		for _, match := range named {
			if !tests[match[1]] {
				t.Errorf("%s: %s does not exist", path, match[1])
			}
		}
	}
}

// Every guarantee says what turns it on, what tells when it doesn't hold, and
// names a test.
func TestGuaranteesAreWhole(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| protection |") {
			continue
		}
		rows++
		if len(cells) != 5 {
			t.Errorf("%d cells: %s", len(cells), line)
			continue
		}
		for _, cell := range cells {
			if strings.Trim(cell, " |") == "" {
				t.Errorf("an empty cell: %s", line)
			}
		}
		if !strings.Contains(cells[4], "`Test") {
			t.Errorf("no test: %s", line)
		}
	}
	if rows < 20 {
		t.Errorf("%d guarantees", rows)
	}
}
