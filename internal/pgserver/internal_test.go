//go:build linux || darwin

package pgserver

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestNoBinaries(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	s, err := start(t.Context(), "", binarySearch{globs: []string{empty + "/*/bin"}, path: []string{empty, "", "."}})
	if err == nil {
		_ = s.Stop()
	}
	if !errors.Is(err, errNoBinaries) {
		t.Fatalf("error %v, want errNoBinaries", err)
	}
	for _, want := range []string{"make setup", EnvURL} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %s", err, want)
		}
	}
}

func TestServerDir(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	programs := func(dir string, names ...string) string {
		dir = filepath.Join(root, dir)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			script := "#!/bin/sh\necho " + filepath.Join(root, "configured") + "\n"
			if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	programs("debian/9.6/bin", "initdb", "postgres")
	newest := programs("debian/17/bin", "initdb", "postgres", "pg_dump", "psql")
	programs("debian/18/bin", "pg_dump", "psql") // clients only
	plain := programs("brew/postgresql/bin", "initdb", "postgres")
	numbered := programs("brew/postgresql@16/bin", "initdb", "postgres")
	programs("alpine/postgresql9", "initdb", "postgres")
	alpine := programs("alpine/postgresql16", "initdb", "postgres")
	configured := programs("configured", "initdb", "postgres")
	withConfig := programs("path1", "pg_config")
	onPath := programs("path2", "initdb", "postgres", "pg_dump", "psql")
	notExecutable := programs("path3", "initdb", "postgres")
	if err := os.Chmod(filepath.Join(notExecutable, "postgres"), 0o600); err != nil {
		t.Fatal(err)
	}
	debian, brew := root+"/debian/*/bin", root+"/brew/postgresql*/bin"
	for _, tt := range []struct {
		test   string
		search binarySearch
		server string
		client string
	}{
		{"newest version", binarySearch{[]string{debian, brew}, []string{withConfig, onPath}}, newest, onPath},
		{"version after @", binarySearch{[]string{brew, debian}, nil}, numbered, root + "/debian/18/bin"},
		{"no bin directory", binarySearch{[]string{root + "/alpine/postgresql*"}, nil}, alpine, ""},
		{"no version", binarySearch{[]string{plain}, nil}, plain, ""},
		{"pg_config", binarySearch{nil, []string{withConfig, onPath}}, configured, onPath},
		{"PATH", binarySearch{nil, []string{root, onPath}}, onPath, onPath},
		{"not executable", binarySearch{nil, []string{notExecutable}}, "", ""},
	} {
		t.Run(tt.test, func(t *testing.T) {
			t.Parallel()
			got, err := tt.search.serverDir(t.Context())
			if got != tt.server || (err != nil) != (tt.server == "") {
				t.Errorf("server in %q, %v, want %q", got, err, tt.server)
			}
			if got := tt.search.clientDir(t.Context()); got != tt.client {
				t.Errorf("clients in %q, want %q", got, tt.client)
			}
		})
	}
}

// TestPortTaken covers the time between finding a free port and starting the
// server.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	binDir, err := installed().serverDir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCluster(t.Context(), binDir, config{}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	})
	_ = c.admin.Close()
	c.proc.stop(stopTimeout)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	port := l.Addr().(*net.TCPAddr).Port
	if err := c.launch(t.Context(), port); !errors.Is(err, errPortTaken) {
		t.Errorf("on a taken port: %v, want errPortTaken", err)
	}
}

func TestRemoveStale(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	now := time.Now()
	makeDir := func(name string, age time.Duration) string {
		dir := filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		lock := filepath.Join(dir, lockName)
		if err := os.WriteFile(lock, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(lock, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	stale := makeDir(tempPrefix+"stale", time.Hour)
	young := makeDir(tempPrefix+"young", time.Minute)
	used := makeDir(tempPrefix+"used", time.Hour)
	other := makeDir("other", time.Hour)
	lock, err := lockFile(filepath.Join(used, lockName), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()

	removeStale(base, now.Add(-staleAge))

	for dir, want := range map[string]bool{stale: false, young: true, used: true, other: true} {
		_, err := os.Stat(dir)
		if got := err == nil; got != want {
			t.Errorf("%s there: %t, want %t", dir, got, want)
		}
	}
}

func TestTraversable(t *testing.T) {
	t.Parallel()
	private := t.TempDir()
	below := filepath.Join(private, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	stranger := &syscall.Credential{Uid: 1<<31 - 1, Gid: 1<<31 - 1}
	for _, tt := range []struct {
		test string
		dir  string
		user *syscall.Credential
		want bool
	}{
		{"root directory", "/", stranger, true},
		{"private", private, stranger, false},
		{"below private", below, stranger, false},
		{"current user", below, nil, true},
		{"missing", filepath.Join(private, "missing"), nil, false},
		{"missing for another", "/no/such/directory", stranger, false},
	} {
		t.Run(tt.test, func(t *testing.T) {
			t.Parallel()
			if got := traversable(tt.dir, tt.user); got != tt.want {
				t.Errorf("traversable(%s) = %t, want %t", tt.dir, got, tt.want)
			}
		})
	}
}
