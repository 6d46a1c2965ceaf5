package codegen

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"entgo.io/ent/entc/gen"

	"github.com/credent-go/credent/encrypted"
)

// stampedName is the node annotation that marks an entity with specs that the
// generated code completes: one with encrypted fields, or one that other
// entities copy their tenant from.
const stampedName = "CredentStamped"

// markStamped marks entities for the templates.
func markStamped(fields []encryptedField) {
	mark := func(node *gen.Type) {
		if node.Annotations == nil {
			node.Annotations = make(gen.Annotations)
		}
		node.Annotations[stampedName] = true
	}
	for _, f := range fields {
		mark(f.Node)
		if e := f.Copied(); e != nil {
			mark(e.Type)
		}
	}
}

// missing is ent's own text for a required field that isn't set. ent treats an
// absent secret, as decoded from a body without the field, as set.
const missing = `{{ base $.Config.Package }}: missing required field "{{ $.Name }}.{{ $f.Name }}"`

// Templates implements entc.Extension: one call at each of ent's points where a
// spec can be changed. Their names sort after ent's own, which ent runs first.
func (Extension) Templates() []*gen.Template {
	return []*gen.Template{gen.MustParse(gen.NewTemplate("credent").Parse(`
{{ define "import/additional/credent" }}
	"` + encryptedPackage + `"
{{- end }}
{{ define "dialect/sql/create/spec/zz_credent" }}{{ if index $.Annotations "` + stampedName + `" }}
	{{- range $f := $.Fields }}{{ if and (index $f.Annotations "` + encrypted.AnnotationName + `") (not $f.Optional) }}
		if v, ok := {{ $.Scope.Receiver }}.mutation.{{ $f.MutationGet }}(); ok && v.IsZero() {
			return nil, nil, &ValidationError{Name: "{{ $f.Name }}", err: errors.New(` + "`" + missing + "`" + `)}
		}
	{{- end }}{{ end }}
	defer encrypted.CompleteCreate({{ $.Scope.Receiver }}.driver, "{{ $.Config.Package }}", _spec) // once its fields are set
{{ end }}{{ end }}
{{ define "dialect/sql/create_bulk/spec/zz_credent" }}{{ if index $.Annotations "` + stampedName + `" }}
	encrypted.CompleteBatch("{{ $.Config.Package }}", spec)
{{ end }}{{ end }}
{{ define "dialect/sql/update/spec/zz_credent" }}{{ if index $.Annotations "` + stampedName + `" }}
	{{- range $f := $.Fields }}{{ if and (index $f.Annotations "` + encrypted.AnnotationName + `") (not $f.Optional) (not $f.Immutable) }}
		if v, ok := {{ $.Scope.Receiver }}.mutation.{{ $f.MutationGet }}(); ok && v.IsZero() {
			return _node, &ValidationError{Name: "{{ $f.Name }}", err: errors.New(` + "`" + missing + "`" + `)}
		}
	{{- end }}{{ end }}
	{{- $one := hasSuffix (pascal $.Scope.Builder) "One" }}
	var none bool
	if ctx, none, err = encrypted.CompleteUpdate(ctx, "{{ $.Config.Package }}", {{ $.Scope.Receiver }}.driver, _spec, {{ $one }}); none || err != nil {
		return _node, err
	}
{{ end }}{{ end }}
{{ define "dialect/sql/delete/spec/zz_credent" }}{{ if index $.Annotations "` + stampedName + `" }}
	ctx = encrypted.CompleteDelete(ctx, "{{ $.Config.Package }}", _spec)
{{ end }}{{ end }}
`))}
}

// encryptedPackage is the import path of package encrypted.
const encryptedPackage = "github.com/credent-go/credent/encrypted"

// checkStamped fails if the generated code lacks one of the templates' calls,
// because another version of ent or other templates may have dropped it.
func checkStamped(g *gen.Graph, fields []encryptedField) error {
	for _, f := range fields {
		for suffix, calls := range map[string][]string{
			"_create.go": {"encrypted.CompleteCreate(", "encrypted.CompleteBatch("},
			"_update.go": {"encrypted.CompleteUpdate("},
			"_delete.go": {"encrypted.CompleteDelete("},
		} {
			path := filepath.Join(g.Target, strings.ToLower(f.Node.Name)+suffix)
			source, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue // a view, for example
			}
			if err != nil {
				return err
			}
			for _, call := range calls {
				if !bytes.Contains(source, []byte(call)) {
					return fmt.Errorf("%s lacks the call %s…): its secrets would not be stored; use ent v0.14.5 "+
						"without a template that replaces ent's own", path, call)
				}
			}
		}
	}
	return nil
}
