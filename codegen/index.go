package codegen

import (
	"fmt"
	"path/filepath"
	"strings"

	"entgo.io/ent/entc/gen"

	"github.com/credent-go/credent/encrypted"
)

// isIndex reports whether a field is that of a blind index.
func isIndex(f *gen.Field) bool { return f.Annotations[encrypted.IndexAnnotationName] != nil }

// joinIndexes gives the encrypted fields of a node their blind indexes.
func joinIndexes(node *gen.Type, fields []encryptedField) (faults []error) {
	for _, f := range node.Fields {
		if !isIndex(f) {
			continue
		}
		var annotation encrypted.IndexAnnotation
		if err := decode(f.Annotations[encrypted.IndexAnnotationName], &annotation); err != nil {
			faults = append(faults, err)
			continue
		}
		found := false
		for i := range fields {
			if fields[i].Field.Name != annotation.Of {
				continue
			}
			found = true
			switch fields[i].Annotation.Type {
			case "string", "[]byte", "time.Time":
				fields[i].Index = f
			default:
				faults = append(faults, fmt.Errorf("%s.%s is JSON and cannot have a blind index: equal values may be written differently",
					node.Name, annotation.Of))
			}
		}
		if !found {
			faults = append(faults, fmt.Errorf("%s: encrypted.BlindIndex(%q): the schema has no encrypted field of that name",
				node.Name, annotation.Of))
		}
	}
	return faults
}

// dropSetters removes the setters of blind indexes, which nobody could give a
// value, and ent's upsert setters of encrypted fields: the generated files have
// others, which set the blind index as well.
func dropSetters(g *gen.Graph, fields []encryptedField) error {
	drop := make(map[string]map[[2]string]bool)
	for _, f := range fields {
		path := filepath.Join(g.Target, strings.ToLower(f.Node.Name)+"_create.go")
		if drop[path] == nil {
			drop[path] = make(map[[2]string]bool)
		}
		for _, prefix := range []string{"Set", "Update", "Clear"} {
			drop[path][[2]string{f.Node.Name + "Upsert", prefix + f.StructField()}] = true
		}
		if f.Index == nil {
			continue
		}
		for _, prefix := range []string{"Set", "SetNillable"} {
			drop[path][[2]string{f.Node.CreateName(), prefix + f.Index.StructField()}] = true
		}
	}
	for path, methods := range drop {
		if err := dropMethods(path, methods); err != nil {
			return err
		}
	}
	return nil
}
