// Package modproxy serves modules of a checkout to the go command, as a proxy
// does, so that tests get and install them as a user would: by version, with
// no replace.
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

// Proxy is a folder with modules, in the form of a module proxy.
type Proxy struct {
	// Version is what the modules have, another in each process: the go
	// command keeps what it got.
	Version string

	dir, cache, upstream string
}

// New makes a proxy without modules. Others come from where the go command gets
// them anyway. The go command's copies of this one's modules are removed after
// the test.
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

// Env returns the environment in which the go command knows the proxy, and
// has none of the tests' flags.
func (p *Proxy) Env() []string {
	return append(os.Environ(), "GOPROXY=file://"+filepath.ToSlash(p.dir)+","+p.upstream,
		"GONOSUMDB="+Credent, "GOFLAGS=", "GOWORK=off")
}

// Add adds the module in a folder.
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

// filesOf returns the files of a module without what make builds there, which
// may change meanwhile.
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

// file is a file, and its path in the module.
type file struct{ name, path string }

func (f file) Path() string                 { return f.path }
func (f file) Lstat() (os.FileInfo, error)  { return os.Lstat(f.name) }
func (f file) Open() (io.ReadCloser, error) { return os.Open(f.name) }

// forget removes a module from the go command's cache, where folders are
// read-only.
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
