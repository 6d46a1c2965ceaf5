// Package release tests the parts of a release: the workflows, the release
// notes in the changelog, and that a tag can be installed.
package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"gopkg.in/yaml.v3"

	"github.com/credent-go/credent/internal/modproxy"
)

const root = "../.."

// workflow holds the tested parts of a workflow.
type workflow struct {
	Permissions map[string]string
	Jobs        map[string]struct {
		Permissions map[string]string
		Uses        string
		Strategy    struct{ Matrix map[string][]string }
		Steps       []struct {
			Uses, Run string
			With      map[string]string
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// workflows returns the workflows by file name.
func workflows(t *testing.T) map[string]workflow {
	t.Helper()
	paths, err := filepath.Glob(root + "/.github/workflows/*.yml")
	if err != nil || len(paths) < 3 {
		t.Fatalf("%d workflows, %v", len(paths), err)
	}
	all := make(map[string]workflow)
	for _, path := range paths {
		text := read(t, path)
		if strings.Contains(text, "secrets.") {
			t.Errorf("%s uses a secret other than the job's token", path)
		}
		var w workflow
		if err := yaml.Unmarshal([]byte(text), &w); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all[filepath.Base(path)] = w
	}
	return all
}

// Workflows have read-only permissions unless a job says otherwise. The actions
// they use are pinned to commits, and the make targets they run exist.
func TestWorkflows(t *testing.T) {
	t.Parallel()
	pinned := regexp.MustCompile(`^actions/[\w-]+@[0-9a-f]{40}$`)
	makefile := read(t, root+"/Makefile")
	writers, steps := 0, 0
	for name, w := range workflows(t) {
		if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
			t.Errorf("%s has the permissions %v", name, w.Permissions)
		}
		for job, j := range w.Jobs {
			if len(j.Permissions) > 0 {
				writers++
				if name != "release.yml" || len(j.Permissions) != 1 {
					t.Errorf("%s: job %s has the permissions %v", name, job, j.Permissions)
				}
			}
			for _, step := range j.Steps {
				steps++
				if step.Uses != "" && !pinned.MatchString(step.Uses) {
					t.Errorf("%s: job %s uses %s, which isn't a commit", name, job, step.Uses)
				}
				checkout := strings.HasPrefix(step.Uses, "actions/checkout@")
				if checkout && step.With["persist-credentials"] != "false" && len(j.Permissions) == 0 {
					t.Errorf("%s: job %s keeps the token in its checkout", name, job)
				}
				if target, ok := strings.CutPrefix(step.Run, "make "); ok {
					target, _, _ = strings.Cut(target, " ")
					if !strings.Contains(makefile, "\n"+target+":") {
						t.Errorf("%s: job %s runs make %s, which isn't a target", name, job, target)
					}
				}
			}
		}
	}
	if writers != 1 || steps < 20 {
		t.Errorf("%d jobs that may write, %d steps", writers, steps)
	}
}

// The oldest Go version under test is the one in go.mod, and the oldest
// Postgres is the one that the docs promise.
func TestMatrix(t *testing.T) {
	t.Parallel()
	mod, err := modfile.Parse("go.mod", []byte(read(t, root+"/go.mod")), nil)
	if err != nil {
		t.Fatal(err)
	}
	jobs := workflows(t)["test.yml"].Jobs
	if got := jobs["platforms"].Strategy.Matrix["go"]; !slices.Equal(got, []string{mod.Go.Version, "stable"}) {
		t.Errorf("the tests run with Go %v, and go.mod has %s", got, mod.Go.Version)
	}
	if got := jobs["platforms"].Strategy.Matrix["os"]; len(got) != 2 {
		t.Errorf("the tests run on %v", got)
	}
	want := []string{"12", "13", "14", "15", "16", "17"}
	if got := jobs["postgres"].Strategy.Matrix["postgres"]; !slices.Equal(got, want) {
		t.Errorf("the tests run on Postgres %v", got)
	}
}

// command runs a program in a directory and returns its output.
func command(t *testing.T, dir string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if cmd.Env = env; env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "PWD="+dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must is command for commands that have to succeed.
func must(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	out, err := command(t, dir, env, name, args...)
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(out)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// A version's release notes are its section of the changelog. A version without
// one isn't released.
func TestNotes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir+"/scripts/release", read(t, root+"/scripts/release"))
	write(t, dir+"/CHANGELOG.md",
		"# Changelog\n\n## Unreleased\n\n- a\n\n## 0.10.0 - 2027-01-02\n\n### Changed\n\n- b\n\n## 0.1.0\n\n- c\n")
	for version, want := range map[string]string{"v0.10.0": "### Changed\n\n- b", "v0.1.0": "- c"} {
		if got := must(t, dir, nil, "scripts/release", "notes", version); got != want {
			t.Errorf("%s: got %q, want %q", version, got, want)
		}
	}
	for version, want := range map[string]string{
		"v0.2.0": "has no section", "v0.1": "usage", "Unreleased": "usage", "v0.1.0;": "usage",
	} {
		out, err := command(t, dir, nil, "scripts/release", "notes", version)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: got %v, %s", version, err, out)
		}
	}
}

// copyOf copies the checkout without Git's and make's own files.
func copyOf(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		from, to := filepath.Join(root, entry.Name()), filepath.Join(dir, entry.Name())
		switch {
		case entry.Name() == ".git" || entry.Name() == "bin":
		case entry.IsDir():
			err = os.CopyFS(to, os.DirFS(from))
		default:
			write(t, to, read(t, from))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestInstall creates both tags as the workflow does, and installs the commands
// from a proxy. It fails if a command's go.mod has a replace directive, which
// would prevent go install.
func TestInstall(t *testing.T) {
	t.Parallel()
	proxy := modproxy.New(t)
	dir := copyOf(t)
	bin := t.TempDir()
	env := append(proxy.Env(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GOBIN="+bin)
	git := func(args ...string) string {
		t.Helper()
		author := []string{"-c", "user.name=a", "-c", "user.email=a@example.com"}
		return must(t, dir, env, "git", append(author, args...)...)
	}
	git("init", "--quiet")
	git("add", "--all")
	git("commit", "--quiet", "--message", "a release")
	git("tag", proxy.Version)
	commit := git("rev-parse", "HEAD")
	proxy.Add(t, modproxy.Credent, dir)
	install := func(path string) string {
		t.Helper()
		must(t, t.TempDir(), env, "go", "install", path+"@"+proxy.Version)
		return must(t, dir, env, filepath.Join(bin, filepath.Base(path)), "--version")
	}
	if got := install(modproxy.Credent + "/cmd/credent"); got != "credent "+proxy.Version {
		t.Errorf("credent --version: %q", got)
	}

	must(t, dir, env, "scripts/release", "kms", proxy.Version)
	if got := git("rev-parse", "HEAD"); got != commit || git("status", "--porcelain") != "" {
		t.Error("the branch moved, or files changed")
	}
	if parent := git("rev-parse", "kms/"+proxy.Version+"^"); parent != commit {
		t.Errorf("the tag of module kms is on %s, want %s", parent, commit)
	}
	mod := git("show", "kms/"+proxy.Version+":kms/go.mod")
	if strings.Contains(mod, "replace") || !strings.Contains(mod, modproxy.Credent+" "+proxy.Version) {
		t.Errorf("the tagged go.mod is\n%s", mod)
	}
	must(t, dir, env, "scripts/release", "otelcredent", proxy.Version)
	mod = git("show", "otelcredent/"+proxy.Version+":otelcredent/go.mod")
	if strings.Contains(mod, "replace") || !strings.Contains(mod, modproxy.Credent+" "+proxy.Version) {
		t.Errorf("the tagged go.mod of module otelcredent is\n%s", mod)
	}
	git("checkout", "--quiet", "kms/"+proxy.Version)
	proxy.Add(t, modproxy.Credent+"/kms", filepath.Join(dir, "kms"))
	if got := install(modproxy.Credent + "/kms/cmd/credent-kms"); got != "credent-kms "+proxy.Version {
		t.Errorf("credent-kms --version: %q", got)
	}
}
