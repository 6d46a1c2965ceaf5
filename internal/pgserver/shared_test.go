//go:build linux || darwin

package pgserver

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// All callers of Shared get the same server. It survives their Stop, and ends
// after the last of their processes.
func TestShared(t *testing.T) { //nolint:paralleltest // sets TMPDIR
	base, err := os.MkdirTemp("", "credent-shared-") //nolint:usetesting // the server's user can't enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", base)
	binDir, err := installed().serverDir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var servers []*Server
	for range 3 {
		s, err := startShared(t.Context(), binDir, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, s)
		if err := s.admin.PingContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.URL("x") != servers[0].URL("x") {
			t.Fatal("the second server is a different one")
		}
		if len(servers) == 2 {
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
		}
	}
	users, err := filepath.Glob(filepath.Join(os.TempDir(), tempPrefix+"*", usersName, strconv.Itoa(os.Getpid())))
	if err != nil || len(users) != 1 {
		t.Fatalf("registered as %q, %v", users, err)
	}
	awaitEnd(t, users[0])
	if err := servers[0].admin.PingContext(t.Context()); err == nil {
		t.Error("the server answers without its files")
	}

	s, err := startShared(t.Context(), binDir, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if s.URL("x") == servers[0].URL("x") {
		t.Error("the ended server was found")
	}
	users, _ = filepath.Glob(filepath.Join(os.TempDir(), tempPrefix+"*", usersName, strconv.Itoa(os.Getpid())))
	for _, user := range users {
		awaitEnd(t, user)
	}
}

// awaitEnd waits until a server with one user has ended.
func awaitEnd(t *testing.T, user string) {
	t.Helper()
	if err := os.Remove(user); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Dir(filepath.Dir(user))); os.IsNotExist(err) {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal("the server is still running without a user")
		case <-time.After(pollInterval):
		}
	}
}
