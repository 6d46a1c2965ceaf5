package credent_test

import (
	"os"
	"regexp"
	"testing"
)

// Every test that the threat model names exists.
func TestThreatModelNamesTests(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(string(page), -1)
	if len(named) < 20 {
		t.Errorf("the page names %d tests", len(named))
	}
	for _, match := range named {
		if !tests[match[1]] {
			t.Errorf("%s does not exist", match[1])
		}
	}
}
