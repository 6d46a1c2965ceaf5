// Command concurrent finds the tests that start goroutines, directly or in a
// helper in their package's test files, so that make test can run only these
// under the race detector. It prints a pattern for go test's -run, or with
// -packages the folders. -also names tests that don't start goroutines but
// share the product's global state in parallel subtests.
//
//	go run ./internal/concurrent -also TestCopy,TestReadPaths integration/*/
package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("concurrent: ")
	packages := flag.Bool("packages", false, "print the folders that have such tests")
	also := flag.String("also", "", "names of `tests` to add, by commas")
	flag.Parse()
	added := strings.FieldsFunc(*also, func(r rune) bool { return r == ',' })
	var tests, folders []string
	for _, dir := range flag.Args() {
		found, err := find(dir, added)
		if err != nil {
			log.Fatal(err)
		}
		if len(found) > 0 {
			tests, folders = append(tests, found...), append(folders, "./"+filepath.Clean(dir))
		}
	}
	for _, name := range added {
		if !slices.Contains(tests, name) {
			log.Fatalf("no folder has %s", name)
		}
	}
	switch {
	case len(tests) == 0:
		log.Fatal("no test starts a goroutine in the given folders")
	case *packages:
		fmt.Println(strings.Join(folders, " "))
	default:
		slices.Sort(tests)
		fmt.Printf("^(%s)$\n", strings.Join(slices.Compact(tests), "|"))
	}
}

// function describes a package's test functions with one name.
type function struct {
	starts bool
	calls  []string
}

// find returns the tests of a folder that start goroutines, and the added ones.
// It matches functions by name only, so it may return too many tests, but
// misses none if the goroutine is started in test files.
func find(dir string, added []string) (tests []string, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	functions := make(map[string]*function)
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, decl := range file.Decls {
			if decl, ok := decl.(*ast.FuncDecl); ok {
				name := decl.Name.Name
				if functions[name] == nil {
					functions[name] = new(function)
				}
				ast.Inspect(decl, functions[name].look)
			}
		}
	}
	for again := true; again; {
		again = false
		for _, f := range functions {
			starts := func(name string) bool { return functions[name] != nil && functions[name].starts }
			if !f.starts && slices.ContainsFunc(f.calls, starts) {
				f.starts, again = true, true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(functions)) {
		starts := functions[name].starts && strings.HasPrefix(name, "Test") && name != "TestMain"
		if starts || slices.Contains(added, name) {
			tests = append(tests, name)
		}
	}
	return tests, nil
}

// look notes go statements, calls of a method Go, and called functions.
func (f *function) look(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		f.starts = true
	case *ast.CallExpr:
		switch fun := n.Fun.(type) {
		case *ast.Ident:
			f.calls = append(f.calls, fun.Name)
		case *ast.SelectorExpr:
			f.starts = f.starts || fun.Sel.Name == "Go"
			f.calls = append(f.calls, fun.Sel.Name)
		}
	}
	return true
}
