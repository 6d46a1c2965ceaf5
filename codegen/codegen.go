// Package codegen is the extension of ent's code generation for schemas with encrypted fields. It gives each encrypted
// column the CHECK that lets in nothing but tokens, refuses what cannot work and fields that look as if they should be
// encrypted, and draws the schema.
package codegen

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/fieldcrypt"
)

// Extension is the ent extension. Errors of the generation name the schema and the field and say what to do.
type Extension struct {
	entc.DefaultExtension
	// Picture is the path of a text file whose part between [PictureBegin] and [PictureEnd] is replaced by the picture of
	// the schema; "" for none.
	Picture string
}

// Hooks implements entc.Extension.
func (e Extension) Hooks() []gen.Hook {
	return []gen.Hook{func(next gen.Generator) gen.Generator {
		return gen.GenerateFunc(func(g *gen.Graph) error {
			if err := prepare(g); err != nil {
				return err
			}
			if err := next.Generate(g); err != nil {
				return err
			}
			if e.Picture == "" {
				return nil
			}
			return writePicture(e.Picture, draw(g))
		})
	}}
}

// prepare checks all fields of the graph and completes the encrypted ones. It reports every fault.
func prepare(g *gen.Graph) error {
	var faults []error
	for _, node := range g.Nodes {
		checks := make(map[string]string)
		for _, f := range node.Fields {
			switch {
			case IsEncrypted(f):
				if err := checkEncrypted(node, f); err != nil {
					faults = append(faults, err)
				}
				checks[checkName(node, f)] = f.StorageKey() + " LIKE 'gAAAA%'"
			case looksSecret(f):
				faults = append(faults, checkPlain(node, f))
			}
		}
		if err := addChecks(node, checks); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// IsEncrypted reports whether a field is an encrypted one.
func IsEncrypted(f *gen.Field) bool {
	return f.HasGoType() && f.Type.RType.Name == "Secret" && strings.HasSuffix(f.Type.RType.PkgPath, "/internal/fieldcrypt")
}

func checkName(node *gen.Type, f *gen.Field) string {
	return node.Table() + "_" + f.StorageKey() + "_encrypted"
}

// checkEncrypted refuses what cannot work on tokens, of which no two are equal.
func checkEncrypted(node *gen.Type, f *gen.Field) error {
	at := node.Name + "." + f.Name
	switch {
	case !f.HasValueScanner():
		return fmt.Errorf("%s is encrypted but has no ValueScanner: use fieldcrypt.Column", at)
	case !f.Sensitive():
		return fmt.Errorf("%s is encrypted but not Sensitive", at)
	case !f.IsBytes():
		return fmt.Errorf("%s is encrypted and must be a field.Bytes: of other types ent generates predicates, "+
			"which would compare tokens, of which no two are equal", at)
	case f.Unique:
		return fmt.Errorf("%s is encrypted and cannot be Unique: no two tokens are equal", at)
	case f.Default:
		return fmt.Errorf("%s is encrypted and cannot have a Default, which would be in the source", at)
	}
	for _, index := range node.Indexes {
		for _, column := range index.Columns {
			if column == f.StorageKey() {
				return fmt.Errorf("%s is encrypted and cannot be in an index: no two tokens are equal", at)
			}
		}
	}
	return nil
}

// secretName is what names of fields that hold secrets look like.
var secretName = regexp.MustCompile(`(?i)(_key$|secret|token|password)`)

func looksSecret(f *gen.Field) bool {
	return (f.IsString() || f.IsBytes()) && secretName.MatchString(f.Name)
}

// checkPlain refuses a field that looks as if it should be encrypted and has no reason why not.
func checkPlain(node *gen.Type, f *gen.Field) error {
	var plain fieldcrypt.PlainAnnotation
	if err := decode(f.Annotations[fieldcrypt.PlainName], &plain); err != nil {
		return fmt.Errorf("%s.%s: annotation %s: %w", node.Name, f.Name, fieldcrypt.PlainName, err)
	}
	if strings.TrimSpace(plain.Reason) == "" {
		return fmt.Errorf("%s.%s is named like a secret and is not encrypted: encrypt it, or say why not with "+
			"Annotations(fieldcrypt.Plain(\"reason\"))", node.Name, f.Name)
	}
	return nil
}

// addChecks adds named CHECKs to a node's table. One of the same name that the schema has stays.
func addChecks(node *gen.Type, checks map[string]string) error {
	if len(checks) == 0 {
		return nil
	}
	var annotation entsql.Annotation
	if err := decode(node.Annotations[annotation.Name()], &annotation); err != nil {
		return fmt.Errorf("%s: annotation %s: %w", node.Name, annotation.Name(), err)
	}
	if annotation.Checks == nil {
		annotation.Checks = make(map[string]string)
	}
	for name, expr := range checks {
		if _, ok := annotation.Checks[name]; !ok {
			annotation.Checks[name] = expr
		}
	}
	if node.Annotations == nil {
		node.Annotations = make(gen.Annotations)
	}
	node.Annotations[annotation.Name()] = annotation
	return nil
}

// decode reads an annotation, which comes from the schema as what JSON made of it.
func decode(annotation, into any) error {
	if annotation == nil {
		return nil
	}
	data, err := json.Marshal(annotation)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// columnType is the type of a column as Postgres has it.
func columnType(f *gen.Field) string {
	if t := f.Column().SchemaType["postgres"]; t != "" {
		return t
	}
	switch f.Type.Type {
	case field.TypeUUID:
		return "uuid"
	case field.TypeBool:
		return "boolean"
	case field.TypeTime:
		return "timestamptz"
	default:
		return f.Type.Type.String()
	}
}
