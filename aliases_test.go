package credent_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/client"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/rotate"
)

// aliases are the types that public packages share with the engine, because
// generated code, drivers and errors need a single type.
var aliases = map[string]reflect.Type{
	"credent.CopyConfig":        reflect.TypeFor[credent.CopyConfig](),
	"credent.CopyError":         reflect.TypeFor[credent.CopyError](),
	"credent.CopyRow":           reflect.TypeFor[credent.CopyRow](),
	"client.Expiring":           reflect.TypeFor[client.Expiring](),
	"client.Format":             reflect.TypeFor[client.Format](),
	"client.RowSecurityError":   reflect.TypeFor[client.RowSecurityError](),
	"encrypted.Binding":         reflect.TypeFor[encrypted.Binding](),
	"encrypted.Column":          reflect.TypeFor[encrypted.Column](),
	"encrypted.ColumnStates":    reflect.TypeFor[encrypted.ColumnStates](),
	"encrypted.Digest":          reflect.TypeFor[encrypted.Digest](),
	"encrypted.Error":           reflect.TypeFor[encrypted.Error](),
	"encrypted.Event":           reflect.TypeFor[encrypted.Event](),
	"encrypted.Observer":        reflect.TypeFor[encrypted.Observer](),
	"encrypted.Opener":          reflect.TypeFor[encrypted.Opener](),
	"encrypted.Reader":          reflect.TypeFor[encrypted.Reader](),
	"encrypted.Reveal":          reflect.TypeFor[encrypted.Reveal](),
	"encrypted.Secret":          reflect.TypeFor[encrypted.Secret](),
	"encrypted.State":           reflect.TypeFor[encrypted.State](),
	"encrypted.Value":           reflect.TypeFor[encrypted.Value[int]](),
	"encrypted.TenantKeyLookup": reflect.TypeFor[encrypted.TenantKeyLookup](),
	"migrate.LockError":         reflect.TypeFor[migrate.LockError](),
	"migrate.LockHolder":        reflect.TypeFor[migrate.LockHolder](),
	"rotate.DatabaseError":      reflect.TypeFor[rotate.DatabaseError](),
	"rotate.LockError":          reflect.TypeFor[rotate.LockError](),
	"rotate.Protection":         reflect.TypeFor[rotate.Protection](),
	"rotate.StoredState":        reflect.TypeFor[rotate.StoredState](),
}

// wellKnown matches methods that need no documentation, because they belong to
// interfaces of the standard library.
var wellKnown = regexp.MustCompile(`^(Methods|String|GoString|Format|LogValue|Error|Unwrap|Is|Scan|Value|(Unm|M)arshal(Text|JSON|XML|XMLAttr|Binary|GQL)|GobEncode|GobDecode)$`)

// members returns a type's exported fields and methods.
func members(of reflect.Type) (names []string) {
	if of.Kind() == reflect.Struct {
		for _, field := range reflect.VisibleFields(of) {
			if field.IsExported() && len(field.Index) == 1 && field.Name != "Methods" { // for printing
				names = append(names, field.Name)
			}
		}
	}
	methods := of
	if of.Kind() != reflect.Interface {
		methods = reflect.PointerTo(of)
	}
	for i := range methods.NumMethod() {
		method := methods.Method(i)
		if !wellKnown.MatchString(method.Name) {
			names = append(names, method.Name)
		}
	}
	return names
}

// TestAliasesAreDocumented checks that each alias in a public package for an
// internal type documents its fields and methods, because go doc shows none, or
// says where they are documented.
func TestAliasesAreDocumented(t *testing.T) {
	t.Parallel()
	found := 0
	for _, dir := range []string{".", "client", "codegen", "credenttest", "encrypted", "keyring", "migrate", "rotate"} {
		noTest := func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }
		//nolint:staticcheck // the files alone are wanted
		packages, err := parser.ParseDir(token.NewFileSet(), dir, noTest, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for name, pkg := range packages {
			ast.Inspect(pkg, func(n ast.Node) bool {
				decl, ok := n.(*ast.GenDecl)
				if !ok || decl.Tok != token.TYPE {
					return true
				}
				for _, spec := range decl.Specs {
					spec := spec.(*ast.TypeSpec)
					if !spec.Assign.IsValid() || !spec.Name.IsExported() {
						continue
					}
					found++
					comment := spec.Doc.Text()
					if spec.Doc == nil {
						comment = decl.Doc.Text()
					}
					checkAlias(t, name+"."+spec.Name.Name, comment)
				}
				return true
			})
		}
	}
	if found < len(aliases) {
		t.Errorf("only %d aliases were found", found)
	}
}

func checkAlias(t *testing.T, name, comment string) {
	t.Helper()
	if strings.Contains(comment, "fields and methods of [Column]") {
		comment += "Column CheckTenant Earlier InSchema IsIndexedByTenant IsSame Key MaxPlaintext Quoted TableName Wrap"
	}
	of, ok := aliases[name]
	if !ok {
		// Documented in another public package.
		target := regexp.MustCompile(`\b(encrypted|client|rotate|migrate)\.[A-Z]\w*`).FindString(comment)
		if _, ok := aliases[target]; !ok && target != "client.Config" {
			t.Errorf("%s: the comment doesn't say where the type is documented: %q", name, comment)
		}
		return
	}
	for _, member := range members(of) {
		if !regexp.MustCompile(`\b` + member + `\b`).MatchString(comment) {
			t.Errorf("%s: the comment doesn't say what %s is", name, member)
		}
	}
}
