package credent_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const maxReadme = 150 // lines

// The README is short, and its first snippet begins on the first screen.
func TestReadmeFirstScreen(t *testing.T) {
	t.Parallel()
	text := readReadme(t)
	if lines := strings.Count(text, "\n"); lines > maxReadme {
		t.Errorf("the README has %d lines, and at most %d are wanted", lines, maxReadme)
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

// The README's first snippet is a whole program, and prints what its comments
// say.
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

// What the README says of a schema of one's own is all that a new module needs:
// with imports and error handling around the snippets, it generates, stores,
// finds, reveals and re-encrypts.
func TestReadmeOwnSchema(t *testing.T) {
	t.Parallel()
	fields, extension, use := snippets(t)[1], snippets(t)[2], snippets(t)[3]
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	_, requires, _ := strings.Cut(string(mod), "\n")
	write("go.mod", "module example.com/readme\n"+requires+
		"\nrequire github.com/credent-go/credent v0.0.0\nreplace github.com/credent-go/credent => "+root+"\n")
	write("go.sum", string(sum))
	write("ent/schema/integration.go", "package schema\n\nimport (\n\t\"entgo.io/ent\"\n\t\"entgo.io/ent/schema/field\"\n"+
		"\t\"github.com/credent-go/credent/encrypted\"\n)\n\ntype Integration struct{ ent.Schema }\n\n"+fields)
	write("ent/entc.go", "//go:build ignore\n\npackage main\n\nimport (\n\t\"log\"\n\n\t\"entgo.io/ent/entc\"\n"+
		"\t\"entgo.io/ent/entc/gen\"\n\t\"github.com/credent-go/credent/codegen\"\n)\n\nfunc main() {\n"+extension+
		"if err != nil {\n\tlog.Fatal(err)\n}\n}\n")
	write("ent/generate.go", "package ent\n\n//go:generate go run entc.go\n")
	write("main.go", ownSchemaProgram(t, use))

	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off",
			"ENCRYPTION_KEY=cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run("go", "generate", "./...")
	if got, want := run("go", "run", "."), "made-up 0 rewritten\n"; !strings.HasSuffix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// ownSchemaProgram puts the snippet into a program that makes the tables before
// it.
func ownSchemaProgram(t *testing.T, use string) string {
	t.Helper()
	open, rest, ok := strings.Cut(use, "client.Integration.Create()")
	if !ok {
		t.Fatal("the snippet creates nothing")
	}
	// Each statement of the snippet declares err anew or reuses it, so it is
	// checked after each.
	checked := func(code string) string {
		var b strings.Builder
		for line := range strings.Lines(code) {
			b.WriteString(line)
			if strings.Contains(line, "err :=") && !strings.HasSuffix(line, "{\n") || line == "})\n" {
				b.WriteString("\tif err != nil {\n\t\tpanic(err)\n\t}\n")
			}
		}
		return b.String()
	}
	return `package main

import (
	"context"
	"database/sql"
	"fmt"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"example.com/readme/ent"
	"example.com/readme/ent/integration"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/rotate"
	_ "modernc.org/sqlite"
)

func main() {
	ctx := context.Background()
	db, err := sql.Open("sqlite", "file:own.db?_pragma=foreign_keys(1)")
	if err != nil {
		panic(err)
	}
	` + checked(open) + `
	if err := client.Schema.Create(ctx); err != nil {
		panic(err)
	}
	for _, stmt := range encrypted.IndexTriggers(dialect.SQLite) {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			panic(err)
		}
	}
	client.Integration.Create()` + checked(rest) + `
	fmt.Println(token, report.Rewritten(), "rewritten")
}
`
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
