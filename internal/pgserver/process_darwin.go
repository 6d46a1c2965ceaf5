package pgserver

import "syscall"

// dieWithParent does nothing: macOS has no such feature. A server left behind
// ends when a later start deletes its files.
func dieWithParent(*syscall.SysProcAttr) (release func()) { return func() {} }

// killTree returns false: macOS has no /proc.
func killTree(int) bool { return false }
