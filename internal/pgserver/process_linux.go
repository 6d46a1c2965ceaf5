package pgserver

import (
	"runtime"
	"syscall"
)

// dieWithParent makes a process end when this one does, however that ends: the
// kernel sends it a SIGQUIT, which is Postgres's immediate shutdown. The kernel
// goes by the thread that started the process, not by the process that thread
// belongs to, so the calling goroutine keeps its thread until the returned
// function is called; it must start the process and wait for its end.
func dieWithParent(attr *syscall.SysProcAttr) (release func()) {
	runtime.LockOSThread()
	attr.Pdeathsig = syscall.SIGQUIT
	return runtime.UnlockOSThread
}
