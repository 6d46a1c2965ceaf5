package pgserver_test

import (
	"bufio"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestKilledParent kills a server's parent process, which gets no time to clean
// up.
func TestKilledParent(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), envHelper+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	var said [2]string // the URL and the log file
	for i := range said {
		if !lines.Scan() {
			t.Fatalf("the process ended: %v", cmd.Wait())
		}
		said[i] = lines.Text()
	}
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(said[1])) })
	db := open(t, said[0]) // stays open
	if got := query(t, db, "SELECT 1"); got != "1" {
		t.Fatalf("got %q", got)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // reports the kill
	u, err := url.Parse(said[0])
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute)
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", u.Host)
		if err != nil {
			return // no listener
		}
		_ = conn.Close()
		select {
		case <-retry.C:
		case <-deadline:
			t.Fatal("the server outlives its parent")
		}
	}
}
