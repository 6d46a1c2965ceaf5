//go:build linux || darwin

package pgserver

import (
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// process is a running server.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed after it has ended
	err    error         // the error of Wait; read it only after exited is closed
}

// startProcess starts a command that ends with this process, as far as the
// system supports that, or a detached one that outlives it.
func startProcess(cmd *exec.Cmd, detached bool) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		if detached {
			cmd.SysProcAttr.Setsid = true
		} else {
			defer dieWithParent(cmd.SysProcAttr)()
		}
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	return p, nil
}

// stop requests Postgres's immediate shutdown, which doesn't wait for
// connections, and kills the server after the timeout.
func (p *process) stop(timeout time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGQUIT) // fails only if it has ended
	select {
	case <-p.exited:
	case <-time.After(timeout):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// kill ends the server and its children without warning, and returns when they
// have ended.
func (p *process) kill() {
	if !killTree(p.cmd.Process.Pid) {
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // fails only if it has ended
	}
	<-p.exited
}
