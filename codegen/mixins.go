package codegen

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"entgo.io/ent/entc/gen"
)

var (
	// usedMixin matches the use of a mixin's field in the generated runtime
	// code.
	usedMixin = regexp.MustCompile(`:= (\w+)MixinFields(\d+)\[`)
	// schemaFields matches the declaration of a schema's list of fields.
	schemaFields = regexp.MustCompile(`(?m)^\t(\w+)Fields := (\S+)\.Fields\(\)$`)
)

// completeMixins declares the mixins' field lists that ent's runtime code uses
// without declaring them: ent v0.14.5 declares the list for fields with a
// default or a validator, but forgets fields with only a ValueScanner.
func completeMixins(g *gen.Graph) error {
	for _, path := range runtimeFiles(g) {
		source, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		text := string(source)
		schemas := make(map[string]string) // by the prefix of their variables
		for _, found := range schemaFields.FindAllStringSubmatch(text, -1) {
			schemas[found[1]] = found[2]
		}
		for _, found := range usedMixin.FindAllStringSubmatch(text, -1) {
			prefix, number := found[1], found[2]
			declared := prefix + "MixinFields" + number + " := "
			if strings.Contains(text, declared) {
				continue
			}
			before := "\t_ = " + prefix + "Fields\n"
			text = strings.Replace(text, before, before+"\t"+declared+schemas[prefix]+".Mixin()["+number+
				"].Fields()\n", 1)
		}
		if text == string(source) {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // source, world-readable
			return err
		}
	}
	return nil
}
