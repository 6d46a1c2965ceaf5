package version_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// program is the source of a command that prints its version.
const program = `package main

import (
	"fmt"

	"github.com/credent-go/credent/internal/version"
)

func main() { fmt.Println(version.String()) }
`

// module creates a module with this package and the program.
func module(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, from := range map[string]string{
		"internal/version/version.go": "version.go", "internal/version/commit.txt": "commit.txt",
		".gitattributes": "../../.gitattributes",
	} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(data))
	}
	write(t, filepath.Join(dir, "go.mod"), "module github.com/credent-go/credent\n\ngo 1.26.0\n")
	write(t, filepath.Join(dir, "cmd", "credent", "main.go"), program)
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOENV=off", "GOWORK=off", "GOTOOLCHAIN=local",
		"GOFLAGS=-modcacherw", "GOMODCACHE="+t.TempDir(),
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "PWD="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// printed builds the program in a directory and returns its output.
func printed(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credent")
	run(t, dir, "go", "build", "-o", path, "./cmd/credent")
	return run(t, dir, path)
}

// A command built in a checkout reports its commit, and whether the checkout
// was modified. A command built in an archive reports the commit too.
func TestBuilt(t *testing.T) {
	t.Parallel()
	dir := module(t)
	if got := printed(t, dir); got != "(devel), commit unknown" {
		t.Errorf("outside of a repository: %q", got)
	}
	run(t, dir, "git", "init", "-q")
	run(t, dir, "git", "add", "-A")
	run(t, dir, "git", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "a commit")
	commit := run(t, dir, "git", "rev-parse", "HEAD")
	if got := printed(t, dir); !strings.HasSuffix(got, ", commit "+commit) {
		t.Errorf("in a checkout: %q", got)
	}

	archive := filepath.Join(t.TempDir(), "credent.tar")
	run(t, dir, "git", "archive", "-o", archive, "HEAD")
	unpacked := t.TempDir()
	run(t, unpacked, "tar", "xf", archive)
	if got := printed(t, unpacked); got != "(devel), commit "+commit {
		t.Errorf("in an archive: %q", got)
	}

	write(t, filepath.Join(dir, "cmd", "credent", "main.go"), program+"\n// changed\n")
	if got := printed(t, dir); !strings.HasSuffix(got, ", commit "+commit+", modified") {
		t.Errorf("in a modified checkout: %q", got)
	}
	run(t, dir, "git", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-a", "-m", "another")
	run(t, dir, "git", "tag", "v0.1.0")
	if got := printed(t, dir); !strings.HasPrefix(got, "v0.1.0, commit ") {
		t.Errorf("at a tag: %q", got)
	}
}
