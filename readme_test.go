package credent_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const maxReadme = 150 // in lines

// The README is short, and its first snippet starts on the first screen.
func TestReadmeFirstScreen(t *testing.T) {
	t.Parallel()
	text := readReadme(t)
	if lines := strings.Count(text, "\n"); lines > maxReadme {
		t.Errorf("the README has %d lines; the limit is %d", lines, maxReadme)
	}
	before, rest, ok := strings.Cut(text, "```go\n")
	if line := strings.Count(before, "\n") + 1; !ok || line > 25 {
		t.Errorf("the first snippet begins at line %d", line)
	}
	picture, install := strings.Index(rest, "```mermaid\n"), strings.Index(rest, "\n## Install\n")
	if picture < 0 || install < picture {
		t.Error("the picture doesn't stand between the first snippet and the installation")
	}
}

// The README's first snippet is a complete program, and prints what its
// comments say.
func TestReadmeProgram(t *testing.T) {
	t.Parallel()
	source := snippets(t)[0]
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	program := filepath.Join(dir, "program")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, write("main.go", source))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := exec.CommandContext(t.Context(), program)
	run.Dir = dir
	run.Env = append(os.Environ(), "ENCRYPTION_KEY=cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=")
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var want strings.Builder
	for line := range strings.Lines(source) {
		if code, comment, ok := strings.Cut(line, " // "); ok && strings.Contains(code, "fmt.Println") {
			want.WriteString(comment)
		}
	}
	if got := string(out); got != want.String() || got == "" {
		t.Errorf("got\n%s\nwant\n%s", got, want.String())
	}
	if _, err := os.Stat(filepath.Join(dir, "credent.db")); err != nil {
		t.Error(err)
	}
}

func readReadme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// snippets returns the README's Go code.
func snippets(t *testing.T) (code []string) {
	t.Helper()
	for i, part := range strings.Split(readReadme(t), "```go\n") {
		if i > 0 {
			snippet, _, _ := strings.Cut(part, "```")
			code = append(code, snippet)
		}
	}
	if len(code) != 4 {
		t.Fatalf("the README has %d Go snippets", len(code))
	}
	return code
}
