package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/credent-go/credent/codegen" // so that these tests rerun when it changes
)

// handwritten are the hand-written files of package ent, from which a clean
// checkout starts.
var handwritten = []string{"ent/generate.go", "ent/entc.go", "ent/schema/grant.go", "ent/schema/integration.go"}

// checkout copies the module without its generated files.
func checkout(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	for _, path := range files(t, dir) {
		if strings.HasPrefix(path, "ent/") && !slices.Contains(handwritten, path) {
			if err := os.Remove(filepath.Join(dir, path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := command(dir, "mod", "edit", "-replace", "github.com/credent-go/credent="+root); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

func command(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PWD="+dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// files returns the sorted paths of all files except the module's own.
func files(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "go.mod" {
			path, err = filepath.Rel(dir, path)
			paths = append(paths, filepath.ToSlash(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// One command generates the client and the schema's migrations, and they equal
// the ones here.
func TestGenerate(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	if out, err := command(dir, "generate", "./..."); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, want := files(t, dir), files(t, ".")
	if !slices.Equal(got, want) || len(want) < 30 {
		t.Fatalf("it has the files\n%v\nwant\n%v", got, want)
	}
	for _, path := range want {
		a, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s is out of date: run go generate ./...", path)
		}
	}
}

// A schema that can't work is refused with the reason, and nothing is written.
func TestGenerateRefuses(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	for _, test := range []struct{ old, new, says string }{
		{
			`encrypted.String("refresh_token")`, `encrypted.String("refresh_token").Unique()`,
			"Integration.refresh_token is encrypted and cannot be Unique: no two tokens are equal, not even of the " +
				"same plaintext. What can be unique, indexed and searched is a blind index",
		},
		{
			`encrypted.String("refresh_token")`, `field.String("refresh_token")`,
			"Integration.refresh_token is named like a secret and is not encrypted",
		},
		{
			`index.Fields("user_id", "provider")`, `index.Fields("user_id", "refresh_token")`,
			"Integration.refresh_token is encrypted and cannot be in an index",
		},
	} {
		schema := filepath.Join(dir, "ent", "schema", "integration.go")
		source, err := os.ReadFile("ent/schema/integration.go")
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(source), test.old, test.new, 1)
		changed = strings.Replace(changed, `field.String("refresh_token").MaxBytes(2000).Tenant("user_id").Bound()`, `field.String("refresh_token")`, 1)
		if changed == string(source) {
			t.Fatalf("%s is not in the schema", test.old)
		}
		if err := os.WriteFile(schema, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := command(dir, "generate", "./ent")
		if err == nil || !strings.Contains(out, test.says) {
			t.Errorf("%s: got %v, %s", test.new, err, out)
		}
		if _, err := os.Stat(filepath.Join(dir, "ent", "client.go")); !os.IsNotExist(err) {
			t.Errorf("%s: something was generated: %v", test.new, err)
		}
	}
}

// A client that lacks the extension's files doesn't compile.
func TestNotBound(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	if out, err := command(dir, "generate", "./ent"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, path := range []string{
		"encrypted_fields.go", "integration/encrypted_columns.go",
		"grant/encrypted_columns.go",
	} {
		if err := os.Remove(filepath.Join(dir, "ent", path)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := command(dir, "build", "./ent"); err == nil || !strings.Contains(out, "SetRefreshToken undefined") {
		t.Errorf("got %v, %s", err, out)
	}
}

// The service links neither the code generation nor credent's entities.
func TestDependencies(t *testing.T) {
	t.Parallel()
	out, err := command(".", "list", "-deps", ".")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	packages := strings.Fields(out)
	if !slices.Contains(packages, "github.com/credent-go/credent/encrypted") {
		t.Error("the list lacks package encrypted")
	}
	for _, path := range []string{
		"entgo.io/ent/entc", "entgo.io/ent/entc/gen", "github.com/credent-go/credent/codegen",
		"github.com/credent-go/credent", "github.com/credent-go/credent/ent",
	} {
		if slices.Contains(packages, path) {
			t.Errorf("it links %s", path)
		}
	}
}
