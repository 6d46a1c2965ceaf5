package pgserver

import "syscall"

// tmpfs is the kernel's magic number for in-memory file systems.
const tmpfs = 0x01021994

// freeInMemory returns the free bytes in a directory, or 0 if it isn't in
// memory.
func freeInMemory(dir string) int64 {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil || int64(s.Type) != tmpfs { //nolint:unconvert // 32 bits elsewhere
		return 0
	}
	return int64(s.Bavail) * int64(s.Bsize) //nolint:unconvert // 32 bits elsewhere
}
