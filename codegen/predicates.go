package codegen

import (
	"bytes"
	"errors"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"

	"entgo.io/ent/entc/gen"
)

// filterFile is the file in which ent's entql feature writes predicates for
// every field.
const filterFile = "entql.go"

// dropFilters removes encrypted fields' predicates from the entql feature's
// file, if it is on. They would send the plaintext to the database to compare
// it with tokens.
func dropFilters(g *gen.Graph, fields []encryptedField) error {
	drop := make(map[[2]string]bool)
	for _, f := range fields {
		drop[[2]string{f.Node.FilterName(), "Where" + f.StructField()}] = true
		if f.Index != nil {
			drop[[2]string{f.Node.FilterName(), "Where" + f.Index.StructField()}] = true
		}
	}
	return dropMethods(filepath.Join(g.Target, filterFile), drop)
}

// dropMethods removes methods, by receiver and name, from a file if it exists.
func dropMethods(path string, drop map[[2]string]bool) error {
	source, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	positions := token.NewFileSet()
	file, err := parser.ParseFile(positions, path, source, parser.ParseComments)
	if err != nil {
		return err
	}
	var kept bytes.Buffer
	end := 0
	for _, decl := range file.Decls {
		method, ok := decl.(*ast.FuncDecl)
		if !ok || !drop[[2]string{receiver(method), method.Name.Name}] {
			continue
		}
		begin := method.Pos()
		if method.Doc != nil {
			begin = method.Doc.Pos()
		}
		kept.Write(source[end:positions.Position(begin).Offset])
		end = positions.Position(method.End()).Offset
	}
	if end == 0 {
		return nil
	}
	kept.Write(source[end:])
	formatted, err := format.Source(kept.Bytes())
	if err != nil {
		return err
	}
	return os.WriteFile(path, formatted, 0o644) //nolint:gosec // source, world-readable
}

// receiver returns the name of a method's receiver type, or "".
func receiver(method *ast.FuncDecl) string {
	if method.Recv == nil || len(method.Recv.List) == 0 {
		return ""
	}
	return typeName(method.Recv.List[0].Type)
}

// typeName returns the name of a type of the same package, or of a pointer to
// such a type, or "".
func typeName(t ast.Expr) string {
	if pointer, ok := t.(*ast.StarExpr); ok {
		t = pointer.X
	}
	if name, ok := t.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}
