package credent_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// withoutExample lists exported functions that need no example of their own:
// generated code calls them, schemas are built from them and tests of fields
// show them, or another function's example shows them.
var withoutExample = map[string][]string{
	"encrypted": {
		// Called by generated code.
		"CompleteBatch", "CompleteCreate", "CompleteDelete", "CompleteUpdate", "IndexScanner", "Refuse", "Register",
		"SetInput", "TextScanner", "ValueScanner",
	},
}

// TestExamples checks that every exported function of the public packages,
// except methods, has an example.
func TestExamples(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"client", "codegen", "credenttest", "encrypted", "keyring", "migrate", "rotate"} {
		files := token.NewFileSet()
		var sources, tests []*ast.File
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if !strings.HasSuffix(entry.Name(), ".go") {
				continue
			}
			file, err := parser.ParseFile(files, dir+"/"+entry.Name(), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(entry.Name(), "_test.go") {
				tests = append(tests, file)
			} else {
				sources = append(sources, file)
			}
		}
		if dir == "rotate" {
			file, err := parser.ParseFile(files, "integration/rotateexamples/example_test.go", nil,
				parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			tests = append(tests, file)
		}
		var shown []string
		for _, example := range doc.Examples(tests...) {
			name, suffix, _ := strings.Cut(example.Name, "_")
			shown = append(shown, name)
			if name == "" && suffix != "" { // rotate's, in a separate directory
				shown = append(shown, strings.ToUpper(suffix[:1])+suffix[1:])
			}
		}
		count := 0
		for _, file := range sources {
			for _, decl := range file.Decls {
				function, ok := decl.(*ast.FuncDecl)
				if !ok || function.Recv != nil || !function.Name.IsExported() {
					continue
				}
				count++
				name := function.Name.Name
				switch hasExample := slices.Contains(shown, name); {
				case hasExample == slices.Contains(withoutExample[dir], name):
					t.Errorf("%s.%s: an example: %v", dir, name, hasExample)
				}
			}
		}
		if count == 0 {
			t.Errorf("%s has no exported functions", dir)
		}
	}
}
