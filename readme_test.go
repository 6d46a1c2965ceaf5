package credent_test

import (
	"os"
	"strings"
	"testing"
)

// The lines of the README's first snippet, but for error handling and comments,
// stand in a compiled example.
func TestReadmeSnippet(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_open_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "```go\n")
	snippet, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("the README has no Go snippet")
	}
	if line := strings.Count(string(readme[:strings.Index(string(readme), snippet)]), "\n"); line > 25 {
		t.Errorf("the snippet begins at line %d", line)
	}
	checked := 0
	for line := range strings.Lines(snippet) {
		code, _, _ := strings.Cut(line, "//")
		code = strings.TrimSpace(code)
		if !strings.HasPrefix(code, "Set") && !strings.Contains(code, "Reveal") && !strings.Contains(code, "QueryCredentials") {
			continue
		}
		checked++
		if !strings.Contains(string(example), code) {
			t.Errorf("%q is not in the example", code)
		}
	}
	if checked < 7 {
		t.Errorf("only %d lines were checked", checked)
	}
}
