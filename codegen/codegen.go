// Package codegen is the extension of ent's code generation for schemas with
// the fields of package encrypted:
//
//	entc.Generate("./schema", &gen.Config{},
//		entc.Extensions(codegen.Extension{}))
//
// It gives each encrypted column the CHECK that lets in nothing but tokens,
// generates what binds the fields to their columns, and refuses, before
// anything is written, what cannot work on encrypted fields, and fields that
// look as if they should be encrypted and are not. A program that generates
// code imports it; a service does not.
package codegen

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"entgo.io/ent/dialect/entsql"
	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// Extension is the ent extension, for ent v0.14.5 and its storage sql. Its
// place among other extensions doesn't matter. Errors of the generation name
// the schema and the field and say what to do. A process generates one client
// at a time: ent learns of the extension by the environment.
type Extension struct {
	entc.DefaultExtension
	// Picture is the path of a text file. Its part between [PictureBegin] and
	// [PictureEnd] is replaced by the picture of the schema; "" for none.
	Picture string
}

// Options implements entc.Extension. It tells the program by which ent loads
// the schema that the extension is there.
func (e Extension) Options() []entc.Option {
	return []entc.Option{func(*gen.Config) error { return os.Setenv(encrypted.ExtensionEnv, "1") }}
}

// Hooks implements entc.Extension.
func (e Extension) Hooks() []gen.Hook {
	return []gen.Hook{func(next gen.Generator) gen.Generator {
		return gen.GenerateFunc(func(g *gen.Graph) error {
			if !isRestoring() {
				_ = os.Unsetenv(encrypted.ExtensionEnv) // the schema is loaded; the next may be loaded alone
			}
			fields, err := prepare(g)
			if err != nil {
				return err
			}
			if err := generateOneByOne(next, g); err != nil {
				return err
			}
			if err := errors.Join(dropFilters(g, fields), dropSetters(g, fields), completeMixins(g),
				completeThrough(g, fields),
				dropScanners(g, fields),
				checkStamped(g, fields), retypeInputs(g, fields), writeFiles(g, fields)); err != nil {
				return err
			}
			if e.Picture == "" {
				return nil
			}
			return writePicture(e.Picture, draw(g))
		})
	}}
}

// isRestoring reports whether ent generates from the snapshot of an earlier
// schema, since the present one imports generated code that doesn't compile, as
// after a merge. ent loads the schema when that is done.
func isRestoring() bool {
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		if strings.HasSuffix(frame.Function, ".(*Snapshot).Restore") {
			return true
		}
	}
	return false
}

// generateOneByOne has ent write one file at a time. It completes the imports
// of a file from the files beside it, which it rewrites on as many
// cores as there are: of a neighbor that is empty at that moment it learns
// nothing, and "ent" becomes the nearest package of that name, which can be the
// one of Credent's own tables.
func generateOneByOne(next gen.Generator, g *gen.Graph) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	return next.Generate(g)
}

// encryptedField is a field of package encrypted.
type encryptedField struct {
	*gen.Field
	encrypted.Annotation
	Node  *gen.Type
	Index *gen.Field // its blind index, or nil
	Was   []string   // earlier names of its column, as TABLE.COLUMN

	Declared encrypted.IndexAnnotation // what the blind index is

	UniqueWith []string // other columns of a unique one

	AcrossTenants bool // lookups by the index find the rows of all tenants
}

// prepare checks all fields of the graph, completes the encrypted ones, and
// returns these. It reports every fault.
func prepare(g *gen.Graph) (fields []encryptedField, err error) {
	var faults []error
	for _, node := range g.Nodes {
		first := len(fields)
		if node.PackageDir() == typePackage {
			faults = append(faults, fmt.Errorf("%s cannot be an entity: its package has the name of one that is "+
				"generated", node.Name))
		}
		checks := make(map[string]string)
		for _, f := range node.Fields {
			switch {
			case IsEncrypted(f):
				e := encryptedField{Field: f, Node: node}
				if err := decode(f.Annotations[encrypted.AnnotationName], &e.Annotation); err != nil {
					faults = append(faults, err)
					continue
				}
				faults = append(faults, checkEncrypted(node, f)...)
				faults = append(faults, checkAPIs(node, f)...)
				faults = append(faults, checkTenant(e)...)
				checks[node.Table()+"_"+f.StorageKey()+"_encrypted"] = identifier(f.StorageKey()) + " LIKE 'gAAAA%'"
				nameType(g, e)
				fields = append(fields, e)
			case isIndex(f):
			case isSecret(f):
				faults = append(faults, fmt.Errorf("%s.%s is encrypted; declare it with encrypted.String, Bytes, "+
					"Time or JSON", node.Name, f.Name))
			case looksSecret(f):
				faults = append(faults, checkPlain(node, f))
			}
		}
		if err := addChecks(node, checks); err != nil {
			faults = append(faults, err)
		}
		faults = append(faults, joinIndexes(node, fields[first:])...)
	}
	if g.Storage != nil && g.Storage.Name != "sql" && len(fields) > 0 {
		faults = append(faults, fmt.Errorf("encrypted fields need ent's storage sql, on Postgres or SQLite, and not %s",
			g.Storage.Name))
	}
	faults = append(faults, checkTenants(fields)...)
	faults = append(faults, findNames(fields)...)
	faults = append(faults, checkRetyped(g, fields)...)
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	markStamped(fields)
	return fields, nil
}

// IsEncrypted reports whether a field is one of package encrypted.
func IsEncrypted(f *gen.Field) bool { return f.Annotations[encrypted.AnnotationName] != nil }

// isSecret reports whether a field has the type of an encrypted one.
func isSecret(f *gen.Field) bool {
	name, _, _ := strings.Cut(f.Type.String(), "[")
	return f.HasGoType() && strings.HasSuffix(f.Type.RType.PkgPath, "/internal/fieldcrypt") &&
		(strings.HasSuffix(name, ".Secret") || strings.HasSuffix(name, ".Value"))
}

// plainIdentifier are names that no database takes for a keyword.
var plainIdentifier = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)+$`)

// identifier returns a column's name as a CHECK can have it, in quotes where it
// could be a keyword.
func identifier(name string) string {
	if plainIdentifier.MatchString(name) && !strings.HasPrefix(name, "current_") &&
		!strings.HasPrefix(name, "session_") {
		return name
	}
	return column.QuoteName(name)
}

// blindIndex is what to do in place of comparing tokens.
const blindIndex = "no two tokens are equal, not even of the same plaintext. What can be unique, indexed and " +
	"searched is a blind index, a column of its own that has a keyed digest (HMAC-SHA-256) of the plaintext: add " +
	"encrypted.BlindIndex(%q) to the schema's Mixin"

// checkEncrypted finds what cannot work on tokens.
func checkEncrypted(node *gen.Type, f *gen.Field) (faults []error) {
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("%s.%s is encrypted and "+format,
				append([]any{node.Name, f.Name}, args...)...))
		}
	}
	refuse(f.Unique, "cannot be Unique: "+blindIndex+", with its method Unique", f.Name)
	refuse(slices.ContainsFunc(node.Indexes, func(index *gen.Index) bool {
		return slices.Contains(index.Columns, f.StorageKey())
	}), "cannot be in an index: "+blindIndex, f.Name)
	var graphQL struct{ OrderField string }
	if err := decode(f.Annotations["EntGQL"], &graphQL); err != nil {
		faults = append(faults, fmt.Errorf("%s.%s: annotation EntGQL: %w", node.Name, f.Name, err))
	}
	refuse(graphQL.OrderField != "", "cannot be an OrderField: tokens are ordered by when they were written, "+
		"which tells nothing of the plaintext")
	var sql entsql.Annotation
	if err := decode(f.Annotations[sql.Name()], &sql); err != nil {
		faults = append(faults, fmt.Errorf("%s.%s: annotation %s: %w", node.Name, f.Name, sql.Name(), err))
	}
	refuse(f.Default || f.UpdateDefault || sql.Default != "" || sql.DefaultExpr != "" || len(sql.DefaultExprs) > 0,
		"cannot have a Default, which would be a secret in the source, or plaintext in the database")
	refuse(f.Nillable, "cannot be Nillable: Optional is enough: NULL is then the zero value, with an IsZero of true")
	refuse(!node.HasOneFieldID(), "needs a primary key of one column: a secret is stored in one row, found by its ID")
	return faults
}

// secretName is what names of fields that hold secrets look like.
var secretName = regexp.MustCompile(`(?i)(_key$|secret|token|password)`)

func looksSecret(f *gen.Field) bool {
	return (f.IsString() || f.IsBytes()) && secretName.MatchString(f.Name)
}

// checkPlain refuses a field that looks as if it should be encrypted and has no
// reason why not.
func checkPlain(node *gen.Type, f *gen.Field) error {
	var plain encrypted.PlainAnnotation
	if err := decode(f.Annotations[encrypted.PlainName], &plain); err != nil {
		return fmt.Errorf("%s.%s: annotation %s: %w", node.Name, f.Name, encrypted.PlainName, err)
	}
	if strings.TrimSpace(plain.Reason) == "" {
		return fmt.Errorf("%s.%s is named like a secret and is not encrypted: declare it with encrypted.String, or "+
			"say why not with Annotations(encrypted.Plain(\"reason\"))", node.Name, f.Name)
	}
	return nil
}

// addChecks adds named CHECKs to a node's table. One of the same name that the
// schema has stays.
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

// decode reads an annotation, which comes from the schema as what JSON made of
// it.
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
