//go:build !linux

package wire

import (
	"syscall"
	"time"
)

// controlUserTimeout does nothing: the system lacks TCP_USER_TIMEOUT.
func controlUserTimeout(time.Duration) func(string, string, syscall.RawConn) error { return nil }
