//go:build linux || darwin

package pgserver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAvailableMemory(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"MemTotal:       8000000 kB\nMemAvailable:    5000 kB\nBuffers: 1 kB\n": 5000 << 10,
		"MemTotal:       8000000 kB\n":                                          0,
		"":                                                                      0,
	} {
		path := filepath.Join(t.TempDir(), "meminfo")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := availableMemory(path); got != want {
			t.Errorf("%d bytes of %q, want %d", got, text, want)
		}
	}
	if got := availableMemory(filepath.Join(t.TempDir(), "none")); got != 0 {
		t.Errorf("%d bytes without a file", got)
	}
	if got := freeInMemory("/proc"); got != 0 {
		t.Errorf("%d bytes in a directory that isn't in memory", got)
	}
}

// A server's files are in memory if there is room, unless the environment or
// the caller says otherwise.
func TestInMemory(t *testing.T) { //nolint:paralleltest // sets TMPDIR
	for _, tt := range []struct {
		tmpdir     string
		wantMemory bool
		want       bool
	}{
		{"", true, roomInMemory()},
		{"", false, false},
		{"/tmp", true, false},
	} {
		t.Setenv("TMPDIR", tt.tmpdir)
		d, err := newTempDir(tt.wantMemory)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.HasPrefix(d.path, memoryDir); got != tt.want || d.inMemory != tt.want {
			t.Errorf("TMPDIR %q, in memory %t: in %s, in memory %t", tt.tmpdir, tt.wantMemory, d.path, d.inMemory)
		}
		if err := d.remove(); err != nil {
			t.Error(err)
		}
	}
}
