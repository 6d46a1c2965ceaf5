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

// killTree kills a process and its children, which Postgres's server and
// backends are. The process is stopped first, so that it neither makes more
// children nor tells the others of a killed one.
func killTree(pid int) bool {
	if syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return true // it has ended
	}
	children := childrenOf(pid)
	for _, child := range children {
		_ = syscall.Kill(child, syscall.SIGKILL)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	for _, child := range children { // not ours to wait for
		for !hasEnded(child) {
			time.Sleep(time.Millisecond)
		}
	}
	return true
}

// childrenOf returns the children that a process has.
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

// processState returns a process's state and parent, by proc(5): they follow
// the name, which is in parentheses and may have some itself.
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
