package codegen_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"

	"github.com/credent-go/credent/codegen"
	"github.com/credent-go/credent/internal/pgserver"
)

// testdataPath is the import path of the directory for generated clients.
const testdataPath = "github.com/credent-go/credent/codegen/testdata/"

// newPackage creates a directory for a package of this module, which a program
// can import, and returns its path and name.
func newPackage(t *testing.T) (target, name string) {
	t.Helper()
	target, err := os.MkdirTemp("testdata", "ent") //nolint:usetesting // must be inside the module
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(target) })
	return target, filepath.Base(target)
}

// generateClient generates a schema's client in a new directory.
func generateClient(t *testing.T, schema string, features ...gen.Feature) (target, name string) {
	t.Helper()
	target, name = newPackage(t)
	cfg := &gen.Config{Target: target, Package: testdataPath + name, Features: features}
	if err := entc.Generate(schema, cfg, entc.Extensions(codegen.Extension{})); err != nil {
		t.Fatal(err)
	}
	return target, name
}

// copyProgram copies Go files that aren't built in their own place, and fills
// in the names of generated packages.
func copyProgram(t *testing.T, from, to string, names ...string) {
	t.Helper()
	replacer := strings.NewReplacer(append(names, "//go:build ignore\n\n", "")...)
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(to, 0o750); err != nil {
			return err
		}
		write(t, filepath.Join(to, d.Name()), replacer.Replace(string(source)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// runProgram runs a command of this module.
func runProgram(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"run", "./" + filepath.ToSlash(dir)}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// newPostgres returns the URL of an empty database.
func newPostgres(t *testing.T) string {
	t.Helper()
	url := pgserver.DatabaseForTest(t, pgserver.Shared())
	return url
}

// TestDocuments stores secrets on every path that ent offers, in every mode of
// the client, with two generated packages for the same tables in one process.
func TestDocuments(t *testing.T) {
	features := []gen.Feature{gen.FeatureUpsert, gen.FeatureModifier, gen.FeatureExecQuery, gen.FeatureIntercept}
	names := make(map[string]string)
	for _, kind := range []string{"bound", "plain"} {
		t.Setenv("DOCUMENTS", kind)
		target, name := generateClient(t, "./testdata/documents", features...)
		copyProgram(t, "testdata/documents/program", filepath.Join(target, "program"), "PACKAGE", name)
		names[kind] = name
	}
	main, _ := newPackage(t)
	copyProgram(t, "testdata/documents/main", main, "BOUND", names["bound"], "PLAIN", names["plain"])
	runProgram(t, main, "-dir", t.TempDir(), "-postgres", newPostgres(t))
}

// TestBilling stores secrets in a Postgres schema that the ent schema names,
// and in another one that the client selects, beside an empty table of the same
// name.
func TestBilling(t *testing.T) {
	target, name := generateClient(t, "./testdata/billing", gen.FeatureUpsert, gen.FeatureExecQuery)
	program := filepath.Join(target, "program")
	copyProgram(t, "testdata/billing/program", program, "PACKAGE", name)
	runProgram(t, program, "-postgres", newPostgres(t))
}

// TestNames renames a column and then its table, with unique, bound and
// tenant-keyed columns. In every release, rows can be found and opened and
// uniqueness holds; rotate migrates them beside a writer, and after that no
// release needs the earlier names. Renaming them back works the same way.
func TestNames(t *testing.T) {
	var names []string
	for _, release := range []string{"before", "ahead", "column", "table", "after"} {
		t.Setenv("NAMES", release)
		target, name := generateClient(t, "./testdata/names")
		copyProgram(t, "testdata/names/program", filepath.Join(target, "program"), "PACKAGE", name)
		names = append(names, "RELEASE_"+strings.ToUpper(release), name)
	}
	main, _ := newPackage(t)
	copyProgram(t, "testdata/names/main", main, names...)
	runProgram(t, main, "-dir", t.TempDir(), "-postgres", newPostgres(t))
}
