package codegen

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"entgo.io/ent/entc/gen"
)

// checkRetyped refuses fields that already have tokens of another plaintext
// type. No migration shows the change, because the column stays a varchar, so
// it compares with the previously generated package.
func checkRetyped(g *gen.Graph, fields []encryptedField) (faults []error) {
	for _, f := range fields {
		source, err := os.ReadFile(filepath.Join(g.Target, f.Node.PackageDir(), columnsFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		before := regexp.MustCompile(`\bName:\s+` + f.Constant() + `,\s+Size:\s+\d+,\s+Type:\s+"([^"]*)"`).FindSubmatch(source)
		if before != nil && !decodesAs(string(before[1]), f.Annotation.Type) {
			faults = append(faults, fmt.Errorf("%s.%s is encrypted and was a %s when the package was generated: a "+
				"stored %[3]s doesn't decode as %s, and nothing converts tokens. Declare a new field and fill it "+
				"from this one; or, if nothing is stored yet, remove %s",
				f.Node.Name, f.Field.Name, before[1], f.Annotation.Type,
				filepath.Join(f.Node.PackageDir(), columnsFile)))
		}
	}
	return faults
}

// decodesAs reports whether every encoding of one type decodes as another.
// Everything decodes as bytes, and times and JSON decode as text. Whether one
// JSON type decodes as another is up to the schema's author.
func decodesAs(from, to string) bool {
	basic := map[string]bool{"string": true, "[]byte": true, "time.Time": true}
	switch {
	case from == to, to == "[]byte", !basic[from] && !basic[to]:
		return true
	}
	return to == "string" && from != "[]byte"
}
