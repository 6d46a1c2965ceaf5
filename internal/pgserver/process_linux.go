package pgserver

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// dieWithParent makes a process end when this one does, for whatever reason:
// the kernel sends it a SIGQUIT, Postgres's immediate shutdown. The kernel
// watches the thread that started the process, not that thread's process, so
// the calling goroutine stays on its thread until release is called; it must
// start the process and wait for its end.
func dieWithParent(attr *syscall.SysProcAttr) (release func()) {
	runtime.LockOSThread()
	attr.Pdeathsig = syscall.SIGQUIT
	return runtime.UnlockOSThread
}

// killTree kills a process and its children, here Postgres's server and
// backends. It stops the process first, so that it neither starts more children
// nor tells the others that one was killed.
func killTree(pid int) bool {
	if syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return true // it has ended
	}
	children := childrenOf(pid)
	for _, child := range children {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	for _, child := range children { // not our children to wait for
		for !hasEnded(child) {
			time.Sleep(time.Millisecond)
		}
	}
	return true
}

// childrenOf returns a process's children.
func childrenOf(pid int) (children []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if _, parent := processState(child); parent == pid {
			children = append(children, child)
		}
	}
	return children
}

func hasEnded(pid int) bool {
	state, _ := processState(pid)
	return state == "Z" || state == ""
}

// processState returns a process's state and parent from its stat file, see
// proc(5). They follow the name, which is in parentheses and may contain some.
func processState(pid int) (state string, parent int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(string(fields[1]))
	return string(fields[0]), parent
}
