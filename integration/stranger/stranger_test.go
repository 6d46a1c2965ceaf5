// Package stranger_test follows the README's steps in a module without any
// other knowledge of Credent.
package stranger_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/credenttest"
	"github.com/credent-go/credent/internal/modproxy"
	"github.com/credent-go/credent/keyring"
)

func TestMain(m *testing.M) { os.Exit(credenttest.Main(m)) }

// The README's steps for your own schema are all a new module needs: with
// imports and error handling added, the module generates, migrates, stores,
// finds, lists, reveals and re-encrypts, on SQLite and Postgres. It gets
// Credent by version, without a replace.
func TestStranger(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	readme := read("README.md")
	getting, _, found := strings.Cut(readme[strings.Index(readme, "After `go get")+len("After `"):], "`")
	generating, _, found2 := strings.Cut(readme[strings.Index(readme, "and `go -C")+len("and `"):], "`")
	if !found || !found2 {
		t.Fatal("the README doesn't say what to get and how to generate")
	}
	parts := strings.Split(readme, "```go\n")
	if len(parts) != 5 {
		t.Fatalf("the README has %d Go snippets", len(parts)-1)
	}
	for i, part := range parts {
		parts[i], _, _ = strings.Cut(part, "```")
	}
	schema, generate, use := parts[2], parts[3], parts[4]
	proxy, dir := modproxy.New(t), t.TempDir()
	proxy.Add(t, modproxy.Credent, root)
	for name, text := range map[string]string{
		"ent/schema/integration.go": schemaImports + schema,
		"ent/entc.go":               generateImports + checked(generate) + "}\n",
		"main.go":                   useImports + checked(use) + "fmt.Println(report.Rewritten(), `rewritten`)\n}\n",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		// The program takes its database from the command line.
		text = strings.ReplaceAll(text, `sql.Open("sqlite", "file:app.db?_pragma=foreign_keys(1)")`, "sql.Open(os.Args[1], os.Args[2])")
		text = strings.ReplaceAll(text, "dialect.SQLite", "os.Args[3]")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(t *testing.T, env []string, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		cmd.Env = append(proxy.Env(), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run(t, nil, "go", "mod", "init", "example.com/readme")
	for _, command := range []string{getting, generating, "go mod tidy"} {
		args := strings.Fields(command)
		run(t, nil, args[0], args[1:]...)
	}
	if mod, err := os.ReadFile(filepath.Join(dir, "go.mod")); err != nil || strings.Contains(string(mod), "replace") ||
		!strings.Contains(string(mod), modproxy.Credent+" "+proxy.Version) {
		t.Errorf("go.mod: %v\n%s", err, mod)
	}
	run(t, nil, "go", "build", "-o", "app", ".")

	for name, database := range map[string][]string{
		"SQLite":   {"sqlite", "file:app.db?_pragma=foreign_keys(1)", dialect.SQLite},
		"Postgres": {"pgx", credenttest.EmptyURL(t), dialect.Postgres},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := keyring.GenerateKey(), keyring.GenerateKey()
			app := filepath.Join(dir, "app")
			const row = "[REDACTED] made-up <nil>\n"
			got := run(t, []string{"ENCRYPTION_KEY=" + first}, app, database...)
			if want := row + "0 rewritten\n"; got != want {
				t.Errorf("first run: got %q, want %q", got, want)
			}
			// Both rows are found, the first one under the old key.
			got = run(t, []string{"ENCRYPTION_KEY=" + second, "ENCRYPTION_KEY_PREVIOUS=" + first}, app, database...)
			if want := row + row + "1 rewritten\n"; got != want {
				t.Errorf("second run: got %q, want %q", got, want)
			}
		})
	}
}

const schemaImports = `package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
	"github.com/credent-go/credent/encrypted"
)

`

const generateImports = `//go:build ignore

package main

import (
	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"
	"github.com/credent-go/credent/codegen"
)

func main() {
`

const useImports = `package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"

	entsql "entgo.io/ent/dialect/sql"
	"example.com/readme/ent"
	"example.com/readme/ent/integration"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"
)

func main() {
	ctx := context.Background()
`

// checked adds the error handling that the README omits.
func checked(code string) string {
	var b strings.Builder
	for line := range strings.Lines(code) {
		b.WriteString(line)
		if strings.Contains(line, "err := ") || strings.Contains(line, "err = ") {
			b.WriteString("if err != nil {\n\tpanic(err)\n}\n")
		}
	}
	return b.String()
}
