package codegen

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"

	"entgo.io/ent/entc/gen"
	"golang.org/x/tools/go/ast/astutil"
)

// checkAPIs refuses an encrypted field that an API generator would expose in
// responses as well as requests.
func checkAPIs(node *gen.Type, f *gen.Field) (faults []error) {
	refuse := func(annotation, why string) {
		faults = append(faults,
			fmt.Errorf("%s.%s is encrypted and cannot be %s: %s", node.Name, f.Name, annotation, why))
	}
	if f.Annotations["ProtoField"] != nil {
		refuse("an entproto.Field", "entproto has one message for requests and responses, and responses would "+
			"have the secret. Remove entproto.Field, and take the secret in a request of your own, as "+
			"docs/your-own-schema.md shows")
	}
	var openAPI struct {
		Schema, Example any
		Groups          []string
	}
	if err := decode(f.Annotations["EntOAS"], &openAPI); err != nil {
		faults = append(faults, fmt.Errorf("%s.%s: annotation EntOAS: %w", node.Name, f.Name, err))
	}
	if openAPI.Schema != nil || openAPI.Example != nil || len(openAPI.Groups) > 0 {
		refuse("in entoas.Schema, Example or Groups", "entoas has one schema for requests and responses, and "+
			"responses would have the secret. Remove the annotation, and add the secret to request bodies with "+
			"entoas.Mutations, as docs/your-own-schema.md shows")
	}
	return faults
}

// inputsFile is entgql's file with mutation inputs.
const inputsFile = "gql_mutation_input.go"

// retypeInputs gives encrypted fields in entgql's mutation inputs the type
// encrypted.Input. gqlgen resolves aliases, so it would name the field's type
// by its internal package, which doesn't compile.
func retypeInputs(g *gen.Graph, fields []encryptedField) error {
	path := filepath.Join(g.Target, inputsFile)
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
	of := make(map[string][]encryptedField) // by mutation
	for _, f := range fields {
		of[f.Node.MutationName()] = append(of[f.Node.MutationName()], f)
	}
	changed := false
	for _, decl := range file.Decls {
		mutate, ok := decl.(*ast.FuncDecl)
		if !ok || mutate.Name.Name != "Mutate" || len(mutate.Type.Params.List) != 1 {
			continue
		}
		for _, f := range of[typeName(mutate.Type.Params.List[0].Type)] {
			if retypeField(file, receiver(mutate), f.StructField()) {
				changed = true
				setInput(mutate.Body, f)
			}
		}
	}
	if !changed {
		return nil
	}
	astutil.AddImport(positions, file, encryptedPackage)
	for _, imported := range []string{"time", g.Package + "/" + typePackage} {
		if !astutil.UsesImport(file, imported) {
			astutil.DeleteImport(positions, file, imported)
		}
	}
	var out bytes.Buffer
	if err := format.Node(&out, positions, file); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644) //nolint:gosec // source, world-readable
}

// retypeField changes the type of a struct's field, and reports whether the
// struct has the field.
func retypeField(file *ast.File, structName, field string) (found bool) {
	input := &ast.SelectorExpr{X: ast.NewIdent("encrypted"), Sel: ast.NewIdent("Input")}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != structName {
			return true
		}
		if fields, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range fields.Fields.List {
				if len(f.Names) != 1 || f.Names[0].Name != field {
					continue
				}
				found = true
				if pointer, ok := f.Type.(*ast.StarExpr); ok {
					pointer.X = input
				} else {
					f.Type = input
				}
			}
		}
		return false
	})
	return found
}

// setInput makes the call of a field's setter take an input.
func setInput(body *ast.BlockStmt, f encryptedField) {
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			return true
		}
		setter, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || setter.Sel.Name != f.MutationSet() {
			return true
		}
		if f.Annotation.Type != "string" {
			call.Fun = &ast.SelectorExpr{X: ast.NewIdent("encrypted"), Sel: ast.NewIdent("SetInput")}
			call.Args = []ast.Expr{setter, call.Args[0]}
			return false
		}
		value := call.Args[0]
		if pointer, ok := value.(*ast.StarExpr); ok {
			value = pointer.X
		}
		call.Args[0] = &ast.SelectorExpr{X: value, Sel: ast.NewIdent("Secret")}
		return false
	})
}
