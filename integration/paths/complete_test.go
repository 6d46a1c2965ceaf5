package paths

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/credent-go/credent/ent"
)

// generated are the types that ent generates for credentials, by name, and the
// types that lead to them.
var generated = map[string]reflect.Type{
	"Client":                   reflect.TypeFor[*ent.Client](),
	"Tx":                       reflect.TypeFor[*ent.Tx](),
	"UserCredential":           reflect.TypeFor[*ent.UserCredential](),
	"UserCredentialClient":     reflect.TypeFor[*ent.UserCredentialClient](),
	"UserCredentialCreate":     reflect.TypeFor[*ent.UserCredentialCreate](),
	"UserCredentialCreateBulk": reflect.TypeFor[*ent.UserCredentialCreateBulk](),
	"UserCredentialDelete":     reflect.TypeFor[*ent.UserCredentialDelete](),
	"UserCredentialDeleteOne":  reflect.TypeFor[*ent.UserCredentialDeleteOne](),
	"UserCredentialEdges":      reflect.TypeFor[*ent.UserCredentialEdges](),
	"UserCredentialGroupBy":    reflect.TypeFor[*ent.UserCredentialGroupBy](),
	"UserCredentialMutation":   reflect.TypeFor[*ent.UserCredentialMutation](),
	"UserCredentialQuery":      reflect.TypeFor[*ent.UserCredentialQuery](),
	"UserCredentialSelect":     reflect.TypeFor[*ent.UserCredentialSelect](),
	"UserCredentialUpdate":     reflect.TypeFor[*ent.UserCredentialUpdate](),
	"UserCredentialUpdateOne":  reflect.TypeFor[*ent.UserCredentialUpdateOne](),
	"UserCredentialUpsert":     reflect.TypeFor[*ent.UserCredentialUpsert](),
	"UserCredentialUpsertBulk": reflect.TypeFor[*ent.UserCredentialUpsertBulk](),
	"UserCredentialUpsertOne":  reflect.TypeFor[*ent.UserCredentialUpsertOne](),
	"UserCredentials":          reflect.TypeFor[*ent.UserCredentials](),
}

// TestGeneratedTypes checks that the list above is complete.
func TestGeneratedTypes(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../ent/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != "Client" && spec.Name.Name != "Tx" && !strings.HasPrefix(spec.Name.Name,
				"UserCredential") {
				return true
			}
			found++
			if generated[spec.Name.Name] == nil {
				t.Errorf("%s: the type %s is not in the list; add it, and its methods to the paths",
					file, spec.Name.Name)
			}
			return true
		})
	}
	if found != len(generated) {
		t.Errorf("package ent has %d of the %d types", found, len(generated))
	}
}

// methods returns the methods of all generated types, as Type.Method.
func methods() []string {
	var all []string
	for name, typ := range generated {
		for i := range typ.NumMethod() {
			all = append(all, name+"."+typ.Method(i).Name)
		}
	}
	slices.Sort(all)
	return all
}

// checkComplete checks that each method is either covered by a path or
// harmless, and that each exists. Besides [harmlessBothWays], harmless maps
// reasons to methods, some with a * for the type.
func checkComplete(t *testing.T, covered []string, harmless map[string]string) {
	t.Helper()
	left := make(map[string]bool)
	for _, method := range methods() {
		left[method] = true
	}
	count := func(method, by string) {
		if _, ok := left[method]; !ok {
			t.Errorf("%s: there is no %s", by, method)
		} else if !left[method] && by != "a path" {
			t.Errorf("%s: %s is covered already", by, method)
		}
		left[method] = false
	}
	for _, method := range covered {
		count(method, "a path")
	}
	all := maps.Clone(harmlessBothWays)
	maps.Copy(all, harmless)
	for reason, list := range all {
		for _, method := range strings.Fields(list) {
			any := false
			if name, ok := strings.CutPrefix(method, "*."); ok {
				for candidate, isLeft := range left {
					if isLeft && strings.HasSuffix(candidate, "."+name) {
						any = true
						count(candidate, reason)
					}
				}
			} else {
				any = true
				count(method, reason)
			}
			if !any {
				t.Errorf("%s: there is no %s left", reason, method)
			}
		}
	}
	for method, isLeft := range left {
		if isLeft {
			t.Errorf("%s has no path, and no reason why not", method)
		}
	}
}

// harmlessBothWays neither write nor read secrets.
var harmlessBothWays = map[string]string{
	"sets what is no secret": "*.ClearAccount *.ClearExpiresAt *.SetAccount *.SetAccountID *.SetCreatedAt " +
		"*.SetCredentialType *.SetExpiresAt *.SetID *.SetIsActive *.SetNillableCreatedAt *.SetNillableCredentialType " +
		"*.SetNillableExpiresAt *.SetNillableID *.SetNillableIsActive *.SetNillableUpdatedAt " +
		"*.SetNillableUserAccountID *.SetNillableUserID *.SetUpdatedAt *.SetUserAccountID *.SetUserID " +
		"*.UpdateCredentialType *.UpdateExpiresAt *.UpdateIsActive *.UpdateUpdatedAt *.UpdateUserAccountID " +
		"*.UpdateUserID",
	"leads to another type": "UserCredentialMutation.Client UserCredentialMutation.Tx",
	"belongs to ent's SQL builder, and no part of it comes into an upsert": "*.AddError *.Arg *.Argf *.Args " +
		"*.Columns *.Comma *.Dialect *.Empty *.Err *.FromSelect *.Ident *.IdentComma *.Join *.JoinComma *.Len " +
		"UserCredentialUpsert.Limit *.Nested *.OrderBy *.Pad *.Prefix UserCredentialUpsert.Query *.Quote *.Reset " +
		"*.Returning *.S *.Schema *.SetDialect *.SetTotal UserCredentialUpsert.String *.Table *.Total " +
		"*.UpdateColumns UserCredentialUpsert.Where *.Wrap *.WriteByte *.WriteOp *.WriteString",
}
