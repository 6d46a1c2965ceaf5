package credent_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"testing"
)

// No predicate, order or validator is generated for a secret field, except the
// blind index's predicate. They would compare tokens, which are never equal, or
// redacted texts.
func TestNothingComparesSecrets(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("ent/usercredential/*.go")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	secret := regexp.MustCompile(`^(By)?(APIKey|SecretKey)`)
	index := regexp.MustCompile(`^APIKey(Is|IndexIsNil|IndexNotNil)$`)
	handle := regexp.MustCompile(`^(APIKey|SecretKey)Column$`) // an encrypted.Column, not a predicate
	seen := 0
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				seen++
				if secret.MatchString(n.Name.Name) && !index.MatchString(n.Name.Name) {
					t.Errorf("%s has the function %s", path, n.Name.Name)
				}
			case *ast.ValueSpec:
				for _, name := range n.Names {
					if secret.MatchString(name.Name) && !handle.MatchString(name.Name) {
						t.Errorf("%s has the variable %s", path, name.Name)
					}
				}
			}
			return true
		})
	}
	if seen < 50 {
		t.Errorf("only %d functions were looked at", seen)
	}
}
