//go:build linux || darwin

package pgserver

import (
	"fmt"
	"os"
	"strings"
)

const (
	// memoryDir is a file system in memory, which Linux has for everybody's
	// use. A server makes and deletes a thousand files for each database, which
	// takes a disk's file system more time than all that tests ask of them.
	memoryDir = "/dev/shm"
	memInfo   = "/proc/meminfo"

	// Containers have a file system of 64 MB, unless told otherwise.
	minMemoryDir = 2 << 30
	minAvailable = 4 << 30

	// walInMemory is the most that a server's log keeps there.
	walInMemory = "256MB"
)

// roomInMemory reports whether there is room for servers in memoryDir, and for
// what compiles beside.
func roomInMemory() bool {
	return freeInMemory(memoryDir) >= minMemoryDir && availableMemory(memInfo) >= minAvailable
}

// availableMemory reads how many bytes programs can still have from a file of
// the kernel's; 0 if it doesn't say.
func availableMemory(memInfo string) int64 {
	content, _ := os.ReadFile(memInfo) // not there, there is no such memory either
	for line := range strings.Lines(string(content)) {
		var kilobytes int64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kilobytes); err == nil {
			return kilobytes << 10
		}
	}
	return 0
}
