//go:build unix

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// isClosed reports whether the process was started with standard output closed,
// as by a shell's >&-. Go's runtime then opens /dev/null for reading and
// writing, so that writing never fails. Shells redirect to /dev/null for
// writing only, and most programs open it with O_CLOEXEC. Programs that do
// neither share it among standard input, output and error.
func isClosed(file *os.File) bool {
	var null, out unix.Stat_t
	fd := int(file.Fd())
	if unix.Stat(os.DevNull, &null) != nil || unix.Fstat(fd, &out) != nil || out.Mode != null.Mode ||
		out.Rdev != null.Rdev {
		return false
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_ACCMODE != unix.O_RDWR || flags&unix.O_CLOEXEC != 0 {
		return false
	}
	const stdin, stderr = 0, 2
	return !shares(fd, stdin) && !shares(fd, stderr)
}

// shares reports whether two descriptors refer to the same open file: they then
// share its flags, even after a change.
func shares(a, b int) bool {
	before, err := unix.FcntlInt(uintptr(b), unix.F_GETFL, 0)
	if err != nil {
		return false
	}
	flags, err := unix.FcntlInt(uintptr(a), unix.F_GETFL, 0)
	if err != nil {
		return false
	}
	if _, err := unix.FcntlInt(uintptr(a), unix.F_SETFL, flags^unix.O_APPEND); err != nil {
		return false
	}
	defer func() { _, _ = unix.FcntlInt(uintptr(a), unix.F_SETFL, flags) }()
	after, err := unix.FcntlInt(uintptr(b), unix.F_GETFL, 0)
	return err == nil && before != after
}
