package codegen

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"

	"entgo.io/ent/entc/gen"
	"golang.org/x/tools/imports"
)

// runtimeFiles returns the possible files of ent's runtime code.
func runtimeFiles(g *gen.Graph) []string {
	return []string{filepath.Join(g.Target, "runtime.go"), filepath.Join(g.Target, "runtime", "runtime.go")}
}

// dropScanners removes ValueScanners from ent's runtime code, because the
// column files set them. ent takes them from the schema. A service that needs
// the schema for nothing else is a third smaller without it: the schema links
// ent's field constructors, which look up methods by name, so the linker can't
// remove any method.
func dropScanners(g *gen.Graph, fields []encryptedField) error {
	drop := make(map[[2]string]bool)
	for _, f := range fields {
		drop[[2]string{f.Node.Package(), f.StructField()}] = true
		if f.Index != nil && !f.Declared.Normalized {
			drop[[2]string{f.Node.Package(), f.Index.StructField()}] = true
		}
	}
	for _, path := range runtimeFiles(g) {
		source, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		kept, err := withoutScanners(path, source, drop)
		if err != nil {
			return err
		}
		if bytes.Equal(kept, source) {
			continue
		}
		if err := os.WriteFile(path, kept, 0o644); err != nil { //nolint:gosec // source, world-readable
			return err
		}
	}
	return nil
}

// withoutScanners returns the source of ent's runtime code without the
// statements that set ValueScanners, by package and field, and without code
// that only they need.
func withoutScanners(path string, source []byte, drop map[[2]string]bool) ([]byte, error) {
	positions := token.NewFileSet()
	file, err := parser.ParseFile(positions, path, source, 0)
	if err != nil {
		return nil, err
	}
	lines := bytes.SplitAfter(source, []byte("\n"))
	dropped := false
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Name.Name != "init" || f.Recv != nil {
			continue
		}
		for _, s := range without(f.Body.List, drop) {
			dropped = true
			first, last := positions.Position(s.Pos()).Line-1, positions.Position(s.End()).Line-1
			for first > 0 && bytes.HasPrefix(bytes.TrimSpace(lines[first-1]), []byte("//")) {
				first--
			}
			for i := first; i <= last; i++ {
				lines[i] = nil
			}
		}
	}
	if !dropped {
		return source, nil
	}
	return imports.Process(path, bytes.Join(lines, nil), nil)
}

// without returns the statements that set ValueScanners, and the declarations
// that are then unused.
func without(body []ast.Stmt, drop map[[2]string]bool) (gone []ast.Stmt) {
	var kept []ast.Stmt
	for _, s := range body {
		if drop[scannerSet(s)] {
			gone = append(gone, s)
		} else {
			kept = append(kept, s)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	for {
		uses := make(map[string]int)
		for _, s := range kept {
			if discarded(s) != "" {
				continue
			}
			ast.Inspect(s, func(n ast.Node) bool {
				if name, ok := n.(*ast.Ident); ok {
					uses[name.Name]++
				}
				return true
			})
		}
		var still []ast.Stmt
		for _, s := range kept {
			declared, blank := declares(s), discarded(s)
			if declared != "" && uses[declared] == 1 || blank != "" && uses[blank] <= 1 {
				gone = append(gone, s)
			} else {
				still = append(still, s)
			}
		}
		if len(still) == len(kept) {
			return gone
		}
		kept = still
	}
}

// scannerSet returns the package and field in a statement
// note.ValueScanner.Token = …, or zero.
func scannerSet(s ast.Stmt) (of [2]string) {
	set, ok := s.(*ast.AssignStmt)
	if !ok || set.Tok != token.ASSIGN || len(set.Lhs) != 1 {
		return of
	}
	name, ok := set.Lhs[0].(*ast.SelectorExpr)
	if !ok {
		return of
	}
	scanner, ok := name.X.(*ast.SelectorExpr)
	if !ok || scanner.Sel.Name != "ValueScanner" {
		return of
	}
	return [2]string{typeName(scanner.X), name.Sel.Name}
}

// declares returns the name in a statement name := …, or "".
func declares(s ast.Stmt) string {
	if set, ok := s.(*ast.AssignStmt); ok && set.Tok == token.DEFINE && len(set.Lhs) == 1 {
		return typeName(set.Lhs[0])
	}
	return ""
}

// discarded returns the name in a statement _ = name, or "".
func discarded(s ast.Stmt) string {
	set, ok := s.(*ast.AssignStmt)
	if !ok || set.Tok != token.ASSIGN || len(set.Lhs) != 1 || len(set.Rhs) != 1 || typeName(set.Lhs[0]) != "_" {
		return ""
	}
	return typeName(set.Rhs[0])
}
