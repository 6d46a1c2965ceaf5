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

// A field's plaintext type can't change, unless the old encodings decode as the
// new type.
func TestRetyped(t *testing.T) {
	target, name := generateClient(t, "./testdata/encrypted")
	path := filepath.Join(target, "session", "encrypted_columns.go")
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const seen, key, scopes = `Type:   "time.Time"`, `Type:   "string"`, `Type:   "[]string"`
	for _, test := range []struct {
		is, was, refused string
	}{
		{seen, `Type:   "string"`, "remove session/encrypted_columns.go"},
		{key, `Type:   "[]byte"`, "is encrypted and was a []byte when the package was generated"},
		{key, `Type:   "time.Time"`, ""},
		{scopes, `Type:   "[]int"`, ""},
	} {
		if strings.Count(string(source), test.is) == 0 {
			t.Fatalf("%s is not in %s", test.is, source)
		}
		before := strings.Replace(string(source), test.is, test.was, 1)
		write(t, path, before)
		err := entc.Generate("./testdata/encrypted", &gen.Config{Target: target, Package: testdataPath + name},
			entc.Extensions(codegen.Extension{}))
		switch {
		case test.refused == "" && err != nil:
			t.Errorf("%s that was %s: %v", test.is, test.was, err)
		case test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)):
			t.Errorf("%s that was %s: got %v", test.is, test.was, err)
		}
		now, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if (test.refused == "") != (string(now) == string(source)) {
			t.Errorf("%s that was %s: the file was written %v", test.is, test.was, string(now) != before)
		}
	}
}
