package codegen_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"

	"github.com/credent-go/credent/codegen"
)

// dropping is an extension that changes ent's output before Credent's extension
// sees it.
type dropping struct {
	entc.DefaultExtension
	hook gen.Hook
}

func (d dropping) Hooks() []gen.Hook { return []gen.Hook{d.hook} }

// Generation fails if one of Credent's calls is missing, as with a user's own
// template or another version of ent: the code would not encrypt.
func TestDroppedCall(t *testing.T) {
	for file, call := range map[string]string{
		"device_create.go": "encrypted.CompleteCreate(", "device_update.go": "encrypted.CompleteUpdate(",
		"device_delete.go": "encrypted.CompleteDelete(",
	} {
		target, name := newPackage(t)
		drop := func(next gen.Generator) gen.Generator {
			return gen.GenerateFunc(func(g *gen.Graph) error {
				if err := next.Generate(g); err != nil {
					return err
				}
				path := filepath.Join(target, file)
				source, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				return os.WriteFile(path, []byte(strings.ReplaceAll(string(source), call, "dropped(")), 0o600)
			})
		}
		cfg := &gen.Config{Target: target, Package: testdataPath + name}
		err := entc.Generate("./testdata/lean", cfg, entc.Extensions(codegen.Extension{}, dropping{hook: drop}))
		if err == nil || !strings.Contains(err.Error(), file+" lacks the call "+call) {
			t.Errorf("%s: got %v", file, err)
		}
	}
}
