//go:build linux || darwin

package pgserver

import (
	"fmt"
	"os"
	"strings"
)

const (
	// memoryDir is a file system in memory, which every user on Linux can write
	// to. A server creates and deletes a thousand files per database, which
	// takes longer on a disk than all queries of the tests.
	memoryDir = "/dev/shm"
	memInfo   = "/proc/meminfo"

	// Containers have 64 MB by default.
	minMemoryDir = 2 << 30
	minAvailable = 4 << 30

	// walInMemory limits the server's write-ahead log there.
	walInMemory = "256MB"
)

// roomInMemory reports whether memoryDir has room for servers, and for
// compilers running at the same time.
func roomInMemory() bool {
	return freeInMemory(memoryDir) >= minMemoryDir && availableMemory(memInfo) >= minAvailable
}

// availableMemory reads the bytes available to programs from a kernel file; 0
// if it doesn't say.
func availableMemory(memInfo string) int64 {
	content, _ := os.ReadFile(memInfo) // if it is missing, so is such memory
	for line := range strings.Lines(string(content)) {
		var kilobytes int64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kilobytes); err == nil {
			return kilobytes << 10
		}
	}
	return 0
}
