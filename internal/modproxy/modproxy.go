// Package modproxy serves a checkout's modules to the go command like a module
// proxy, so that tests get and install them as a user would: by version,
// without replace directives.
package modproxy

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// Credent is the path of this module.
const Credent = "github.com/credent-go/credent"

// Proxy is a directory of modules in the layout of a module proxy.
type Proxy struct {
	// Version is the version of all modules. It differs in each process,
	// because the go command caches modules.
	Version string

	dir, cache, upstream string
}

// New returns a proxy without modules. Other modules come from the go command's
// usual sources. After the test, New removes the proxy's modules from the go
// command's cache.
func New(t *testing.T) *Proxy {
	t.Helper()
	p := &Proxy{Version: fmt.Sprintf("v0.0.%d", time.Now().UnixNano()), dir: t.TempDir()}
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	p.cache, p.upstream, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	return p
}

// Env returns an environment in which the go command uses the proxy and none of
// the tests' flags.
func (p *Proxy) Env() []string {
	return append(os.Environ(), "GOPROXY=file://"+filepath.ToSlash(p.dir)+","+p.upstream,
		"GONOSUMDB="+Credent, "GOFLAGS=", "GOWORK=off")
}

// Add adds the module in a directory.
func (p *Proxy) Add(t *testing.T, path, dir string) {
	t.Helper()
	versions := filepath.Join(p.dir, filepath.FromSlash(path), "@v")
	if err := os.MkdirAll(versions, 0o750); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"list": p.Version + "\n", p.Version + ".mod": string(mod),
		p.Version + ".info": fmt.Sprintf(`{"Version":%q,"Time":%q}`, p.Version, time.Now().UTC().Format(time.RFC3339)),
	} {
		if err := os.WriteFile(filepath.Join(versions, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.Create(filepath.Join(versions, p.Version+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	if err := zip.Create(file, module.Version{Path: path, Version: p.Version}, filesOf(t, dir)); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.forget(t, path) })
}

// filesOf returns a module's files without the output of make, which may change
// during the test.
func filesOf(t *testing.T, dir string) (files []zip.File) {
	t.Helper()
	checked, err := zip.CheckDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range checked.Valid {
		path, err := filepath.Rel(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		if path = filepath.ToSlash(path); !strings.HasPrefix(path, "bin/") {
			files = append(files, file{name, path})
		}
	}
	return files
}

// file is a file and its path within the module.
type file struct{ name, path string }

func (f file) Path() string                 { return f.path }
func (f file) Lstat() (os.FileInfo, error)  { return os.Lstat(f.name) }
func (f file) Open() (io.ReadCloser, error) { return os.Open(f.name) }

// forget removes a module from the go command's cache, which has read-only
// directories.
func (p *Proxy) forget(t *testing.T, path string) {
	t.Helper()
	unpacked := filepath.Join(p.cache, filepath.FromSlash(path)+"@"+p.Version)
	_ = filepath.WalkDir(unpacked, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(path, 0o700) //nolint:gosec // a folder
		}
		return err
	})
	if err := os.RemoveAll(unpacked); err != nil {
		t.Error(err)
	}
	downloads := filepath.Join(p.cache, "cache", "download", filepath.FromSlash(path), "@v")
	kept, err := filepath.Glob(filepath.Join(downloads, p.Version+".*"))
	if err != nil {
		t.Error(err)
	}
	for _, file := range kept {
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	}
}
