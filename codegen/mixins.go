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
	// usedMixin finds where the generated runtime code takes a field of a
	// mixin.
	usedMixin = regexp.MustCompile(`:= (\w+)MixinFields(\d+)\[`)
	// schemaFields finds where it lists the fields of a schema.
	schemaFields = regexp.MustCompile(`(?m)^\t(\w+)Fields := (\S+)\.Fields\(\)$`)
)

// completeMixins lists the fields of the mixins that ent's runtime code takes
// fields of without having listed them: ent v0.14.5 lists mixins' fields with a
// default or a validator, and forgets fields that have a ValueScanner only.
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
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // source, readable like the rest
			return err
		}
	}
	return nil
}
