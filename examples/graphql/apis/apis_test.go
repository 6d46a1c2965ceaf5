// Package apis tests how API generators handle encrypted fields: entgql, entoas
// and entproto.
package apis

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"entgo.io/contrib/entgql"
	"entgo.io/contrib/entoas"
	"entgo.io/contrib/entproto"
	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"
	"github.com/ogen-go/ogen"
	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/credent-go/credent/codegen"
	"github.com/credent-go/credent/encrypted"
)

const module = "example.com/graphql/apis/"

// target returns a directory of this module to generate into.
func target(t *testing.T) (dir string) {
	t.Helper()
	made, err := os.MkdirTemp(".", "generated")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(made) })
	return filepath.Base(made)
}

func generate(t *testing.T, schema, dir string, extensions ...entc.Extension) error {
	t.Helper()
	cfg := &gen.Config{Target: dir, Package: module + dir, Features: []gen.Feature{gen.FeatureUpsert}}
	return entc.Generate("./testdata/"+schema, cfg, entc.Extensions(extensions...))
}

// run runs the go command.
func run(t *testing.T, env []string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// checkCompiles checks that generated code compiles.
func checkCompiles(t *testing.T, dir string) {
	t.Helper()
	if out, err := run(t, nil, "build", "./"+dir+"/..."); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// inputs are the mutation inputs that the schema asks for, by field.
var inputs = map[string][]string{
	"CreateSessionInput": {"givenText", "givenBytes", "givenTime", "givenLimits", "givenOnce"},
	"UpdateSessionInput": {"givenText", "clearGivenText", "givenBytes", "givenTime", "givenLimits", "clearGivenLimits"},
}

// secretName matches every possible name of a secret or a digest.
var secretName = regexp.MustCompile(`(?i)given|hidden|index`)

func TestGraphQL(t *testing.T) {
	scalar := "scalar Moment\n"
	for name, options := range map[string][]entgql.ExtensionOption{
		"everything": {
			entgql.WithSchemaGenerator(), entgql.WithWhereInputs(true), entgql.WithRelaySpec(true),
			entgql.WithNodeDescriptor(true),
		},
		"without where": {entgql.WithSchemaGenerator(), entgql.WithWhereInputs(false), entgql.WithRelaySpec(true)},
	} {
		dir := target(t)
		path := filepath.Join(dir, "api.graphql")
		graphQL, err := entgql.NewExtension(append(options, entgql.WithSchemaPath(path))...)
		if err != nil {
			t.Fatal(err)
		}
		extensions := []entc.Extension{graphQL, codegen.Extension{}}
		if name == "everything" { // the order of the extensions doesn't matter
			slices.Reverse(extensions)
		}
		if err := generate(t, "secrets", dir, extensions...); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		checkSDL(t, name, scalar+string(text))
		checkGo(t, dir)
		checkCompiles(t, dir)
	}
}

// checkSDL checks that the SDL is valid, and that only mutation inputs contain
// secrets.
func checkSDL(t *testing.T, name, text string) {
	t.Helper()
	parsed, err := gqlparser.LoadSchema(&ast.Source{Name: "api.graphql", Input: text})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	seen := 0
	for _, definition := range parsed.Types {
		if strings.HasPrefix(definition.Name, "__") {
			continue
		}
		var got []string
		for _, f := range definition.Fields {
			if !secretName.MatchString(f.Name) {
				continue
			}
			got = append(got, f.Name)
			want := "String"
			switch f.Name {
			case "givenTime":
				want = "Moment"
			case "clearGivenText", "clearGivenLimits":
				want = "Boolean"
			}
			if f.Type.Name() != want {
				t.Errorf("%s: %s.%s is of type %s", name, definition.Name, f.Name, f.Type)
			}
		}
		for _, value := range definition.EnumValues {
			if secretName.MatchString(value.Name) {
				t.Errorf("%s: %s has %s", name, definition.Name, value.Name)
			}
		}
		want := inputs[definition.Name]
		seen += len(want)
		if slices.Sort(got); !slices.Equal(got, sorted(want)) {
			t.Errorf("%s: %s has %v, want %v", name, definition.Name, got, want)
		}
	}
	if seen != 11 {
		t.Errorf("%s: the SDL lacks inputs", name)
	}
	for _, field := range parsed.Types["CreateSessionInput"].Fields {
		optional := field.Name == "givenText" || field.Name == "givenLimits"
		if secretName.MatchString(field.Name) && field.Type.NonNull == optional {
			t.Errorf("%s: %s is of type %s", name, field.Name, field.Type)
		}
	}
}

func sorted(names []string) []string {
	return slices.Sorted(slices.Values(names))
}

// checkGo checks the inputs' Go code.
func checkGo(t *testing.T, dir string) {
	t.Helper()
	code, err := os.ReadFile(filepath.Join(dir, "gql_mutation_input.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"GivenText ", "*encrypted.Input\n", "GivenBytes ", "encrypted.Input\n", "m.SetGivenText(v.Secret)",
		"encrypted.SetInput(m.SetGivenBytes, i.GivenBytes)", "encrypted.SetInput(m.SetGivenTime, *v)",
		"encrypted.SetInput(m.SetGivenLimits, *v)",
	} {
		if !bytes.Contains(code, []byte(want)) {
			t.Errorf("the inputs lack %q:\n%s", want, code)
		}
	}
	for _, bad := range []string{"encrypted.Secret\n", "encrypted.Value", "encryptedtype", "Hidden", "Index"} {
		if bytes.Contains(code, []byte(bad)) {
			t.Errorf("the inputs have %q:\n%s", bad, code)
		}
	}
}

// No schema of the OpenAPI document contains a secret, and a request body has
// one only if the service's author adds it.
func TestOpenAPI(t *testing.T) {
	for name, options := range map[string][]entoas.ExtensionOption{
		"views": nil, "simple models": {entoas.SimpleModels()},
	} {
		var out bytes.Buffer
		openAPI, err := entoas.NewExtension(append(options, entoas.WriteTo(&out), entoas.Mutations(addInputs))...)
		if err != nil {
			t.Fatal(err)
		}
		dir := target(t)
		if err := generate(t, "secrets", dir, openAPI, codegen.Extension{}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var spec struct {
			Components struct{ Schemas json.RawMessage }
			Paths      map[string]map[string]struct {
				RequestBody, Parameters, Responses json.RawMessage
			}
		}
		if err := json.Unmarshal(out.Bytes(), &spec); err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(spec.Components.Schemas, []byte(`"owner"`)) || secretName.Match(spec.Components.Schemas) {
			t.Errorf("%s: the schemas are %s", name, spec.Components.Schemas)
		}
		for path, operations := range spec.Paths {
			for method, o := range operations {
				if secretName.Match(o.Responses) || secretName.Match(o.Parameters) {
					t.Errorf("%s: %s %s answers with a secret", name, method, path)
				}
				want := method == "post" && path == "/sessions"
				if bytes.Contains(o.RequestBody, []byte("given_text")) != want {
					t.Errorf("%s: %s %s takes %s", name, method, path, o.RequestBody)
				}
				if bytes.Contains(o.RequestBody, []byte("hidden")) {
					t.Errorf("%s: %s %s takes %s", name, method, path, o.RequestBody)
				}
			}
		}
	}
}

// addInputs is the code in docs/your-own-schema.md.
func addInputs(_ *gen.Graph, spec *ogen.Spec) error {
	body := spec.Paths["/sessions"].Post.RequestBody.Content["application/json"].Schema
	body.AddRequiredProperties(ogen.NewSchema().SetType("string").SetFormat("password").ToProperty("given_text"))
	return nil
}

// No message contains a secret, whether the extension or entproto's own program
// generates it.
func TestProto(t *testing.T) {
	dir := target(t)
	proto, err := entproto.NewExtension(entproto.SkipGenFile(), entproto.WithProtoDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := generate(t, "secrets", dir, proto, codegen.Extension{}); err != nil {
		t.Fatal(err)
	}
	check := func(path string) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte("string owner = 2;")) || secretName.Match(text) {
			t.Errorf("the messages are\n%s", text)
		}
	}
	check(filepath.Join(dir, "entpb", "entpb.proto"))

	copied := filepath.Join(target(t), "schema")
	if err := os.CopyFS(copied, os.DirFS("testdata/secrets")); err != nil {
		t.Fatal(err)
	}
	program := []string{"run", "entgo.io/contrib/entproto/cmd/entproto", "-path", "./" + copied}
	out, err := run(t, []string{encrypted.ExtensionEnv + "="}, program...)
	if err == nil || !strings.Contains(out, encrypted.ExtensionEnv+"=1") {
		t.Errorf("without %s: got %v, %s", encrypted.ExtensionEnv, err, out)
	}
	if out, err := run(t, []string{encrypted.ExtensionEnv + "=1"}, program...); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	check(filepath.Join(filepath.Dir(copied), "proto", "entpb", "entpb.proto"))
}

// A field that would put a secret into responses is refused, with the fix.
func TestExposed(t *testing.T) {
	dir := target(t)
	err := generate(t, "exposed", dir, codegen.Extension{})
	if err == nil {
		t.Fatal("the schema was accepted")
	}
	for _, want := range []string{
		"Session.a is encrypted and cannot be an entproto.Field: ", "Remove entproto.Field",
		"Session.b is encrypted and cannot be in entoas.Schema, Example or Groups: ", "entoas.Mutations",
		"Session.c is encrypted and cannot be in entoas.Schema", "Session.d is encrypted and cannot be an OrderField",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in: %v", want, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("something was generated: %v, %v", entries, err)
	}
}
